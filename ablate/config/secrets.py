"""Keeps tokens and passwords out of files: Hydra, its launchers and we ourselves all write the config to files."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from antlr4 import ParserRuleContext
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

SECRET = re.compile(
    r"(^|[_.-])(token|secret|password|passwd|pwd|passphrase|credentials?|pat"
    r"|(api|access|private|secret|auth|account|signing)_?key)($|[_.-])",
    re.IGNORECASE,
)
"""Names of settings that hold secrets."""

SECRET_VARIABLE = re.compile(
    r"TOKENS?($|_)|SECRETS?($|_)|PASSW|(^|_)(KEYS?|PASS|AUTH)$|_PWD$|(?<!COM)PAT$", re.IGNORECASE
)
"""Further names of environment variables that hold secrets, e.g. OPENAI_KEY and GHPAT; PWD is a folder."""

SOME_KEY = re.compile(r"_key$", re.IGNORECASE)
LOOKS_RANDOM = re.compile(r"(?=.*\d)[^\s/]{16,}")
"""A setting called openai_key holds a secret if its value looks random; one called text_key names a column."""

KNOWN_TOKEN = re.compile(
    r"\b(hf_\w{20,}|sk-[\w-]{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16}|xox[a-z]-[\w-]{10,})"
)
PASSWORD_IN_URL = re.compile(r"://[^/\s@]*:[^/\s]*@")
ASSIGNED = re.compile(r"""([\w.-]+)["']?\s*[=:]\s*["']?[^\s"',;&}]""")
"""A name that a text gives a value: in a URL's query, in a shell command, in JSON."""

SHORTEST = 8  # characters of a variable's value that we look for


def check_secrets(config: DictConfig) -> None:
    """Refuse a config that holds a token or a password, or reads one from the environment; `hydra` included.

    Raises ValueError with the key and the environment variable to use instead, and never with the value.
    """
    known = {value: name for name, value in os.environ.items() if is_secret_variable(name) and is_long(value)}
    for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
        if value in (None, "", "???"):
            continue
        text = str(value)
        if key.startswith("hydra.overrides."):  # swept values are listed here only
            key, text = text.partition("=")[0].lstrip("+~"), text.partition("=")[2]
        variables = [text] if key == "hydra.job.env_copy" else environment_variables(text)
        named = [*(name for name in variables if is_secret_variable(name)), *secrets_in(key, text)]
        if named or (named := [name for secret, name in known.items() if secret in text]):
            raise secret_refusal(key, named[0])
    for key, text in resolved_texts(config):
        if named := [name for secret, name in known.items() if secret in text]:
            raise secret_refusal(key, named[0])


def secret_refusal(key: str, name: str) -> ValueError:
    variable = re.sub(r"\W", "_", name.rpartition(".")[2]).upper()
    return ValueError(
        f"{key} must not hold or name a token or password: the config is written to files. Set an environment variable "
        f"that the program reads itself: export {variable}=..."
    )


def secrets_in(key: str, text: str) -> list[str]:
    """Names of the secrets that a setting with this dotted key and text holds."""
    holds = SOME_KEY.search(key) and LOOKS_RANDOM.fullmatch(text)
    if is_secret_name(key) or holds or KNOWN_TOKEN.search(text) or PASSWORD_IN_URL.search(text):
        return [key]
    return [name for name in ASSIGNED.findall(text) if is_secret_name(name)]


def is_secret_name(name: str) -> bool:
    """Whether a setting's name says that it holds a secret; in capitals it is judged as an environment variable.

    >>> [is_secret_name(name) for name in ("tracker.accessToken", "env.OPENAI_KEY", "text_key", "tokenizer")]
    [True, True, False, False]
    """
    last = name.rpartition(".")[2]
    return bool(SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))) or (
        last.isupper() and is_secret_variable(last)
    )


def is_secret_variable(name: str) -> bool:
    """
    >>> [is_secret_variable(name) for name in ("HF_TOKEN", "OPENAI_KEY", "GITHUB_PAT", "TOKENIZERS_PARALLELISM", "PWD")]
    [True, True, True, False, False]
    """
    return name != "PWD" and bool(SECRET.search(name) or SECRET_VARIABLE.search(name))


def is_long(value: str) -> bool:
    """Whether the value of a secret variable is worth looking for; many such variables hold the path of a file."""
    return len(value) >= SHORTEST and not os.path.exists(value)


def environment_variables(text: str) -> list[str]:
    """The environment variables that a text interpolates, however it is written; "TOKEN" where a name is computed.

    >>> environment_variables('${oc.env:"HOME"}/${ oc.env : USER , nobody}'), environment_variables("${oc.env:${x}}")
    (['HOME', 'USER'], ['TOKEN'])
    """
    found = []
    for resolver, argument in resolvers(text):
        if "$" in resolver or (resolver.endswith("env") and not re.fullmatch(r"\w+", argument)):
            found.append("TOKEN")
        elif resolver.endswith("env"):
            found.append(argument)
    return found


def resolvers(text: str) -> Iterator[tuple[str, str]]:
    """The resolvers that a text calls, with their first arguments unquoted: ("oc.env", "HOME").

    Escaped interpolations count, as another resolver (oc.decode) may read them.
    """
    for version in {text, re.sub(r"\\+\$", "$", text)}:
        if "${" in version:
            try:
                yield from called(parse(version))
            except OmegaConfBaseException:  # Hydra reports it, unless it is only text
                continue


def called(tree: Any) -> Iterator[tuple[str, str]]:
    if isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext):
        arguments = tree.sequence()
        first = arguments.getChild(0).getText() if arguments else ""
        yield tree.resolverName().getText(), first.strip().strip("\"'").strip()
    if isinstance(tree, ParserRuleContext):
        for child in tree.getChildren():
            yield from called(child)


def resolved_texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The resolved values, with their dotted keys, of the settings that call one of OmegaConf's resolvers."""
    for key in node if isinstance(node, DictConfig) else range(len(node)):
        name, child = f"{path}.{key}".lstrip("."), node._get_node(key)
        if child._is_interpolation():
            if "oc." in str(child._value()) or "${${" in str(child._value()):
                try:
                    yield name, str(node[key])
                except OmegaConfBaseException:  # reported where it is used
                    continue
        elif isinstance(child, (DictConfig, ListConfig)) and not (child._is_none() or child._is_missing()):
            yield from resolved_texts(child, name)


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, object]]:
    """All values of a tree with their dotted keys; each item of a list has the key of the list.

    >>> list(leaves({"job": {"name": "ablate", "env_copy": ["HOME", "USER"]}}))
    [('job.name', 'ablate'), ('job.env_copy', 'HOME'), ('job.env_copy', 'USER')]
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from leaves(item, path)
    else:
        yield path, tree
