"""The ablation table: a reference recipe, and each arm that differs from it in exactly one factor."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablate.config.wording import count, printable
from ablate.schema import NONE, SETUP
from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.evidence import FLIPS
from analysis.claims.example_scores import mean_difference
from analysis.claims.pairing import Refused, nearest_arm, pair
from analysis.quantities.outcomes import Outcomes, outcomes
from analysis.quantities.registry import REGISTRY, Quantity
from analysis.records.arms import Arm, canonical, fits, in_order, is_under, levels, words
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Array, Estimate, holm
from analysis.stats.scales import SCALES
from analysis.tables.formats import Table, latex_text
from analysis.tables.numbers import DASH, as_minus, fixed, interval_columns, mean_and_sd, significant


class AblatedQuantity(NamedTuple):
    """A quantity of the table.

    best     picks the best of several means
    is_cost  whether it counts for all runs, also for those that did not learn
    """

    quantity: Quantity
    best: Callable[[Iterable[float]], float]
    is_cost: bool = False

    @property
    def keeps_unlearned(self) -> bool:
        return self.is_cost or self.quantity.keeps_unlearned


ABLATED = (
    AblatedQuantity(REGISTRY["test_accuracy"], max),
    AblatedQuantity(REGISTRY["validation_accuracy"], max),
    AblatedQuantity(REGISTRY["last_training_loss"], min),
    AblatedQuantity(REGISTRY["step_seconds"], min, is_cost=True),
)

NO_COMPONENTS = ("data", "trainer")
"""Factors that are no part of a recipe: other data and other numbers of steps are other experiments."""

MARKED, UNMARKED, EQUAL_PAIRS = ("lower", "higher"), "no difference shown", "equal in every pair"

_CAPTION = (
    "Reference: {reference}, {why}. Each other row is an arm that differs from it in one factor{empty}. Mean ± "
    "standard deviation over seeds; the best mean is bold. Difference: row − reference of the same seed, or the ratio "
    "of geometric means, with its interval, which is simultaneous over the rows (Bonferroni, separately per quantity; "
    "{error}). Lower, higher: p < .05 after Holm's adjustment over the rows, an asterisk in LaTeX. Diverged runs "
    "count with the accuracy of the majority class; the last loss is that of runs that learn."
)
_ERROR = "paired, over seeds; for the test accuracy over seeds and test examples, where predictions are recorded"


@dataclass(frozen=True)
class AblatedArm:
    """An arm of the table.

    name   as it is shown: "− clip", "+ clip", "clip: delayed"
    plain  without a sign in front, for CSV: "without clip"
    """

    name: str
    plain: str
    arm: str
    changes: tuple[str, ...]


def ablation(study: Study, reference: Settings | None = None) -> Table:
    """The ablation table. Raises Refused if no arm differs from the reference in one factor alone.

    Numbers: row, arm, then for each quantity q of ABLATED that the study has: q_n (runs), q_mean, q_sd (accuracies as
    shares, 0 to 1); against the reference q_paired (seeds), q_effect (points, or a ratio), q_low and q_high (its
    simultaneous interval), q_p, q_p_holm, and q_mark (lower, higher, no difference shown).

    `reference`: settings of the reference arm; `ablation_reference` chooses it otherwise.
    """
    arm, why = ablation_reference(study, reference)
    rows = [AblatedArm("reference", "reference", arm, ()), *ablated(study, arm)]
    if not any(len(row.changes) == 1 for row in rows):
        raise Refused(f"no arm differs from {arm} in exactly one factor of the recipe")
    measured = outcomes(study, [column.quantity.name for column in ABLATED])
    numbers = pd.DataFrame({"row": [row.plain for row in rows], "arm": [row.arm for row in rows]})
    shown, refused, lacking = [], defaultdict(list), []
    for column in ABLATED:
        cells, reasons = column_of(column, rows, study, measured)
        if all(math.isnan(cell["mean"]) for cell in cells):
            reason = "not recorded" if any(cell["n"] for cell in cells) else "no run learns"
            lacking.append(f"{column.quantity.words} ({reason})")
            continue
        shown.append(column)
        for row, reason in reasons.items():
            refused[row, reason].append(column.quantity.words)
        numbers = numbers.join(pd.DataFrame(cells).add_prefix(f"{column.quantity.name}_"))
    is_whole = any(len(row.changes) > 1 for row in rows)
    caption = _CAPTION.format(
        reference=f"{arm} ({words(techniques_on(study.arms[arm]))})" if techniques_on(study.arms[arm]) else arm,
        why=why,
        empty="; the last has none of the techniques that vary" if is_whole else "",
        error=_ERROR,
    )
    if refused:
        reasons = (f"{row}, {', '.join(names)}: {reason}" for (row, reason), names in refused.items())
        caption += f" Not compared: {'; '.join(reasons)}."
    if lacking:
        caption += f" Left out: {', '.join(lacking)}."
    texts, bold = ablation_in_words(numbers, rows, shown)
    return Table("ablation", caption, numbers, texts, bold, ablation_latex(numbers, rows, shown, caption))


# --- Reference and rows ---


def ablation_reference(study: Study, settings: Settings | None = None) -> tuple[str, str]:
    """The label of the reference arm, and why it is the one.

    Among the arms with these `settings` (all, without settings): the one from which single arms remove or exchange the
    most factors; of several, the one with the most techniques on, then with the most such arms, then the first.
    Raises Refused without an arm.
    """
    counting = set(study.runs["arm"])
    found = [label for label, arm in study.arms.items() if label in counting and fits(arm, settings or {})]
    if not found:
        known = [study.arms[label] for label in study.arms if label in counting]
        lacking = f"no arm has {words(settings)}{nearest_arm(settings, known)}" if settings else "no finished run"
        raise Refused(lacking)
    near = neighbours(study)

    def rank(label: str) -> tuple[bool, int, int, int]:
        arm, others = study.arms[label], near[label]
        return (arm["nuisance"] == 0, len(others), len(techniques_on(arm)), sum(map(len, others.values())))

    chosen = max(found, key=rank)
    if settings:
        return chosen, "the reference of the claims"
    return chosen, "the arm from which the most factors are changed one at a time"


def neighbours(study: Study) -> dict[str, dict[str, list[str]]]:
    """Arm -> factor -> the arms that count and differ from it in this component alone.

    Components are the techniques that vary; where none does, optimizer and model with their settings.
    """
    counting = set(study.runs["arm"])
    arms = {label: arm for label, arm in study.arms.items() if label in counting}
    techniques = [factor for factor in study.techniques if len({arm[factor] for arm in arms.values()}) > 1]
    factors = techniques or [factor for factor in study.factors if factor not in NO_COMPONENTS]
    found: dict[str, dict[str, list[str]]] = {label: {} for label in study.arms}
    for factor in factors:
        for group in alike(arms, (factor,)):
            for label in group:
                if others := [other for other in group if other != label]:
                    found[label][factor] = others
    return found


def alike(arms: Mapping[str, Arm], but: Sequence[str]) -> list[list[str]]:
    """Groups of arms that agree in everything `but` these factors."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, arm in arms.items():
        groups[canonical({key: value for key, value in arm.items() if not is_under(key, but)})].append(label)
    return list(groups.values())


def techniques_on(arm: Arm) -> dict[str, str]:
    """The techniques that an arm has, with their options.

    >>> techniques_on({"clip": "fixed", "clip.threshold": 1.0, "freeze": "none", "optimizer": "adamw", "nuisance": 0})
    {'clip': 'fixed'}
    """
    options = {key: value for key, value in arm.items() if "." not in key and key not in (*SETUP, "nuisance")}
    return {factor: option for factor, option in options.items() if option != NONE}


def ablated(study: Study, reference: str) -> list[AblatedArm]:
    """The rows below the reference: arms that differ in one component, in the order of the factors; then the arm
    without any technique that the study varies.

    Optimizers and models with another option are rows too.
    """
    counting = set(study.runs["arm"])
    arms = {label: arm for label, arm in study.arms.items() if label in counting}
    near = neighbours(study)[reference]
    for factor in set(study.factors) - set(study.techniques) - set(NO_COMPONENTS) - near.keys():
        group = next(group for group in alike(arms, (factor,)) if reference in group)
        near[factor] = [other for other in group if arms[other][factor] != arms[reference][factor]]
    changed = {factor: near[factor] for factor in study.factors if near.get(factor)}
    options = {factor: [NONE, *(arms[other][factor] for other in others)] for factor, others in changed.items()}
    grouped = [  # by option, "− clip" before other clipping
        (factor, other)
        for factor, others in changed.items()
        for other in sorted(others, key=lambda other: options[factor].index(arms[other][factor]))
    ]
    factor_of = {other: factor for factor, other in grouped}
    chosen = in_order({label: arms[label] for label in (reference, *factor_of)})
    level = levels(chosen)
    rows = [
        named_row(factor, arms[other], arms[reference], str(level.loc[other, factor]), other, len(changed[factor]))
        for other, factor in ((other, factor_of[other]) for other in list(chosen)[1:])
    ]
    return rows + empty_recipe(study, arms, reference)


def named_row(factor: str, arm: Arm, reference: Arm, level: str, label: str, several: int) -> AblatedArm:
    """The row of an arm that differs in `factor`; `level`: its option of it, by a short name."""
    if factor in SETUP or NONE not in (arm[factor], reference[factor]):
        return AblatedArm(f"{factor}: {level}", f"{factor}: {level}", label, (factor,))
    if arm[factor] == NONE:
        return AblatedArm(f"− {factor}", f"without {factor}", label, (factor,))
    added = factor if several == 1 else f"{factor}: {level}"
    return AblatedArm(f"+ {added}", f"with {added}", label, (factor,))


def empty_recipe(study: Study, arms: Mapping[str, Arm], reference: str) -> list[AblatedArm]:
    """The arm without any technique that varies, if it differs from the reference in more than one of them."""
    varied = [factor for factor in study.techniques if len({arm[factor] for arm in arms.values()}) > 1]
    changes = tuple(factor for factor in varied if arms[reference][factor] != NONE)
    if len(changes) < 2:
        return []
    group = next(group for group in alike(arms, varied) if reference in group)
    empty = [label for label in group if all(arms[label][factor] == NONE for factor in varied)]
    return [AblatedArm("none of them", "none of them", label, changes) for label in empty]


# --- Numbers ---


def column_of(
    column: AblatedQuantity, rows: Sequence[AblatedArm], study: Study, measured: Outcomes
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One quantity: the cells of each row by their names without prefix, and row -> why it is not compared."""
    effects: dict[str, Estimate] = {}
    refused: dict[str, str] = {}
    for row in rows[1:]:
        try:
            effects[row.arm] = effect_of(row, rows[0].arm, column, study, measured)
        except Refused as reason:
            refused[row.name] = str(reason)
    adjusted = holm_where_known([effect.p for effect in effects.values()])
    p_holm = dict(zip(effects, adjusted, strict=True))
    level = 1 - ALPHA / max(1, len(effects))
    cells = [
        mean_of_arm(row.arm, column, study, measured)
        | against_reference(effects.get(row.arm), p_holm.get(row.arm, math.nan), level, column.quantity)
        for row in rows
    ]
    cells[0]["mark"] = "reference"
    return cells, refused


def effect_of(row: AblatedArm, reference: str, column: AblatedQuantity, study: Study, measured: Outcomes) -> Estimate:
    """The effect of the row's arm against the reference, over their paired seeds. Raises Refused without one."""
    pairs = pair(study, (row.arm, reference), row.changes)
    runs = np.array(pairs.runs, dtype=object).reshape(-1, 2)
    values = measured.values[column.quantity.name].reindex(runs.ravel()).to_numpy(float).reshape(runs.shape)
    usable = np.isfinite(values).all(axis=1)
    if not column.keeps_unlearned:
        learned = measured.learned.reindex(runs.ravel(), fill_value=False).to_numpy(bool)
        usable &= learned.reshape(runs.shape).all(axis=1)
    if not usable.any():
        known = measured.reasons[measured.reasons["quantity"] == column.quantity.name].set_index("run")["reason"]
        reasons = [*dict.fromkeys(known.reindex(runs.ravel()).dropna())] or ["no seed on which both runs learn"]
        raise Refused("; ".join(reasons if len(runs) else pairs.notes))
    try:
        return paired_difference(column.quantity, study, np.array(pairs.seeds)[usable], runs[usable], values[usable])
    except ValueError as error:
        raise Refused(str(error)) from error


def paired_difference(
    quantity: Quantity, study: Study, seeds: NDArray[np.int_], runs: NDArray[np.object_], values: Array
) -> Estimate:
    """The effect on the quantity's scale, over seeds and, as `_ERROR` says, test examples.

    Args: `runs` and `values`, both (seeds, 2), row before reference.
    """
    estimand = Estimand(quantity.name, quantity.scale, {}, {}, {}, ())
    scale = SCALES[quantity.scale](1)
    sample = Sample(study, estimand, scale, tuple(seeds.tolist()), runs, values, np.full(runs.shape, True))
    return mean_difference(sample, np.random.default_rng(FLIPS))


def mean_of_arm(arm: str, column: AblatedQuantity, study: Study, measured: Outcomes) -> dict[str, Any]:
    """Number of runs that count, their mean and standard deviation (ddof 1); NaN if a run lacks the quantity."""
    runs = study.runs["run"][study.runs["arm"] == arm]
    runs = runs[runs.isin(measured.values.index)]
    values = measured.values[column.quantity.name].loc[runs]
    if not column.keeps_unlearned:
        values = values[measured.learned.loc[runs]]
    return {"n": len(values), "mean": values.mean(skipna=False), "sd": values.std(skipna=False)}


def against_reference(effect: Estimate | None, p_holm: float, level: float, quantity: Quantity) -> dict[str, Any]:
    """The cells that compare a row with the reference; NaN without an effect."""
    if effect is None:
        nothing = dict.fromkeys(("effect", "low", "high", "p", "p_holm"), math.nan)
        return {"paired": 0, **nothing, "mark": "not compared"}
    back = np.exp if quantity.is_ratio else float
    limits = interval_columns("", effect.interval(level))
    return {
        "paired": effect.n,
        "effect": float(back(effect.estimate)),
        **{end: float(back(limit)) for end, limit in limits.items()},
        "p": math.nan if effect.p is None else effect.p,
        "p_holm": p_holm,
        "mark": mark_of(effect, p_holm),
    }


def mark_of(effect: Estimate, p_holm: float) -> str:
    if effect.n == 1:
        return "one seed"
    if effect.p is None:
        return EQUAL_PAIRS if effect.estimate == 0 else UNMARKED
    return MARKED[effect.estimate > 0] if p_holm < ALPHA else UNMARKED


def holm_where_known(p: Sequence[float | None]) -> list[float]:
    """p values adjusted by Holm's method; an effect without a p counts as one with p = 1, and stays NaN.

    >>> holm_where_known([0.01, None, 0.02])
    [0.03, nan, 0.04]
    """
    adjusted = holm([1.0 if value is None else value for value in p])
    return [math.nan if value is None else q for value, q in zip(p, adjusted, strict=True)]


# --- Words ---


def ablation_in_words(
    numbers: pd.DataFrame, rows: Sequence[AblatedArm], shown: Sequence[AblatedQuantity]
) -> tuple[pd.DataFrame, frozenset[tuple[int, int]]]:
    """The table as text, and the cells (row, column) in bold."""
    columns = {"recipe": [row.name for row in rows], "seeds": seeds_of(numbers, shown)}
    bold = set()
    for column in shown:
        name = column.quantity.name
        means = means_in_words(numbers, column)
        bold |= {(i, len(columns)) for i in best_rows(numbers[f"{name}_mean"].tolist(), means, column)}
        columns[column.quantity.heading or column.quantity.row_heading] = means
        columns[difference_heading(column.quantity)] = [
            difference_text(row, name, column.quantity) for row in numbers.to_dict("records")
        ]
    return pd.DataFrame(columns), frozenset(bold)


def seeds_of(numbers: pd.DataFrame, shown: Sequence[AblatedQuantity]) -> list[str]:
    return numbers[[f"{column.quantity.name}_n" for column in shown]].max(axis=1).map(str).tolist()


def difference_heading(quantity: Quantity) -> str:
    """
    >>> difference_heading(REGISTRY["test_accuracy"]), difference_heading(REGISTRY["last_training_loss"])
    ('test accuracy, difference in points', 'last loss, ratio')
    """
    short = (quantity.heading or quantity.words).removesuffix(" %")
    return f"{short}, {'ratio' if quantity.is_ratio else 'difference in points'}"


def means_in_words(numbers: pd.DataFrame, column: AblatedQuantity) -> list[str]:
    name = column.quantity.name
    factor = 100 if column.quantity.scale == "points" else 1
    means, sds = factor * numbers[f"{name}_mean"], factor * numbers[f"{name}_sd"]
    decimals = column.quantity.decimals
    if decimals is None:
        decimals = decimals_of(means.max())
    return [mean_and_sd(mean, sd, decimals) for mean, sd in zip(means, sds, strict=True)]


def decimals_of(largest: float) -> int:
    """Number of decimals that gives the largest number of a column three significant digits.

    >>> decimals_of(0.0432), decimals_of(12.3), decimals_of(4000.0)
    (4, 1, 0)
    """
    return max(0, 2 - math.floor(math.log10(largest))) if 0 < largest < math.inf else 0


def best_rows(means: Sequence[float], texts: Sequence[str], column: AblatedQuantity) -> list[int]:
    """The rows whose mean is the best, or is written as the best one is; none if all are written alike."""
    known = [mean for mean in means if not math.isnan(mean)]
    if not known:
        return []
    best = texts[list(means).index(column.best(known))].partition(" ")[0]
    found = [i for i, text in enumerate(texts) if text.partition(" ")[0] == best]
    return found if len(found) < len(texts) else []


def effect_text(value: float, quantity: Quantity) -> str:
    """A difference with its sign, or a ratio.

    >>> effect_text(-0.52, REGISTRY["test_accuracy"]), effect_text(1.0434, REGISTRY["last_training_loss"])
    ('−0.5', '×1.043')
    """
    text = limit_text(value, quantity)
    return f"×{text}" if quantity.is_ratio else f"+{text}" if float(text.replace("−", "-")) > 0 else text


def limit_text(value: float, quantity: Quantity) -> str:
    """A difference in the decimals of its quantity, or a ratio in three decimals.

    >>> limit_text(-0.04, REGISTRY["test_accuracy"]), limit_text(25.04, REGISTRY["last_training_loss"])
    ('0.0', '25.0')
    """
    if quantity.is_ratio:
        return fixed(value, 3) if 0.1 <= value < 10 else significant(value)
    decimals = quantity.decimals or 0
    return as_minus(fixed(round(value, decimals) + 0.0, decimals))  # + 0.0 turns -0.0 into 0.0


def limits_text(low: float, high: float, quantity: Quantity) -> list[str]:
    """The limits of an interval, without the × of ratios; none without an interval."""
    return [] if math.isnan(low) else [limit_text(end, quantity) for end in (low, high)]


def difference_text(row: Mapping[str, Any], name: str, quantity: Quantity) -> str:
    """Effect, interval and mark; the number of seeds where it is not that of the row."""
    effect = row[f"{name}_effect"]
    if math.isnan(effect):
        return DASH
    limits = " to ".join(limits_text(row[f"{name}_low"], row[f"{name}_high"], quantity)) or DASH
    fewer = f", {count(row[f'{name}_paired'], 'seed')}" if row[f"{name}_paired"] != row[f"{name}_n"] else ""
    return f"{effect_text(effect, quantity)} [{limits}{fewer}] {row[f'{name}_mark']}"


# --- LaTeX ---


def ablation_latex(
    numbers: pd.DataFrame, rows: Sequence[AblatedArm], shown: Sequence[AblatedQuantity], caption: str
) -> str:
    r"""A tabular with booktabs: mean ± sd per quantity, and below it the difference with its mark and interval.

    The caption is a comment at the top. Marks are superscripts, the best mean is \textbf.
    """
    names = [column.quantity.name for column in shown]
    texts = {column.quantity.name: means_in_words(numbers, column) for column in shown}
    best = {
        (name, i)
        for name, column in zip(names, shown, strict=True)
        for i in best_rows(numbers[f"{name}_mean"].tolist(), texts[name], column)
    }
    heads = [latex_text(column.quantity.heading or column.quantity.row_heading) for column in shown]
    below = [small("ratio" if column.quantity.is_ratio else "difference in points") for column in shown]
    lines = [
        f"% {' '.join(printable(caption).split())}",
        r"% Needs \usepackage{booktabs}. In a narrow column: \resizebox{\linewidth}{!}{\input{ablation}}",
        rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
        r"\toprule",
        rf"recipe & {' & '.join(heads)} \\",
        rf" & {' & '.join(below)} \\",
        r"\midrule",
    ]
    for i, (row, values) in enumerate(zip(rows, numbers.to_dict("records"), strict=True)):
        means = [latex_text(texts[name][i]) for name in names]
        means = [rf"\textbf{{{mean}}}" if (name, i) in best else mean for name, mean in zip(names, means, strict=True)]
        lines += [r"\addlinespace[2pt]"] if i else []
        lines += [rf"{' & '.join([latex_text(row.name), *means])} \\"]
        if i:
            differences = [latex_difference(values, column.quantity) for column in shown]
            lines += [rf" & {' & '.join(differences)} \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_difference(values: Mapping[str, Any], quantity: Quantity) -> str:
    """Effect, mark and interval of one row, in small type; a dash where it is not compared."""
    name = quantity.name
    effect, limits = values[f"{name}_effect"], limits_text(values[f"{name}_low"], values[f"{name}_high"], quantity)
    if math.isnan(effect):
        return small(latex_text(DASH))
    star = "$^{*}$" if values[f"{name}_mark"] in MARKED else ""
    interval = latex_text(f"[{', '.join(limits) or DASH}]")
    return small(f"{latex_text(effect_text(effect, quantity))}{star} {interval}")


def small(latex: str) -> str:
    return rf"{{\scriptsize {latex}}}"
