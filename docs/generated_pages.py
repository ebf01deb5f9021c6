"""Pages of the documentation that are written when it is built: a hook of mkdocs, named in mkdocs.yml.

The reference of settings comes from conf/, that of quantities, claims files and records from the tables that define
them, and the command line from --help. Notebooks become pages, with the outputs that they were saved with.
"""

import json
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

import ablate
from ablate import gallery
from ablate.schema import PREDICTIONS, TABLES
from analysis.quantities.registry import QUANTITIES

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = (
    "freeze", "clip", "scheduler", "optimizer", "adapter", "init", "regularizer", "average", "model", "data", "task",
    "trainer", "tracker", "hydra/launcher", "experiment",
)  # fmt: skip
PAPER = CONF.parent / "outputs/reference/paper/report"
PUBLISHED = {"paper_report.html": PAPER / "index.html", "paper_hero.png": PAPER / "figures/hero.png"}
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
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def fenced(text: str, language: str) -> Iterator[str]:
    yield from (f"```{language}", text.rstrip(), "```", "")


# --- Settings ---


def config_page() -> Iterator[str]:
    """All files of conf/ by group, as they are: each key is explained on its line."""
    yield from ("# Settings", "")
    yield "Choose an option with `group=option`, and set a key with `group.key=value`. With `-m`, values with commas"
    yield "between them are swept. `python -m ablate --cfg job --resolve` prints the settings of a command."
    yield from ("", "## Every study", "")
    yield from fenced((CONF / "config.yaml").read_text(), "yaml")
    for group in GROUPS:
        options = {path.stem: path.read_text() for path in sorted((CONF / group).glob("*.yaml"))}
        yield from (f"## {group}", "")
        yield from table(("option", "what it is"), ((f"`{name}`", summary(text)) for name, text in options.items()))
        for name, text in options.items():
            if settings(text):
                yield from (f"### {group}={name}", "")
                yield from fenced(text, "yaml")


def summary(text: str) -> str:
    """The first sentence of an option's comment."""
    comment = next(line for line in text.splitlines() if line.startswith("# ") and "@package" not in line)
    return comment.removeprefix("# ").strip()


def settings(text: str) -> list[str]:
    """The lines of an option's file that set something."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "_target_"))]


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
    """The keys of a claims file, from its JSON schema, and the comments of conf/claims/paper.yaml."""
    schema = json.loads((CONF / "claims/schema.json").read_text())
    yield from ("# Claims files", "")
    yield "A claims file is `conf/claims/<name>.yaml`, chosen with `claims=<name>`. [How to write"
    yield "claims](../how_to/write_claims.md) shows one. An editor that knows YAML schemas completes the keys below if"
    yield "the file begins with `# yaml-language-server: $schema=schema.json`."
    yield from ("", "## The file", "")
    yield from keys_of(schema)
    for name, part in schema.get("$defs", {}).items():
        yield from (f"## {name}", "")
        yield from keys_of(part)
    yield from ("## Words", "")
    yield "The comments of `conf/claims/paper.yaml`, the claims of the published study, explain the words:"
    yield ""
    yield from fenced((CONF / "claims/paper.yaml").read_text().partition("\narms:")[0], "yaml")


def keys_of(schema: dict[str, Any]) -> Iterator[str]:
    known = schema.get("properties", {})
    rows = ((f"`{key}`", part.get("description", ""), choices(part)) for key, part in known.items())
    yield from table(("key", "meaning", "values"), rows)


def choices(part: dict[str, Any]) -> str:
    """The values that a schema lists, or the type that it asks for."""
    return ", ".join(map(str, part.get("enum", []))) or str(part.get("type", ""))


def quantities_page() -> Iterator[str]:
    """The registry of quantities, and the docstrings of their formulas."""
    yield from ("# Quantities", "")
    yield "A run is reduced to one number per quantity. Claims name a quantity in `quantity:`; differences between arms"
    yield "are on its usual scale unless the claim says otherwise. [Metrics](metrics.md) explains those of predictions."
    yield ""
    better = {True: "higher", False: "lower", None: ""}
    rows = (
        (f"`{each.name}`", each.words, each.unit, each.scale, better[each.higher_is_better]) for each in QUANTITIES
    )
    yield from table(("quantity", "in words", "unit", "scale of differences", "better"), rows)
    yield from ("## Formulas", "", "::: analysis.quantities.formulas", "    options:")
    yield from ("      show_root_heading: false", "      show_root_toc_entry: false", "")


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
    yield from ("## What the columns mean", "", "::: ablate.schema", "    options:")
    yield from ("      show_root_heading: false", "      show_root_toc_entry: false", "      members: [Step, TABLES,")
    yield from ("        PREDICTIONS, WHERE_KNOWN, ADDED_TABLES, STATUSES, BLOCKS]", "")


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
    names = [f"{ablate.LAZY[name]}.{name}" for name in ablate.__all__ if name in ablate.LAZY]
    for name in (*names, "analysis.records.study.load", "analysis.records.study.Study", "ablate.metrics.Predicted"):
        yield from (f"::: {name}", "")


def gallery_page(pictures: set[str]) -> Iterator[str]:
    """The gallery's text, with the pictures that `python -m ablate.gallery docs/reference` has drawn."""
    drawn = True
    for line in gallery.page(gallery.options()):
        if line.startswith("!["):
            drawn = Path(line.rpartition("/")[2]).stem in pictures
        if drawn or not line.startswith("!["):
            yield line
