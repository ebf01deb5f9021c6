"""Keeps tokens out of files: Hydra, its launchers and we ourselves all write the config to files."""

import re
from collections.abc import Iterator, Mapping

SECRET = re.compile(
    r"(^|[_.-])(token|secret|password|passwd|passphrase|credentials?|(api|access|private)_?key)($|[_.-])", re.IGNORECASE
)
FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*(\w+)")


def check_secrets(config: Mapping[str, object]) -> None:
    """Refuse a config that holds a token or reads one from the environment.

    config: the unresolved config, `hydra` included.

    Raises ValueError with the key and the environment variable to use instead, and never with the value.
    """
    for key, value in leaves(config):
        if value in (None, "", "???"):
            continue
        text = str(value)
        if key.startswith("hydra.overrides."):  # swept values are listed here only
            key, text = text.partition("=")[0].lstrip("+~"), ""
        names = [text] if key == "hydra.job.env_copy" else FROM_ENVIRONMENT.findall(text)
        for name in (key, *names):
            if SECRET.search(name):
                variable = re.sub(r"\W", "_", name.rpartition(".")[2]).upper()
                raise ValueError(
                    f"{key} must not hold or name a token: the config is written to files. Set an environment variable "
                    f"that the program reads itself: export {variable}=..."
                )


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
