"""A page that shows what every technique does: `python -m ablate.gallery [FOLDER] [GROUP/OPTION ...]`.

Each option of each group of techniques trains one short run of the tiny model on made-up data, with every other
technique off. Its row shows the gradient's norm before and after clipping, the learning rate, the share of parameters
that are trained, and the loss, in black; the run with no technique at all is behind it in grey. Below the pictures come
the formula and the source: the docstring of the option's class.

The page is FOLDER/gallery.md (default: the current folder), with one picture for each group in FOLDER/gallery/. The
runs go to outputs/gallery, and a second call trains only what is missing. The documentation's site has the page, with
the pictures that this command has drawn in docs/reference.
"""

import inspect
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ablate.config.build import resolve
from ablate.config.paths import OUTPUTS, conf
from ablate.experiment import FACTORS
from ablate.files.atomic import write_together
from ablate.schema import NONE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.records.study import Study

STUDY, STEPS = "gallery", 120
TECHNIQUE_GROUPS = ("freeze", "adapter", "init", "clip", "scheduler", "optimizer", "regularizer", "average")
PLAIN = ("freeze=none", "clip=none", "scheduler=none", "optimizer=adamw")
RUN_SETTINGS = (
    "model=tiny", "model.layers=4", "data=synthetic", f"trainer.steps={STEPS}", "trainer.probe_every=4",
    "trainer.probe_examples=64", "trainer.track.updates_every=1", "trainer.threads=1", "claims=auto", "report=false",
    f"study={STUDY}", "seed=0",
)  # fmt: skip
EXAMPLES: dict[str, tuple[str, ...]] = {
    "freeze/regex": ("freeze.pattern=attention",),
    "freeze/first_n": ("freeze.n=2",),
    "freeze/last_n": ("freeze.n=1",),
    "freeze/gradual": ("freeze.every=20",),
    "freeze/lp_ft": ("freeze.steps=60",),
    "clip/delayed": ("clip.start=60",),
    "clip/until": ("clip.last=60",),
    "clip/value": ("clip.threshold=0.01",),
    "optimizer/sgd": ("optimizer.lr=0.03",),
    "init/reinit_top": ("init.n=2",),
    "average/swa": ("average.start=60",),
}
"""Settings that an option needs, or with which a short run shows what it does."""


@dataclass(frozen=True)
class Shown:
    """One option, the overrides of its run, and what is written about it."""

    group: str
    option: str

    @property
    def name(self) -> str:
        return f"{self.group}/{self.option}"

    @property
    def overrides(self) -> tuple[str, ...]:
        return (f"{self.group}={self.option}", *EXAMPLES.get(self.name, ()))

    @property
    def file(self) -> Path:
        return Path(conf()) / self.group / f"{self.option}.yaml"

    def summary(self) -> str:
        """The first comment of the option's file."""
        return self.file.read_text().partition("\n")[0].removeprefix("#").strip()

    def description(self) -> str:
        """The docstring of the option's class: what it does, with its formula and source."""
        target = yaml.safe_load(self.file.read_text())["_target_"]
        kind: Any = FACTORS[self.group].protocol
        return inspect.cleandoc(resolve(target, kind, self.group).__doc__ or "")


def options(wanted: Sequence[str] = ()) -> list[Shown]:
    """The options of all groups of techniques, or those that are `wanted`, as group/option. ValueError for another."""
    found = [
        Shown(group, path.stem) for group in TECHNIQUE_GROUPS for path in sorted((Path(conf()) / group).glob("*.yaml"))
    ]
    for name in wanted:
        if name not in [each.name for each in found]:
            raise ValueError(f"{name} must be an option, as group/option (known: {', '.join(e.name for e in found)})")
    return [each for each in found if each.option != NONE and (not wanted or each.name in wanted)]


def train_missing(shown: Sequence[Shown]) -> None:
    """Train the runs that are missing: the plain one first, then one for each option."""
    arms = {"plain": list(PLAIN)}
    for each in shown:
        if f"{each.group}={each.option}" not in PLAIN:
            arms[each.name.replace("/", "_")] = [*plain_but(each.group), *each.overrides]
    listed = ", ".join(f"{name}: [{', '.join(map(in_quotes, arm))}]" for name, arm in arms.items())
    subprocess.run([sys.executable, "-m", "ablate", "-m", f"arms={{{listed}}}", *RUN_SETTINGS], check=True)


def plain_but(group: str) -> list[str]:
    """Every technique off, except that of the group."""
    return [override for override in PLAIN if not override.startswith(f"{group}=")]


def in_quotes(text: str) -> str:
    return f"'{text}'"


def run_of(study: "Study", shown: Shown | None) -> str:
    """The run of an option; None: the run without any technique."""
    techniques = {name: NONE for name in study.techniques}
    if shown and shown.group in techniques:
        techniques[shown.group] = shown.option
    optimizer = shown.option if shown and shown.group == "optimizer" else "adamw"
    runs = study.runs
    for factor, option in (techniques | {"optimizer": optimizer}).items():
        runs = runs[runs[factor] == option]
    return str(runs["run"].iloc[-1])


# --- Pictures ---

CURVES = ("‖g‖, and ‖g'‖ dashed", "learning rate", "share trained", "training loss")


def draw(study: "Study", shown: Sequence[Shown]) -> "Figure":
    """One row for each option of a group: norms, learning rate, trained share, loss; the plain run in grey."""
    from matplotlib.figure import Figure

    from analysis.figures.style import applied, log_axis

    with applied():
        figure = Figure(figsize=(9.0, 1.45 * len(shown) + 0.4), layout="constrained")
        axes = figure.subplots(len(shown), len(CURVES), squeeze=False, sharex=True)
        plain = curves(study, run_of(study, None))
        for row, each in zip(axes, shown, strict=True):
            ours = curves(study, run_of(study, each))
            for ax, column in zip(row, CURVES, strict=True):
                draw_lines(ax, plain[column], "#a0a0a0")
                draw_lines(ax, ours[column], "#000000")
                if column == CURVES[0]:
                    log_axis(ax.yaxis)
                elif column != CURVES[3]:
                    ax.set_ylim(bottom=0)
            row[0].set_ylabel(each.option, rotation=0, ha="right", va="center")
        for ax, title in zip(axes[0], CURVES, strict=True):
            ax.set_title(title)
        for ax in axes[-1]:
            ax.set_xlabel("step")
    return figure


def draw_lines(ax: "Axes", found: "Sequence[pd.Series]", color: str) -> None:
    for series, dashes in zip(found, ("-", "--"), strict=False):
        ax.plot(series.index, series, dashes, color=color, linewidth=1.2)


def curves(study: "Study", run: str) -> "dict[str, list[pd.Series]]":
    """What a run's row shows, by column: one or two series by step, or one for each parameter group."""
    import pandas as pd

    steps = study.steps(["loss", "lr", "grad_norm", "grad_norm_clipped"], [run]).set_index("step")
    measures = study.measures([run])
    rates = measures[measures["name"] == "lr"]
    share = measures[measures["name"] == "trained_share"].set_index("step")["value"]
    groups = [part.set_index("step")["value"] for _, part in rates.groupby("place", observed=True)]
    norms = [steps["grad_norm"], steps["grad_norm_clipped"]]
    shares = [share.reindex(steps.index).ffill()] if len(share) else [pd.Series(1.0, steps.index)]
    loss = steps["loss"].rolling(10, min_periods=1).mean()
    return dict(zip(CURVES, (norms, groups or [steps["lr"]], shares, [loss]), strict=True))


# --- The page ---


def page(shown: Sequence[Shown]) -> Iterator[str]:
    """The lines of gallery.md."""
    yield from ("# Gallery of techniques", "")
    yield "<!-- Written by python -m ablate.gallery; do not edit. -->"
    yield ""
    yield f"Each row is one run of {STEPS} steps of the tiny model on made-up data, with every other technique off"
    yield "(black), and the run without any technique (grey). Such a run shows what an option does to a step, not"
    yield "whether it helps: for that, sweep it over seeds."
    for group, members in by_group(shown).items():
        yield from ("", f"## {group}", "", f"![What each option of {group} does, by step](gallery/{group}.svg)")
        for each in members:
            yield from (
                "",
                f"### `{' '.join(each.overrides)}`",
                "",
                each.summary(),
                "",
                "```text",
                each.description(),
                "```",
            )


def by_group(shown: Sequence[Shown]) -> Mapping[str, list[Shown]]:
    return {group: found for group in TECHNIQUE_GROUPS if (found := [each for each in shown if each.group == group])}


def main(arguments: Sequence[str]) -> None:
    from analysis.figures.export import rendered
    from analysis.records.study import load

    folder, *wanted = arguments or ["."]
    shown = options(wanted)
    train_missing(shown)
    study = load(OUTPUTS / STUDY)
    pictures = {
        f"{group}.svg": rendered(draw(study, members), group)["svg"] for group, members in by_group(shown).items()
    }
    write_together(Path(folder) / "gallery", pictures)
    write_together(Path(folder), {"gallery.md": ("\n".join(page(shown)) + "\n").encode()})
    print(f"{len(shown)} options: {Path(folder) / 'gallery.md'}")


if __name__ == "__main__":
    main(sys.argv[1:])
