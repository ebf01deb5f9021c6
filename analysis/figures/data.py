"""The records of a study, reduced to what its figures show."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations as subsets

import pandas as pd
from matplotlib.figure import Figure

from analysis.claims.pairing import Refused, pair, rest_of
from analysis.figures import series
from analysis.figures.style import COLORS, LineStyle, line_styles
from analysis.quantities.by_class import furthest_arms
from analysis.quantities.outcomes import outcomes
from analysis.quantities.recorded import table_quantities
from analysis.quantities.registry import REGISTRY, Quantity, of_kind, primary_quantity, selected
from analysis.records.arms import canonical, fits, is_under, varying
from analysis.records.study import Study

STEPS = ("loss", "grad_norm", "grad_norm_clipped", "delta_g", "mlp_grad_norm", "classifier_grad_norm")

CAPPED_LOSS = "capped_test_loss"
"""The loss of a figure over learning rates: test losses of runs that do not learn have no upper limit."""

EXACT = 600
"""Most points of a learning-rate curve: a mean over many steps would round its corners."""

MANY = 12
"""Most arms that a figure shows in panels of their own, whichever factors they differ in."""

PANELS, ROWS = 24, 36
"""Most arms that a figure shows in panels of their own, and most as rows or lines: more cost minutes and gigabytes."""

GROUPS = len(COLORS)
"""Most combinations of techniques with colours of their own."""

Contents = tuple[str, pd.DataFrame, Figure]
"""Caption in plain words, numbers shown, figure."""


class NotDrawable(ValueError):
    """The runs lack something that a figure needs; the message names it."""


@dataclass(frozen=True, eq=False)
class Records:
    """Frames of the runs that count, each read on first use. Raises NotDrawable if no run counts."""

    study: Study
    shown: str = ""  # for captions: which of the study's arms these are; "" for all

    def __post_init__(self) -> None:
        if len(self.study.runs) == 0:
            raise NotDrawable(f"no finished run in {self.study.folder}")

    def quantity(self, name: str) -> Quantity:
        """A quantity with the units of the study's kind of task."""
        return of_kind(REGISTRY[name], self.study.kind)

    def selected(self, flag: str) -> list[Quantity]:
        """The quantities with a flag (`analysis.quantities.registry.selected`), in the same units."""
        if self.study.table is not None:
            return table_quantities(self.study.table) if flag == "in_figures" else []
        return [of_kind(quantity, self.study.kind) for quantity in selected(flag, self.study.primary)]

    @cached_property
    def arms(self) -> list[str]:
        """The arms that have runs that count."""
        present = set(self.study.runs["arm"])
        return [arm for arm in self.study.arms if arm in present]

    @cached_property
    def line_styles(self) -> dict[str, LineStyle]:
        """Line style of each arm; it does not depend on which arms have runs that count."""
        of_all = line_styles(self.study.arms)
        return {arm: of_all[arm] for arm in self.arms}

    @cached_property
    def references(self) -> dict[str, str]:
        """Arm -> the arm that a figure draws in grey behind it; arms that are references themselves have none.

        It agrees with the arm in all but the techniques after freezing, which are as in the study's first arm: the
        reference of a frozen arm is frozen. Without such an arm, or with no other arm in its group, it is the first.
        """
        first = self.arms[0]
        free = [factor for factor in self.study.techniques if factor != "freeze"]
        own = {key: value for key, value in self.study.arms[first].items() if is_under(key, free)}
        found = {}
        for group in self.alike_but_for(free):
            same = [arm for arm in group if fits(self.study.arms[arm], own)]
            reference = same[0] if same and len(group) > 1 else first
            found |= {arm: reference for arm in group if arm != reference}
        return found

    @cached_property
    def combinations(self) -> tuple[dict[str, str], dict[str, LineStyle]]:
        """Arm -> its combination of techniques, and a line style per combination: colours that mean something.

        With more combinations than colours, those of fewer techniques (`_coloured_by`).
        """
        keys = self._coloured_by
        groups = {arm: "-".join(self.study.arms[arm][key] for key in keys) for arm in self.arms}
        return groups, line_styles(groups.values())

    @cached_property
    def _coloured_by(self) -> tuple[str, ...]:
        """The techniques that vary; or, with more than GROUPS combinations, as many of them as give at most that."""
        arms = [self.study.arms[arm] for arm in self.arms]
        vary = [key for key in self.study.techniques if len({arm[key] for arm in arms}) > 1]
        for size in range(len(vary), 0, -1):
            counts = {keys: len({tuple(arm[key] for key in keys) for arm in arms}) for keys in subsets(vary, size)}
            few = {keys: count for keys, count in counts.items() if count <= GROUPS}
            if few:
                return max(few, key=lambda keys: few[keys])
        return tuple(self.study.techniques[:1])

    @property
    def combinations_in_words(self) -> str:
        """The sentence of a caption that explains the colours."""
        return f"Colours and marks: {' and '.join(self._coloured_by)}. "

    @cached_property
    def of_techniques(self) -> "Records":
        """All arms; or, if there are more than MANY and most differ only in the techniques, those."""
        largest = max(self.alike_but_for(self.study.techniques), key=len)
        if len(self.arms) <= MANY or not len(self.arms) / 2 < len(largest) < len(self.arms):
            return self
        return self.only(largest, f"the {len(largest)} that differ only in {', '.join(self.study.techniques)}")

    @cached_property
    def in_panels(self) -> "Records":
        """Those `of_techniques`, at most PANELS arms."""
        return self.of_techniques.most_different(PANELS)

    @cached_property
    def in_rows(self) -> "Records":
        """At most ROWS arms."""
        return self.most_different(ROWS)

    def most_different(self, most: int) -> "Records":
        """All arms; or, if there are more than `most`, the first and those furthest from its mean primary metric.

        A diverged run has the value of a guess; arms without a value come last.
        """
        if len(self.arms) <= most:
            return self
        words = primary_quantity(self.study.primary).words
        which = f"the first arm and the {most - 1} whose mean {words} differs most from it"
        return self.only(furthest_arms(self.study, self.arms, most), which)

    def alike_but_for(self, keys: Collection[str]) -> list[list[str]]:
        """Groups of arms that differ only in these keys and the settings below them."""
        groups: dict[str, list[str]] = {}
        for name in self.arms:
            groups.setdefault(canonical(rest_of(self.study.arms[name], keys)), []).append(name)
        return list(groups.values())

    def only(self, arms: Sequence[str], which: str) -> "Records":
        """The records of some arms; `which` describes them for a caption."""
        runs = self.study.runs[self.study.runs["arm"].isin(arms)]
        study = replace(self.study, runs=runs, arms={name: self.study.arms[name] for name in arms})
        of = f"these {len(self.arms)}" if self.shown else f"{len(self.arms)} arms in all"
        return Records(study, f"{self.shown}Shows {which}, of {of}. ")

    @cached_property
    def diverged(self) -> pd.DataFrame:
        return self.study.runs[self.study.runs["status"] == "diverged"]

    @cached_property
    def scored(self) -> pd.DataFrame:
        """run, arm, seed, learned (bool) and the quantities that figures show; diverged runs are scored at chance.

        Shares on the points scale are in per cent. A run of which nobody knows whether it learned counts as one that
        did.
        """
        flagged = [*self.selected("in_figures"), *self.selected("has_interaction")]
        shown = [*{q.name: q for q in (*flagged, REGISTRY[CAPPED_LOSS])}.values()]
        values = outcomes(self.study, [quantity.name for quantity in shown]).values
        learned = values["learned"] != 0
        values = values[[q.name for q in shown]] * [100 if q.scale == "points" else 1 for q in shown]
        return self.study.runs[["run", "arm", "seed"]].merge(values.assign(learned=learned), on="run")

    @cached_property
    def done(self) -> pd.DataFrame:
        """`scored`, the finished runs only."""
        return self.scored[self.scored["run"].isin(self._runs_done)]

    @cached_property
    def unlearned(self) -> pd.DataFrame:
        """run, arm, seed of the finished runs that did not learn."""
        return self.done.loc[~self.done["learned"], ["run", "arm", "seed"]]

    @cached_property
    def failures(self) -> dict[str, str]:
        """Arm -> how many of its runs failed, in words, for arms of which any did.

        Diverged runs, also those without a single step, and finished ones that did not learn: "1 of 5 diverged, 2 did
        not learn".
        """
        runs = self.study.runs["arm"].value_counts()
        kinds = {"diverged": self.diverged, "did not learn": self.unlearned}
        found: dict[str, str] = {}
        for arm in self.arms:
            counts = {kind: int((frame["arm"] == arm).sum()) for kind, frame in kinds.items()}
            parts = [f"{number} {kind}" for kind, number in counts.items() if number]
            if parts:
                found[arm] = ", ".join(parts).replace(" ", f" of {runs[arm]} ", 1)
        return found

    @property
    def _runs_done(self) -> list[str]:
        return list(self.study.runs["run"][self.study.runs["status"] == "done"])

    @cached_property
    def planned(self) -> int:
        """Most steps that any run was planned to have."""
        return int(self.study.runs["trainer.steps"].max())

    @property
    def width(self) -> int:
        """Number of steps averaged into one point of `steps`."""
        return series.span_width(self.planned)

    @property
    def rate_width(self) -> int:
        """Number of steps averaged into one point of `rates`."""
        return series.span_width(self.planned, EXACT)

    @cached_property
    def _of_steps(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Steps, Δg shares and learning rates, read run by run to bound the memory."""
        points, shares, rates = [], [], []
        for run, status in zip(self.study.runs["run"], self.study.runs["status"], strict=True):
            steps = self.study.steps([*STEPS, "lr"], [run])
            points.append(series.spans(steps, STEPS, self.width).assign(run=run))
            rates.append(series.spans(steps, ["lr"], self.rate_width).assign(run=run))
            share = series.delta_g_shares(steps).assign(run=run)
            shares.append(share if status == "done" else share[:0])
        return self._with_arm(points), self._with_arm(shares), self._with_arm(rates)

    @property
    def steps(self) -> pd.DataFrame:
        """run, arm, step, and the means of the columns STEPS over `width` steps."""
        return self._of_steps[0]

    @property
    def shares(self) -> pd.DataFrame:
        """run, arm, bin, share (in per cent), of the finished runs that clipped at least once."""
        return self._of_steps[1].assign(share=lambda frame: 100 * frame["share"])

    @property
    def rates(self) -> pd.DataFrame:
        """run, arm, step, lr of the longest run of each arm: the schedule does not depend on the seed."""
        rates = self._of_steps[2]
        size = rates.groupby(["arm", "run"], sort=False).size()
        longest = size.groupby("arm", sort=False).idxmax().map(lambda arm_and_run: arm_and_run[1])
        return rates[rates["run"].isin(list(longest))]

    @cached_property
    def _of_probe(self) -> tuple[pd.DataFrame, int]:
        evals = self.study.evals(["split", "loss", "accuracy"])
        probe = evals[evals["split"] == "probe"].assign(accuracy=lambda frame: 100 * frame["accuracy"])
        runs = list(probe.groupby("run", sort=False, observed=True))
        width = series.span_width(max((len(part) for _, part in runs), default=1))
        means = [series.spans(part, ["loss", "accuracy"], width).assign(run=run) for run, part in runs]
        return self._with_arm(means or [probe]), width

    @property
    def probe(self) -> pd.DataFrame:
        """run, arm, step, loss, accuracy (in per cent) of the probe, means over `probe_width` evaluations."""
        return self._of_probe[0]

    @cached_property
    def scores(self) -> tuple[pd.DataFrame, int]:
        """run, arm, step, score: the primary metric on the probe; and the number of evaluations averaged into a point.

        Shares on the points scale are in per cent.
        """
        name = self.study.primary
        factor = 100 if primary_quantity(name).scale == "points" else 1
        found = self.study.scores()
        on_probe = found[(found["split"] == "probe") & (found["name"] == name)]
        on_probe = on_probe.assign(score=factor * on_probe["value"].astype(float))
        runs = list(on_probe.groupby("run", sort=False, observed=True))
        width = series.span_width(max((len(part) for _, part in runs), default=1))
        means = [series.spans(part, ["score"], width).assign(run=run) for run, part in runs]
        return self._with_arm(means or [on_probe]), width

    @property
    def probe_width(self) -> int:
        """Number of evaluations averaged into one point of `probe`."""
        return self._of_probe[1]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Study.layers of the finished runs, with `arm`; all runs of an arm then have the same steps."""
        return self._with_arm([self.study.layers(series.SPANS, self._runs_done)])

    @property
    def layer_width(self) -> int:
        """Number of steps averaged into one point of `layers`."""
        return math.ceil(self.planned / series.SPANS)

    @cached_property
    def pairs(self) -> tuple[pd.DataFrame, list[str]]:
        """Runs of each other arm paired with the first arm's run of the same seed, and why other runs do not pair.

        Columns: treatment, control (arms), seed, treatment_run, control_run.
        """
        control, *others = self.arms
        rows, reasons = [], []
        for arm in others:
            may_differ = varying([self.study.arms[arm], self.study.arms[control]])
            try:
                found = pair(self.study, (arm, control), may_differ)
            except Refused as refusal:
                reasons.append(f"{arm}: {refusal}")
                continue
            rows += [(arm, control, seed, *runs) for seed, runs in zip(found.seeds, found.runs, strict=True)]
            reasons += [f"{arm}: seed {seed} is not paired" for seed in found.unpaired]
        columns = ["treatment", "control", "seed", "treatment_run", "control_run"]
        return pd.DataFrame(rows, columns=columns), reasons

    def _with_arm(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The frames of all runs in one. Empty frames are left out because their columns have no types."""
        whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        return whole.assign(arm=whole["run"].astype(str).map(self.study.runs.set_index("run")["arm"]))
