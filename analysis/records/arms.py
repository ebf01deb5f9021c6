"""Arms: what a run.json says of its arm, when two arms are the same one, and short names that tell arms apart."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, TypeVar

import pandas as pd

from ablate.experiment import ADDED, FACTORS, normalised
from ablate.schema import NO_TECHNIQUES, NONE

T = TypeVar("T")
Arm = Mapping[str, Any]
"""A config without its seed, flat: {"clip": "fixed", "clip.threshold": 1.0, ..., "nuisance": 0}.

Every arm of a study has all factors of the study; a factor that a run lacks counts as "none".
"""

NOT_FACTORS = ("nuisance",)
"""Keys of an arm, without a dot, that are no factors."""


def merged_order(orders: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All names of several sequences, in an order that keeps each name behind its predecessor where it was first seen.

    >>> merged_order([["freeze", "clip", "model"], ["freeze", "clip", "mixout", "model"]])
    ('freeze', 'clip', 'mixout', 'model')
    """
    names: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return tuple(names)


def arm_of(data: Mapping[str, Any], factors: Iterable[str]) -> Arm:
    """The arm of a run.json: option and settings of each of the study's factors, and the nuisance seed."""
    arm: dict[str, Any] = {}
    for factor in factors:
        entry = data["factors"].get(factor, {"option": option_without(factor), "settings": {}})
        arm |= {factor: entry["option"]} | {f"{factor}.{k}": v for k, v in flat(entry["settings"]).items()}
    return arm | {"nuisance": data["nuisance"]}


AS_BEFORE = ADDED | {name: factor.as_before for name, factor in FACTORS.items() if factor.as_before}
"""Setting or factor -> the value that run.json leaves out."""


def option_without(factor: str) -> str:
    """The option of a factor that a run or an arm lacks: none, or for `task` that of runs before it existed."""
    return AS_BEFORE.get(factor, NONE)


def factors_of(arms: Iterable[Arm]) -> tuple[str, ...]:
    """The factors of some arms, in the study's order.

    >>> factors_of([{"clip": "fixed", "clip.threshold": 1.0, "model": "tiny", "nuisance": 0}])
    ('clip', 'model')
    """
    return tuple(dict.fromkeys(key for arm in arms for key in arm if "." not in key and key not in NOT_FACTORS))


def techniques_of(arms: Iterable[Arm]) -> tuple[str, ...]:
    """The factors that are studied: all but those of `ablate.schema.NO_TECHNIQUES`."""
    return tuple(factor for factor in factors_of(arms) if factor not in NO_TECHNIQUES)


def with_factors(arm: Arm, factors: Iterable[str]) -> Arm:
    """An arm of one study as an arm of a study with these factors: those that it lacks are "none".

    >>> with_factors({"clip": "fixed", "nuisance": 0}, ["clip", "mixout"])
    {'clip': 'fixed', 'mixout': 'none', 'nuisance': 0}
    """
    added = {factor: option_without(factor) for factor in factors if factor not in arm}
    return (
        {key: value for key, value in arm.items() if key not in NOT_FACTORS}
        | added
        | {key: arm[key] for key in NOT_FACTORS if key in arm}
    )


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> flat({"timing": {"seconds": 2.5}, "betas": [0.9, 0.999]})
    {'timing.seconds': 2.5, 'betas': (0.9, 0.999)}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= {f"{key}.{k}": v for k, v in flat(value).items()}
        else:
            leaves[key] = tuple(value) if isinstance(value, list) else value
    return leaves


def is_under(key: str, keys: Collection[str]) -> bool:
    """Whether `key` is one of `keys` or a setting below one: clip.rule.threshold is under clip.

    >>> is_under("clip.start", ["clip"]), is_under("clip", ["clip.start"]), is_under("clipping", ["clip"])
    (True, False, False)
    """
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def overlaid(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with those of `over` in their place; another option sheds the settings of the one before.

    >>> overlaid({"optimizer": "adamw", "optimizer.lr": 2e-4, "clip": "none"}, {"optimizer": "sgd"})
    {'clip': 'none', 'optimizer': 'sgd'}
    """
    return {key: value for key, value in settings.items() if not is_under(key, over)} | dict(over)


def fits(arm: Arm, settings: Mapping[str, Any]) -> bool:
    """Whether an arm has all of these settings. A key that run.json leaves out has its value "as before".

    >>> fits({"trainer": "default"}, {"trainer.skip_unread": False}), fits({"clip": "none"}, {"clip": "fixed"})
    (True, False)
    >>> fits({"clip": "none"}, {"adapter": "none"}), fits({"clip": "none"}, {"adapter": "lora"})
    (True, False)
    """
    known = AS_BEFORE | arm
    return all(key in known and is_same(known[key], value) for key, value in settings.items())


def is_same(own: Any, value: Any) -> bool:
    """Whether an arm's own value is a given one; an option, which is text, may be given as a number, true or false.

    >>> is_same("0.1", 0.1), is_same("fixed", "fixed"), is_same(1, "1")
    (True, True, False)
    """
    return canonical(own) == canonical(value) or (isinstance(own, str) and own == value_text(value))


def words(settings: Mapping[str, Any]) -> str:
    """
    >>> words({"clip": "fixed", "clip.threshold": 1.0})
    'clip=fixed, clip.threshold=1'
    """
    return ", ".join(f"{key}={value_text(value)}" for key, value in settings.items())


def in_order(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Label -> arm; neighbours of the same options stand in order of their numbers: workers begin several at once.

    The first arm stays: it is the one that the others are shown against.

        >>> plain = {"clip": "none", "model": "x", "nuisance": 0}
        >>> late, early = ({**plain, "clip": "delayed", "clip.start": start} for start in (100, 50))
        >>> [*in_order({"none": plain, "late": late, "early": early})], [*in_order({"late": late, "early": early})]
        (['none', 'early', 'late'], ['late', 'early'])
    """
    first, others = [*arms][:1], [*arms][1:]
    factors = factors_of(arms.values())
    neighbours = groupby(others, lambda label: [arms[label][factor] for factor in factors])
    ordered = (sorted(group, key=lambda label: numbers(arms[label])) for _, group in neighbours)
    return {label: arms[label] for label in chain(first, *ordered)}


def numbers(arm: Arm) -> list[tuple[str, float]]:
    return sorted((key, value) for key, value in arm.items() if isinstance(value, (int, float)))


def labels(arms: Sequence[Arm]) -> list[str]:
    """A short name for each arm; distinct arms have distinct names.

    It has the option of each factor in which the arms differ, in the study's order, with those settings in
    which arms of the same option differ; then the nuisance seed, where arms differ in it and it is not 0. What most
    arms have goes without saying, but for the techniques.

        >>> plain = {"freeze": "x", "clip": "x", "scheduler": "x", "optimizer": "x", "nuisance": 0}
        >>> early, late = ({**plain, "clip": "delayed", "clip.start": start} for start in (50, 100))
        >>> labels([{**plain, "clip": "none"}, early, late])
        ['none', 'delayed[start=50]', 'delayed[start=100]']
        >>> labels([{**plain, "clip": "none"}, late])
        ['none', 'delayed']
        >>> labels([{**plain, "clip": "none"}, late, {**late, "optimizer.lr": 2e-4}])
        ['none', 'delayed', 'delayed-x[lr=0.0002]']
        >>> labels([{**plain, "clip": "none"}])
        ['x-none-x']
    """
    distinct = {canonical(arm): arm for arm in arms}
    some, every = (differing(list(distinct.values()), brief) for brief in (True, False))
    named = [["-".join(part_text(*part) for part in parts) for parts in shown] for shown in (some, every)]
    named.append([canonical(parts) for parts in every])  # for names with the signs that labels are put together with
    chosen = next(names for names in named if len(set(names)) == len(distinct))
    label_of = dict(zip(distinct, chosen, strict=True))
    return [label_of[canonical(arm)] for arm in arms]


Part = tuple[str, Mapping[str, Any]]
"""Of a label: a factor's option, and the settings in which it differs from others of that option."""


def differing(arms: Sequence[Arm], brief: bool) -> list[list[Part]]:
    """For each of several distinct arms: option and settings of each factor, as far as they differ.

    `brief`: without what most arms have. Then parts of two factors may be alike, and so may the names of two arms.
    """
    parts: list[list[Part]] = [[] for _ in arms]
    techniques = techniques_of(arms)
    for factor in factors_of(arms):
        of_factor = parts_of(arms, factor)
        usual = most_have(of_factor) if brief and factor not in techniques else None
        for part, own in zip(parts, of_factor, strict=False):
            part += [own] if usual is None or canonical(own) != canonical(usual) else []
    for part, arm in zip(parts, arms, strict=True):
        part += [] if part else [(arm[factor], {}) for factor in techniques]
    if "nuisance" in varying(arms):
        for part, arm in zip(parts, arms, strict=True):
            part += [("nuisance", {"seed": arm["nuisance"]})] if arm["nuisance"] else []
    return parts


def parts_of(arms: Sequence[Arm], factor: str) -> list[Part]:
    """One factor's part of each arm; none where all arms have the same."""
    prefix = f"{factor}."
    settings = [{k.removeprefix(prefix): arm[k] for k in arm if k.startswith(prefix)} for arm in arms]
    peers = defaultdict(list)
    for arm, own in zip(arms, settings, strict=True):
        peers[arm[factor]].append(own)
    vary = {option: varying(group) for option, group in peers.items()}
    if len(peers) == 1 and not any(vary.values()):
        return []
    return [
        (arm[factor], {k: v for k, v in own.items() if k in vary[arm[factor]]})
        for arm, own in zip(arms, settings, strict=True)
    ]


def unsaid(arms: Sequence[Arm]) -> list[str]:
    """What labels leave out as most arms have it.

    >>> plain, other = ({"clip": "x", "optimizer": "x", "optimizer.lr": lr, "nuisance": 0} for lr in (1, 2))
    >>> unsaid([plain, {**plain, "clip": "none"}, other])
    ['x[lr=1]']
    """
    usual = [most_have(parts_of(arms, factor)) for factor in factors_of(arms) if factor in NO_TECHNIQUES]
    return [part_text(*part) for part in usual if part is not None]


def most_have(values: Sequence[T]) -> T | None:
    """The value of more than half of them; None where there is none.

    >>> most_have([1, 1.0, 2]), most_have([1, 2]), most_have([])
    (1, None, None)
    """
    places = defaultdict(list)
    for value in values:
        places[canonical(value)].append(value)
    largest = max(places.values(), key=len, default=[])
    return largest[0] if 2 * len(largest) > len(values) else None


def varying(mappings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys whose values differ, or that only some of the mappings have."""
    keys = {key for mapping in mappings for key in mapping}
    return {key for key in keys if len({canonical([m[key]] if key in m else []) for m in mappings}) > 1}


def part_text(option: str, settings: Mapping[str, Any]) -> str:
    pairs = (f"{key}={value_text(value)}" for key, value in settings.items())
    return f"{option}[{','.join(pairs)}]" if settings else option


def value_text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def canonical(value: Any) -> str:
    """JSON in which equal settings are equal text: 1 and 1.0 are, 1, "1" and true are not."""
    return json.dumps(normalised(value), sort_keys=True, ensure_ascii=False)


def ranges(numbers: Iterable[int]) -> str:
    """
    >>> ranges([3, 0, 1, 2, 2, 7])
    '0–3, 7'
    """
    spans: list[list[int]] = []
    for number in sorted(set(map(int, numbers))):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}–{span[-1]}" for span in spans)


def levels(arms: Mapping[str, Arm]) -> pd.DataFrame:
    """One row an arm, one column a factor that varies among them: the arm's level of it, by its short name.

    >>> plain = {"clip": "x", "model": "x", "nuisance": 0}
    >>> levels({"1": {**plain, "clip": "none"}, "2": {**plain, "clip": "fixed"}}).to_dict()
    {'clip': {'1': 'none', '2': 'fixed'}}
    """
    names = {}
    factors = factors_of(arms.values())
    for factor in factors:
        alike = {other: "" for other in factors if other != factor} | {"nuisance": 0}
        own = [{k: v for k, v in arm.items() if k.split(".")[0] == factor} | alike for arm in arms.values()]
        named = labels(own)
        if len(set(named)) > 1:
            names[factor] = named
    return pd.DataFrame(names, index=pd.Index(list(arms), name="arm"))
