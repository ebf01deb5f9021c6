"""Short names of arms and of changes to them: "clipping at 1" and "no clipping" in place of `none-fixed-none`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ablate.schema import NO_TECHNIQUES, NONE
from analysis.records.arms import (
    Arm,
    canonical,
    factors_of,
    most_have,
    part_text,
    parts_of,
    techniques_of,
    value_text,
    varying,
)
from analysis.records.study import Study

NOUNS: Mapping[str, str] = {
    "freeze": "freezing",
    "clip": "clipping",
    "scheduler": "scheduling",
    "average": "averaging",
    "regularizer": "regularizer",
    "init": "re-initialization",
}
"""Factor -> its technique as a noun; other factors, such as a group of the user's own, keep their names."""

PHRASES: Mapping[tuple[str, str], str] = {
    ("clip", "fixed"): "clipping at {clip.threshold}",
    ("clip", "delayed"): "clipping from step {clip.start}",
    ("clip", "until"): "clipping until step {clip.last}",
}
"""Factor and option -> a phrase for it, with its settings."""


def noun(factor: str) -> str:
    """
    >>> noun("clip"), noun("own_technique")
    ('clipping', 'own technique')
    """
    return NOUNS.get(factor, factor.replace("_", " "))


def settings_phrase(factor: str, arm: Arm, arms: Sequence[Arm] = ()) -> str:
    """What an arm has of a factor, as briefly as the other `arms` allow.

    >>> fixed = {"clip": "fixed", "clip.threshold": 1.0}
    >>> settings_phrase("clip", fixed), settings_phrase("clip", {"clip": "none"})
    ('clipping at 1', 'no clipping')
    >>> settings_phrase("freeze", {"freeze": "last_n", "freeze.n": 2})
    'freezing'
    >>> some = [{"freeze": "last_n", "freeze.n": n} for n in (1, 2)]
    >>> settings_phrase("freeze", some[1], some), settings_phrase("freeze", some[1], [*some, {"freeze": "bitfit"}])
    ('freezing (n 2)', 'last n (n 2)')
    >>> settings_phrase("freeze", some[1], [*some, {"freeze": "bitfit"}, {"freeze": "none"}])
    'freezing: last n (n 2)'
    """
    option = arm[factor]
    if option == NONE:
        return f"no {noun(factor)}"
    peers = [other for other in arms if other.get(factor) == option]
    differ = {key for key in varying(peers) if key.startswith(f"{factor}.")}
    phrase, said = own_phrase(factor, arm)
    if not phrase:
        options = {other[factor] for other in arms}
        phrase = value_text(option).replace("_", " ")
        if NONE in options or len(options) < 2:
            phrase = f"{noun(factor)}: {phrase}" if options - {NONE, option} else noun(factor)
    rest = [f"{key.removeprefix(factor + '.')} {value_text(arm[key])}" for key in arm if key in differ - said]
    return f"{phrase} ({', '.join(rest)})" if rest else phrase


def own_phrase(factor: str, arm: Arm) -> tuple[str, set[str]]:
    """The phrase of PHRASES for an arm's option, and the settings that it names; "" without one."""
    template = PHRASES.get((factor, str(arm[factor])), "")
    names = set(re.findall(r"{([\w.]+)}", template))
    if not template or not names <= arm.keys():
        return "", set()
    return re.sub(r"{([\w.]+)}", lambda found: value_text(arm[found[1]]), template), names


def short_names(labelled: Mapping[str, Arm]) -> dict[str, str]:
    """Label of each arm -> a short name of what it has; the labels themselves where short names are not distinct.

    Techniques come first, joined by +; then whatever else most arms have otherwise.

    >>> plain = {"freeze": "none", "clip": "none", "optimizer.lr": 1, "optimizer": "sgd", "nuisance": 0}
    >>> clipped = {**plain, "clip": "fixed", "clip.threshold": 1.0}
    >>> short_names({"none": plain, "fixed": clipped, "fixed-sgd[lr=2]": {**clipped, "optimizer.lr": 2}})
    {'none': 'no clipping', 'fixed': 'clipping at 1', 'fixed-sgd[lr=2]': 'clipping at 1, lr 2'}
    """
    arms = list(labelled.values())
    varied = [factor for factor in techniques_of(arms) if parts_of(arms, factor)]
    others = [other_settings(arms, factor) for factor in factors_of(arms) if factor not in varied]
    others.append([f"dropout seed {arm['nuisance']}" if arm["nuisance"] else "" for arm in arms])
    names = [
        ", ".join([techniques_phrase(arm, varied, arms), *filter(None, (other[i] for other in others))])
        for i, arm in enumerate(arms)
    ]
    if len(varied) == 0 or len(set(names)) < len(names):
        return {label: label for label in labelled}
    return dict(zip(labelled, names, strict=True))


def renamed(study: Study, names: Mapping[str, str]) -> Study:
    """The study with other names of its arms, for figures; what was measured of its runs stays."""
    frames = {each: getattr(study, each) for each in ("runs", "left_out")}
    found = replace(
        study,
        arms={names[label]: arm for label, arm in study.arms.items()},
        **{each: frame.assign(arm=frame["arm"].map(names)) for each, frame in frames.items()},
    )
    found.measured.update(study.measured)
    return found


def techniques_phrase(arm: Arm, varied: Collection[str], arms: Sequence[Arm]) -> str:
    """The techniques that an arm has, among those that vary."""
    on = [settings_phrase(factor, arm, arms) for factor in varied if arm[factor] != NONE]
    if on:
        return " + ".join(on)
    return f"no {noun(next(iter(varied)))}" if len(varied) == 1 else "no technique"


def other_settings(arms: Sequence[Arm], factor: str) -> list[str]:
    """What each arm has of a factor that is no technique, "" for what most arms have; with the seed of an A/A arm."""
    parts = parts_of(arms, factor) if factor in NO_TECHNIQUES else []
    usual = most_have(parts)
    found = []
    for option, settings in parts:
        told = [f"{key} {value_text(value)}" for key, value in settings.items()]
        same_option = usual is not None and usual[0] == option and told
        text = ", ".join(told) if same_option else part_text(option, settings)
        found.append("" if usual is not None and canonical((option, settings)) == canonical(usual) else text)
    return found or [""] * len(arms)


def change_phrase(arm: Arm, reference: Arm, arms: Sequence[Arm], factors: Sequence[str]) -> tuple[str, bool]:
    """The difference between an arm and the reference, as a technique, and whether the arm lacks it.

    >>> off, on = {"clip": "none"}, {"clip": "fixed", "clip.threshold": 1.0}
    >>> change_phrase(on, off, [on, off], ["clip"]), change_phrase(off, on, [on, off], ["clip"])
    (('clipping at 1', False), ('clipping at 1', True))
    >>> late = {"clip": "delayed", "clip.start": 50}
    >>> change_phrase(late, on, [on, off, late], ["clip"])
    ('clipping from step 50 instead of clipping at 1', False)
    """
    changed = [factor for factor in factors if of_factor(arm, factor) != of_factor(reference, factor)]
    if not changed:
        return f"A/A control (dropout seed {arm.get('nuisance')})", False
    had = [factor for factor in changed if reference[factor] != NONE]
    has = [factor for factor in changed if arm[factor] != NONE]
    if not has:
        return in_a_list([settings_phrase(factor, reference, arms) for factor in had]), True
    now = in_a_list([settings_phrase(factor, arm, arms) for factor in has])
    if not had:
        return now, False
    return f"{now} instead of {in_a_list([settings_phrase(factor, reference, arms) for factor in had])}", False


def of_factor(arm: Arm, factor: str) -> str:
    return canonical({key: value for key, value in arm.items() if key == factor or key.startswith(f"{factor}.")})


def in_a_list(names: Sequence[str]) -> str:
    """
    >>> in_a_list(["a"]), in_a_list(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
