"""Pages of the documentation that are written when it is built: a hook of mkdocs, named in mkdocs.yml.

The reference of settings comes from conf/, that of quantities, claims files and records from the tables that define
them, and the command line from --help. Notebooks become pages, with the outputs that they were saved with.
"""

import itertools
import re
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

import ablate
from ablate import gallery
from ablate.schema import PREDICTIONS, TABLES
from analysis.claims.reading import CLAIM_KEYS, CONTRAST_KEYS, FILE_KEYS, QUESTION_KEYS
from analysis.claims.schema import DESCRIPTIONS
from analysis.quantities import formulas
from analysis.quantities.registry import QUANTITIES

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = (
    "freeze", "clip", "scheduler", "optimizer", "adapter", "init", "regularizer", "average", "model", "data", "task",
    "trainer", "tracker", "hydra/launcher", "experiment",
)  # fmt: skip
STYLE = """
.md-grid { max-width: 80rem; }
.md-typeset pre > code { font-size: 0.62rem; }
.md-typeset table:not([class]) code { white-space: nowrap; }
.md-typeset table:not([class]) { font-size: 0.7rem; }
"""
"""Room for the commands' tables, and names of keys in one piece."""

REPORTS = CONF.parent / "outputs/reference"
PUBLISHED = {
    "paper_report.html": REPORTS / "paper/report/index.html",
    "paper_hero.png": REPORTS / "paper/report/figures/hero.png",
    "known_report.html": REPORTS / "known/report/index.html",
    "known_forest.png": REPORTS / "known/report/figures/forest.png",
}
HELP = {
    "python -m ablate": ["ablate", "--help"],
    "python -m ablate doctor": ["ablate", "doctor", "--help"],
    "python -m analysis": ["analysis", "--help"],
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and a page in place of each notebook."""
    pictures = {file.src_uri for file in files if file.src_uri.startswith("reference/gallery/")}
    pages = {
        "config": config_page(),
        "command_line": command_line_page(),
        "claims_file": claims_page(),
        "quantities": quantities_page(),
        "records": records_page(),
        "python": python_page(),
        "gallery": gallery_page({Path(picture).stem for picture in pictures}),
    }
    for name, lines in pages.items():
        add(files, config, f"reference/{name}.md", "\n".join(lines) + "\n")
    add(files, config, "style.css", STYLE)
    for name, path in PUBLISHED.items():
        add(files, config, f"explanation/{name}", path.read_bytes())
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        add_notebook(files, config, notebook)
    return files


def add(files: Files, config: MkDocsConfig, path: str, content: str | bytes) -> None:
    """Add a file, in place of one of the same name."""
    if there := files.get_file_from_path(path):
        files.remove(there)
    files.append(File.generated(config, path, content=content))


def add_notebook(files: Files, config: MkDocsConfig, notebook: File) -> None:
    """Add a notebook as the page <name>_notebook.md, and the pictures in its outputs; the notebook itself stays."""
    name = Path(notebook.src_uri).with_suffix("")
    resources = {"output_files_dir": f"{name.name}_files", "unique_key": name.name}
    text, made = MarkdownExporter().from_filename(notebook.abs_src_path, resources=resources)
    add(files, config, f"{name}_notebook.md", text)
    for picture, content in made["outputs"].items():
        add(files, config, (name.parent / picture).as_posix(), content)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table in Markdown, with an empty line after it."""
    cells = [*headings]
    yield from (f"| {' | '.join(cells)} |", "|" + "---|" * len(cells))
    for row in rows:
        yield f"| {' | '.join(map(in_cell, row))} |"
    yield ""


def in_cell(text: str) -> str:
    """Text for a cell of a table, outside backticks without tags and emphasis.

    >>> print(in_cell("`a|b_c` in outputs/<study>, a_b * c"))
    `a\\|b_c` in outputs/\\<study>, a\\_b \\* c
    """
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else re.sub(r"([<_*])", r"\\\1", part) for i, part in enumerate(parts))


def fenced(text: str, language: str) -> Iterator[str]:
    yield from (f"```{language}", text.rstrip(), "```", "")


# --- Settings ---


def config_page() -> Iterator[str]:
    """All files of conf/ by group, as they are: each key is explained on its line."""
    yield from ("# Settings", "")
    yield "Choose an option with `group=option`, and set a key with `group.key=value`. With `-m`, values with commas"
    yield "between them are swept. `python -m ablate --cfg job --resolve` prints the settings of a command."
    yield from ("", "## Every study", "")
    rows = settings((CONF / "config.yaml").read_text())
    yield from table(("key", "default", "meaning"), (row for row in rows if not row[0].startswith("`hydra")))
    yield "Defaults of the groups: `python -m ablate --help` lists them."
    yield ""
    for group in GROUPS:
        options = {path.stem: path.read_text() for path in sorted((CONF / group).glob("*.yaml"))}
        yield from (f"## {group}", "")
        yield from table(("option", "what it is"), ((f"`{name}`", summary(text)) for name, text in options.items()))
        for name, text in options.items():
            if group == "experiment":
                yield from (f"### {group}={name}", "")
                yield from fenced(text, "yaml")
            elif rows := settings(text):
                yield from (f"### {group}={name}", "")
                yield from table(("key", "default", "meaning"), rows)


def summary(text: str) -> str:
    """The first comment of an option's file, without the commands in it."""
    lines = []
    for line in itertools.dropwhile(lambda line: "@package" in line, text.splitlines()):
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(line for line in lines if not line.startswith(" ")).rstrip(":")


def settings(text: str) -> list[tuple[str, str, str]]:
    """The keys of an option's file, each with its value and the comment on its line.

    >>> settings("_target_: a.B\\nrule:\\n  start: 100   # first step\\n               # that is clipped\\n")
    [('`rule.start`', '`100`', 'first step that is clipped')]
    """
    found: list[tuple[str, str, str]] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if again := re.fullmatch(r"\s+# (.*)", line):
            key, value, meaning = found.pop()
            found.append((key, value, f"{meaning} {again[1]}"))
        elif parts := re.fullmatch(r"( *)([\w/@]+): *((?!#).*?)(?: +# (.*))?", line):
            indent, key, value, meaning = parts.groups()
            parents = [parent for parent in parents if parent[0] < len(indent)]
            path = ".".join([*(name for _, name in parents), key])
            if value or meaning:
                found.append((f"`{path}`", f"`{value}`" if value else "", meaning or ""))
            parents.append((len(indent), key))
    return [row for row in found if row[0] != "`_target_`"]


# --- Commands ---


def command_line_page() -> Iterator[str]:
    """What each command prints with --help."""
    yield from ("# Command line", "")
    yield "Both commands also exist as modules of the installed package, so they work in any folder."
    yield from ("", "| exit code | meaning |", "|---|---|")
    yield "| 0 | all runs are done, or the report is written |"
    yield "| 1 | a run failed; the others are done |"
    yield "| 2 | the input is wrong, and nothing was run; the message names the key, file or row and what is allowed |"
    yield "| 75, 130 | stopped by SIGTERM or Ctrl-C; the same command continues |"
    yield ""
    for name, words in HELP.items():
        yield from (f"## {name}", "")
        command = [sys.executable, "-m", *words]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONF.parent)
        yield from fenced(printed.stdout, "text")


# --- Claims, quantities, records ---


def claims_page() -> Iterator[str]:
    """The keys of a claims file, the contrasts, and the comments of conf/claims/paper.yaml."""
    yield from ("# Claims files", "")
    yield "A claims file is `conf/claims/<name>.yaml`, chosen with `claims=<name>`. [How to write"
    yield "claims](../how_to/write_claims.md) shows one. An editor that knows YAML schemas completes the keys below if"
    yield "the file begins with `# yaml-language-server: $schema=schema.json`."
    yield ""
    of_claims = sorted({*CLAIM_KEYS, *QUESTION_KEYS, *CONTRAST_KEYS} - {*FILE_KEYS})
    for title, keys in {"Keys of the file": FILE_KEYS, "Keys of a claim": of_claims}.items():
        yield from (f"## {title}", "")
        yield from table(("key", "meaning"), ((f"`{key}`", DESCRIPTIONS[key]) for key in keys))
    yield from ("## In the words of the published study", "")
    yield "The comments of `conf/claims/paper.yaml` explain scales and contrasts:"
    yield ""
    yield from fenced((CONF / "claims/paper.yaml").read_text().partition("\narms:")[0], "yaml")


def quantities_page() -> Iterator[str]:
    """The registry of quantities, and the docstrings of their formulas."""
    yield from ("# Quantities", "")
    yield "A run is reduced to one number per quantity. Claims name a quantity in `quantity:`; differences between arms"
    yield "are on its usual scale unless the claim says otherwise. [Metrics](metrics.md) explains those of predictions."
    yield ""
    better = {True: "higher", False: "lower", None: ""}
    rows = ((f"`{each.name}`", each.words, each.unit, each.scale, better[each.higher_is_better]) for each in QUANTITIES)
    yield from table(("quantity", "in words", "unit", "scale of differences", "better"), rows)
    yield from ("## Formulas", "")
    known = [each.name for each in QUANTITIES if hasattr(formulas, each.name)]
    yield from members_of("analysis.quantities.formulas", known)


def records_page() -> Iterator[str]:
    """The files of a run and the columns of its tables."""
    yield from ("# Records of a run", "")
    yield "A run's folder is `outputs/<study>/<what differs from the defaults>-s<seed>-<id>/`."
    yield from ("", "| file | content |", "|---|---|")
    for file, content in FILES.items():
        yield f"| {file} | {content} |"
    yield from ("", "Any library that reads Parquet reads the tables:", "", "```python", "import pandas as pd", "")
    yield from ('steps = pd.read_parquet("outputs/default/default-s0-.../steps.parquet")', "```", "")
    for name, columns in TABLES.items():
        yield from (f"## {name}.parquet", "")
        kinds = PREDICTIONS if name == "predictions" else {"": columns}
        for kind, found in kinds.items():
            if kind:
                yield from (f"`task={kind}`:", "")
            yield from table(("column", "type"), ((f"`{key}`", words_of(type_)) for key, type_ in found.items()))
    yield from ("## What the columns mean", "")
    yield from members_of("ablate.schema", ["Step", "TABLES", "PREDICTIONS", "WHERE_KNOWN", "ADDED_TABLES", "BLOCKS"])


def members_of(module: str, names: Iterable[str]) -> Iterator[str]:
    """The docstrings of some names of a module, for mkdocstrings."""
    yield from (f"::: {module}", "    options:", "      show_root_heading: false", "      show_root_toc_entry: false")
    yield from (f"      members: [{', '.join(names)}]", "      show_signature: false", "")


FILES = {
    "`run.json`": "status, factors and settings, seed, parameters by block, pairing hashes, metrics, environment, and "
    "hashes of the other files",
    "`steps.parquet`": "loss, accuracy, learning rate, ‖g‖ before and after clipping, Δg, the same for one MLP weight "
    "and the classifier, examples, tokens and seconds of each step",
    "`layers.parquet`": "gradient norms by layer and block",
    "`evals.parquet`": "loss and accuracy on a fixed probe batch (dropout off), on validation and on test",
    "`predictions.parquet`": "the prediction for each test example, with its probability; for each word or block of "
    "text in the tasks that have them",
    "`probabilities.parquet`": "probabilities of all classes, where there are more than two",
    "`measures.parquet`": "what each technique did: trained share, learning rate per parameter group, share of tensors "
    "clipped, cos(g, g'), loss added by a regularizer, norm of the update by block",
    "`scores.parquet`": "the primary metric at each evaluation, where it is not the accuracy",
    "`config.yaml`, `run.log`": "the resolved settings; what is trained and frozen, block by block, and all warnings",
}


def words_of(kind: object) -> str:
    """A column's type in words.

    >>> words_of(float | None), words_of("float32")
    ('float or null', 'float32')
    """
    parts = typing.get_args(kind) or (kind,)
    return " or ".join("null" if part is type(None) else getattr(part, "__name__", str(part)) for part in parts)


# --- Python, gallery ---


def python_page() -> Iterator[str]:
    """The public names of `ablate`, and the functions that read a study."""
    yield from ("# Python", "")
    yield "Public names of `ablate`, and the functions that read and judge a study."
    yield ""
    defined = {f"ablate.{name}": f"{ablate.LAZY[name]}.{name}" for name in ablate.__all__ if name in ablate.LAZY}
    others = ("analysis.records.study.load", "analysis.records.study.Study", "ablate.metrics.Predicted")
    for name, place in (defined | dict(zip(others, others, strict=True))).items():
        yield from (f"## {name}", "", f"::: {place}", "    options:", "      show_root_heading: false")
        yield from ("      show_root_toc_entry: false", "")


def gallery_page(pictures: set[str]) -> Iterator[str]:
    """The gallery's text, with the pictures that `python -m ablate.gallery docs/reference` has drawn."""
    title, *lines = gallery.page(gallery.options())
    yield from (title, "")
    if not pictures:
        yield from ("The command `python -m ablate.gallery docs/reference` draws this page's pictures.", "")
    yield from (line for line in lines if not line.startswith("![") or Path(line.rpartition("/")[2]).stem in pictures)
