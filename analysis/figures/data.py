"""A study's records, reduced as far as its figures need them."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from analysis.claims.pairing import Refused, pair, rest_of
from analysis.figures import series
from analysis.figures.style import LineStyle, line_styles
from analysis.quantities.measure import measure
from analysis.records.arms import TECHNIQUES, canonical, varying
from analysis.records.study import Study

STEPS = ("loss", "grad_norm", "grad_norm_clipped", "delta_g", "mlp_grad_norm", "classifier_grad_norm")
PER_RUN = ("mean_probe_loss", "probe_jitter")

EXACT = 600
"""Most points of a learning-rate curve, which has corners that a mean over many steps would round."""

MANY = 12
"""Most arms of any kind that have a panel each."""

Contents = tuple[str, pd.DataFrame, Figure]
"""A figure's caption in plain words, the numbers that it shows, and itself."""


class NotDrawable(ValueError):
    """The runs lack what a figure needs; the message names it."""


@dataclass(frozen=True, eq=False)
class Records:
    """Frames of the runs that count; read when they are first asked for. Raises NotDrawable without such runs."""

    study: Study
    shown: str = ""  # which of the study's arms these are, for a caption; "" for all

    def __post_init__(self) -> None:
        if len(self.study.runs) == 0:
            raise NotDrawable(f"no finished run in {self.study.folder}")

    @cached_property
    def arms(self) -> list[str]:
        """Those with runs that count."""
        present = set(self.study.runs["arm"])
        return [arm for arm in self.study.arms if arm in present]

    @cached_property
    def line_styles(self) -> dict[str, LineStyle]:
        """Of `arms`, each the same whichever of the study's arms have runs that count."""
        of_all = line_styles(self.study.arms)
        return {arm: of_all[arm] for arm in self.arms}

    @cached_property
    def of_techniques(self) -> "Records":
        """Itself; where most of more than MANY arms differ in nothing but the techniques, these."""
        largest = max(self.alike_but_for(TECHNIQUES), key=len)
        if len(self.arms) <= MANY or not len(self.arms) / 2 < len(largest) < len(self.arms):
            return self
        return self.only(largest, f"the {len(largest)} that differ in {', '.join(TECHNIQUES)} alone")

    def alike_but_for(self, keys: Collection[str]) -> list[list[str]]:
        """The arms in groups that differ in nothing but these keys and the settings below them."""
        groups: dict[str, list[str]] = {}
        for name in self.arms:
            groups.setdefault(canonical(rest_of(self.study.arms[name], keys)), []).append(name)
        return list(groups.values())

    def only(self, arms: Sequence[str], which: str) -> "Records":
        """Those of some arms; `which` says in words which."""
        runs = self.study.runs[self.study.runs["arm"].isin(arms)]
        study = replace(self.study, runs=runs, arms={name: self.study.arms[name] for name in arms})
        return Records(study, f"Of {len(self.arms)} arms {which}. ")

    @cached_property
    def diverged(self) -> pd.DataFrame:
        return self.study.runs[self.study.runs["status"] == "diverged"]

    @cached_property
    def done(self) -> pd.DataFrame:
        """Study.runs of the runs that did not diverge, test_accuracy in per cent, with the quantities PER_RUN."""
        runs = self.study.runs.join(measure(self.study, PER_RUN).values, on="run")
        runs = runs.assign(test_accuracy=100 * runs["test_accuracy"].astype(float))
        return runs[runs["run"].isin(self._runs_done)]

    @property
    def _runs_done(self) -> list[str]:
        return list(self.study.runs["run"][self.study.runs["status"] == "done"])

    @cached_property
    def planned(self) -> int:
        """Steps of the longest run, had none diverged."""
        return int(self.study.runs["trainer.steps"].max())

    @property
    def width(self) -> int:
        """Steps whose mean is one point of `steps`."""
        return series.span_width(self.planned)

    @property
    def rate_width(self) -> int:
        """Steps whose mean is one point of `rates`."""
        return series.span_width(self.planned, EXACT)

    @cached_property
    def _of_steps(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Run by run, so that a long study's steps never lie in memory at once."""
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
        """run, arm, step, and the means of STEPS over `width` steps."""
        return self._of_steps[0]

    @property
    def shares(self) -> pd.DataFrame:
        """run, arm, bin, share (in per cent): of runs that did not diverge and did clip."""
        return self._of_steps[1].assign(share=lambda frame: 100 * frame["share"])

    @property
    def rates(self) -> pd.DataFrame:
        """run, arm, step, lr of one run an arm, its longest: the schedule knows no seed."""
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
        """run, arm, step, loss, accuracy (in per cent) of the probe, means over `probe_width` looks at it."""
        return self._of_probe[0]

    @property
    def probe_width(self) -> int:
        return self._of_probe[1]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Study.layers of runs that did not diverge, with `arm`: all runs of an arm have the same steps then."""
        return self._with_arm([self.study.layers(series.SPANS, self._runs_done)])

    @property
    def layer_width(self) -> int:
        """Steps over which the norms of `layers` are means."""
        return math.ceil(self.planned / series.SPANS)

    @cached_property
    def pairs(self) -> tuple[pd.DataFrame, list[str]]:
        """Runs of each other arm with the first arm's of the same seed, and why others do not pair.

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
        """The runs' frames, one below the other. Those without rows take no part: they have no types either."""
        whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        return whole.assign(arm=whole["run"].astype(str).map(self.study.runs.set_index("run")["arm"]))
