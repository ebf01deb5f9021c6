"""Sentences on what the techniques add to the metric, for the answer of a report and its forest plot."""

import math
from collections.abc import Mapping, Sequence

from ablate.config.wording import count
from analysis.page.metric_effects import MetricEffects, TechniqueEffect, is_more_better
from analysis.quantities.registry import Quantity
from analysis.records.study import Study
from analysis.tables.ablation_formats import limit_text
from analysis.tables.numbers import as_minus, ratio_text, rounded

RATIOS = ("log", "logit")

MOST_ARMS = 4
"""Techniques that a sentence names one by one."""

POINTLESS = {"points": 50.0, "log": 3.0}
"""Half-widths from which an interval rules out nothing that anybody expects: 50 points, a ratio of 20."""


# --- Which technique, and by how much ---


def lead_sentence(found: MetricEffects, asked: float | None = None) -> str:
    """Which techniques change the metric; where none is shown to, how large a change could still be.

    >>> from analysis.quantities.registry import REGISTRY
    >>> quantity = REGISTRY["test_accuracy"]
    >>> clip = TechniqueEffect("clipping at 1", 1.2, 0.3, 2.1, 10, True)
    >>> lead_sentence(MetricEffects(quantity, "none", (clip,), (), 1))
    'Clipping at 1 improves test accuracy by 1.2 points (0.3 to 2.1).'
    >>> schedule = TechniqueEffect("schedule", 0.6, -0.7, 1.9, 10, False)
    >>> lead_sentence(MetricEffects(quantity, "none", (schedule,), (), 1), asked=3)
    'Schedule makes no difference of 3 points or more in test accuracy: its 95 % interval lies within ±1.9 points.'
    """
    differing = [each for each in found.effects if each.differs]
    if differing:
        said = [changes_by(each, found.quantity) for each in differing[:MOST_ARMS]]
        if (more := len(differing) - MOST_ARMS) > 0:
            said.append(f"{more} more {'differs' if more == 1 else 'differ'}")
        return capital("; ".join(said)) + "."
    return without_difference(found, asked)


def without_difference(found: MetricEffects, asked: float | None) -> str:
    """That no technique is shown to change the metric, and how large a change could still be."""
    words, main = found.quantity.words, found.main
    names = [each.name for each in main]
    known = [each.largest for each in main if not math.isnan(each.largest)]
    if not known and all(each.effect == 0 for each in main):
        return f"{makes_no(names)} difference in {words} on any seed."
    if not known:
        return f"{none_shown(names)} to change {words}: no interval can be computed."
    largest, seeds = max(known), seeds_text([each.n for each in main])
    if asked is not None and largest < asked:
        return (
            f"{makes_no(names)} difference of {asked_text(asked, found.quantity)} or more in {words}: "
            f"{'its 95 % interval lies' if len(names) == 1 else 'their 95 % intervals lie'} within "
            f"{'' if found.quantity.scale in RATIOS else '±'}{size_text(largest, found.quantity)}."
        )
    if largest > POINTLESS.get(found.quantity.scale, math.inf):
        return f"{none_shown(names)} to change {words}, and {seeds} cannot rule out a large change."
    reach = "by" if found.quantity.scale in RATIOS else "of up to"
    return (
        f"{none_shown(names)} to change {words}; with {seeds}, a change {reach} {size_text(largest, found.quantity)} "
        "remains possible."
    )


def none_of(names: Sequence[str]) -> str:
    """
    >>> none_of(["a", "b", "c"]), none_of(list("abcde"))
    ('Neither a, b nor c', 'No technique')
    """
    if len(names) > MOST_ARMS:
        return "No technique"
    return f"Neither {', '.join(names[:-1])} nor {names[-1]}" if len(names) > 1 else capital(names[0])


def makes_no(names: Sequence[str]) -> str:
    return f"{none_of(names)} makes {'no' if len(names) == 1 else 'a'}"


def none_shown(names: Sequence[str]) -> str:
    return f"{none_of(names)} is {'not ' if len(names) == 1 else ''}shown"


def changes_by(found: TechniqueEffect, quantity: Quantity) -> str:
    """A difference that is shown, with its interval, and whether it is one for the better."""
    better = is_more_better(quantity)
    if better is None:
        verb = "raises" if found.effect > 0 else "lowers"
    else:
        verb = "improves" if (found.effect > 0) == better else "worsens"
    limits = interval_of(found, quantity, signed=quantity.scale in RATIOS)
    by = f", × {ratio_text(found.effect)}" if quantity.scale in RATIOS else f" by {size_text(found.effect, quantity)}"
    return f"{found.name} {verb} {quantity.words}{by} {limits}".rstrip()


def effects_sentence(found: MetricEffects) -> str:
    """Every effect with its sign and interval, the main ones first; those that the lead has are left out."""
    shown = [each for each in found.effects if not each.differs]
    shown.sort(key=lambda each: (each.is_exchange, each.parts > 1))
    if not shown:
        return ""
    by = ["" if math.isnan(each.effect) else "by " for each in shown]
    said = [f"{each.name} {word}{signed_text(each, found.quantity)}" for each, word in zip(shown, by, strict=True)]
    more = f"; {len(shown) - MOST_ARMS} more in the figure" if len(shown) > MOST_ARMS else ""
    start = "No difference is shown for the others" if len(shown) < len(found.effects) else "Estimated changes"
    return f"{start}: {'; '.join(said[:MOST_ARMS])}{more}."


def others_sentences(found: MetricEffects) -> tuple[str, ...]:
    """The differences that are shown in other quantities, such as the time of a step."""
    said = [changes_by(each, quantity) for quantity, each in found.others]
    more = f"; {len(said) - MOST_ARMS} more" if len(said) > MOST_ARMS else ""
    return (f"Shown in other measures: {'; '.join(said[:MOST_ARMS])}{more}.",) if said else ()


def sure_sentences(found: MetricEffects, study: Study) -> tuple[str, ...]:
    """How sure the effects are: the level, the seeds, and the number of comparisons."""
    seeds = seeds_text([each.n for each in found.effects if each.n])
    pairs = seeds.replace("seed", "paired seed") if study.is_paired else "unpaired runs"
    said = [f"In parentheses: 95 % intervals over {pairs}, adjusted for {count(found.comparisons, 'comparison')}."]
    if found.data_sets > 1:
        said.append(f"Each effect is a mean over {count(found.data_sets, 'data set')}.")
    if unlearned := max(each.n_unlearned for each in found.effects):
        said.append(f"On {count(unlearned, 'seed')} a run did not learn.")
    return tuple(said)


def seeds_text(numbers: Sequence[int]) -> str:
    """
    >>> seeds_text([10, 10]), seeds_text([3, 10]), seeds_text([])
    ('10 seeds', '3 to 10 seeds', 'no seed')
    """
    found = sorted(set(numbers))
    if not found:
        return "no seed"
    return f"{found[0]} to {found[-1]} seeds" if len(found) > 1 else count(found[0], "seed")


# --- Sizes in words ---


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def size_text(effect: float, quantity: Quantity) -> str:
    """The size of an effect, with its unit.

    >>> from analysis.quantities.registry import REGISTRY
    >>> size_text(-1.25, REGISTRY["test_accuracy"]), size_text(math.log(0.5), REGISTRY["step_seconds"])
    ('1.2 points', 'a factor of 0.5')
    """
    if quantity.scale in RATIOS:
        return f"a factor of {ratio_text(effect)}"
    unit = "points" if quantity.scale == "points" else quantity.unit
    return f"{number_text(abs(effect), quantity)} {unit}".strip()


def asked_text(size: float, quantity: Quantity) -> str:
    """A smallest difference of interest, as it was written."""
    if quantity.scale in RATIOS:
        return size_text(size, quantity)
    return f"{rounded(size)} {'points' if quantity.scale == 'points' else quantity.unit}".strip()


def number_text(value: float, quantity: Quantity) -> str:
    """A difference in the decimals of its quantity, as in the tables; three digits where it has none."""
    return rounded(value) if quantity.decimals is None else limit_text(value, quantity)


def signed_text(found: TechniqueEffect, quantity: Quantity) -> str:
    """An effect with its sign and interval.

    >>> from analysis.quantities.registry import REGISTRY
    >>> signed_text(TechniqueEffect("a", 0.6, -0.7, 1.9, 10, False), REGISTRY["test_accuracy"])
    '+0.6 points (−0.7 to 1.9)'
    """
    if math.isnan(found.effect):
        return f"not compared{f' ({found.note})' if found.note else ''}"
    if quantity.scale in RATIOS:
        number = f"× {ratio_text(found.effect)}"
    else:
        size = size_text(found.effect, quantity)
        number = f"{'−' if found.effect < 0 else '+'}{size}" if float(size.split()[0].replace("−", "-")) else size
    return f"{number} {interval_of(found, quantity)}".rstrip()


def interval_of(found: TechniqueEffect, quantity: Quantity, signed: bool = True) -> str:
    """The interval in parentheses, as sizes unless `signed`; "" without one."""
    if math.isnan(found.low):
        return ""
    if quantity.scale in RATIOS:
        return f"({ratio_text(found.low)} to {ratio_text(found.high)})"
    ends = (found.low, found.high) if signed else sorted((abs(found.low), abs(found.high)))
    return f"({as_minus(' to '.join(number_text(end, quantity) for end in ends))})"


# --- The forest plot in words ---


def forest_words(found: MetricEffects, names: Mapping[str, str]) -> tuple[str, tuple[str, ...], str]:
    """The title of the forest plot, the number of each row, and a note on how to read it."""
    quantity = found.quantity
    unit = "points" if quantity.scale == "points" else quantity.unit
    texts = tuple(signed_text(each, quantity).replace(f" {unit} (", " (") for each in found.effects)
    reference = names[found.reference]
    if found.data_sets > 1:
        reference = reference.rpartition(", ")[0] or reference  # without the data set of this arm
    if any(each.is_removal for each in found.effects):
        title = f"What each technique adds to {quantity.words}"
        rows = f"{reference}, less the same without the technique"
        if any(each.is_exchange for each in found.effects):
            rows += "; rows with “instead”: the same with the exchange, less the original"
    else:
        title, rows = f"Change in {quantity.words} from {reference}", f"each arm, less {reference}"
    return (
        title,
        texts,
        f"Rows: {rows}. Dot: mean difference over the seeds; bar: its 95 % interval, adjusted for all rows; "
        "vertical line: no difference; pale: the interval includes it.",
    )
