"""What a study claims, as a claims file says it: written down in YAML before the study runs.

    seeds: 10
    claims:
      B:
        statement: clipping raises the accuracy
        quantity: test_accuracy       # any name of analysis.quantities.registry
        scale: points                 # raw | points | log | logit
        treatment: {clip: fixed}      # an arm by its settings, or by a name given under `arms`
        control: {clip: none}
        changes: [clip]               # in all else the arms have to be equal
        direction: above              # above | below | either: where treatment - control lies
        smallest_effect: 3            # 3 points; on log and logit a ratio

conf/claims/paper.yaml explains every key. What is wrong raises a ValueError that names file, claim, key, value and
what is allowed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analysis.claims import values
from analysis.claims.contrasts import CONTRASTS, Contrast, Settings
from analysis.claims.verdict_rule import Direction
from analysis.quantities.registry import run_quantities
from analysis.records.arms import is_under, overlaid, varying
from analysis.stats.scales import SCALES

FILE_KEYS = ("seeds", "looks", "command", "arms", "within", "claims")
CLAIM_KEYS = ("section", "seeds", "parts", "beside")
QUESTION_KEYS = (
    *("statement", "quantity", "scale", "contrast", "treatment", "control", "within", "changes"),
    *("direction", "smallest_effect"),
)
CONTRAST_KEYS = {
    "reference": values.number,
    "tolerance": values.size,
    "over": values.grid,
    "at_least": values.count,
    "above": values.size,
}
"""What contrasts add to a claim, each only its own."""

DIRECTIONS = {direction.name.lower(): direction for direction in Direction}


@dataclass(frozen=True)
class Question:
    """One quantity of one contrast of arms.

    within     settings that all its arms have, unless treatment or control say otherwise
    changes    keys in which the arms may differ, with all settings below them
    smallest   the smallest effect of interest: a size > 0 on the scale, in the claimed direction
    """

    id: str
    statement: str
    quantity: str
    scale: str
    contrast: Contrast
    treatment: Settings
    control: Settings | None
    within: Settings
    changes: tuple[str, ...]
    direction: Direction
    smallest: float | None

    @property
    def measured(self) -> str:
        """The quantity that each of its runs is measured by."""
        return self.contrast.measures or self.quantity


@dataclass(frozen=True)
class Claim:
    """A claim says all that its `questions` say; those `beside` it are shown with it and not judged."""

    id: str
    statement: str
    section: str | None
    seeds: int
    questions: tuple[Question, ...]
    beside: tuple[Question, ...]

    @property
    def is_tested(self) -> bool:
        return any(question.contrast.tested for question in self.questions)


@dataclass(frozen=True)
class Claims:
    """A claims file. `looks`: numbers of seeds at which it plans to be judged; `command`: what runs the study."""

    name: str
    sha256: str
    command: str
    looks: tuple[int, ...]
    claims: tuple[Claim, ...]

    @property
    def judged(self) -> int:
        """Number of tested claims × planned looks: α is shared equally among them."""
        return sum(claim.is_tested for claim in self.claims) * len(self.looks)

    @property
    def questions(self) -> tuple[Question, ...]:
        return tuple(question for claim in self.claims for question in (*claim.questions, *claim.beside))


def read_claims(path: Path) -> Claims:
    """Read and check a claims file."""
    path = Path(path)
    try:
        content = path.read_bytes()
        # OmegaConf's YAML: 1e-4 is a number, and a key that stands twice an error
        data = OmegaConf.to_container(OmegaConf.create(content.decode()), resolve=True, throw_on_missing=True)
    except OSError as error:
        raise ValueError(f"{path}: the claims file cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: the claims file is no valid YAML: {error}") from error
    with values.within(f"{path}: "):
        return claims_of(data, path.stem, hashlib.sha256(content).hexdigest())


def claims_of(data: Any, name: str, sha256: str) -> Claims:
    """A claims file's content, checked."""
    data = values.mapping("the file", data, FILE_KEYS)
    seeds = values.count("seeds", data.get("seeds"))
    looks = values.looks("looks", data.get("looks", [seeds]))
    named = values.mapping("arms", data.get("arms", {}))
    arms = {arm: values.settings(f"arms.{arm}", found) for arm, found in named.items()}
    # arms of another nuisance seed are controls: meant only where a claim says so
    within = {"nuisance": 0} | values.settings("within", data.get("within", {}))
    claims = []
    for key, entry in values.mapping("claims", data.get("claims", {})).items():
        with values.within(f"claim {key}: "):
            claims.append(claim_of(key, entry, seeds, arms, within))
    if not claims:
        raise values.refuse("claims", {}, "at least one claim is needed")
    command = values.text("command", data.get("command", "python -m ablate -m"))
    return Claims(name, sha256, command, looks, tuple(claims))


def claim_of(key: str, entry: Any, seeds: int, arms: Mapping[str, Settings], within: Settings) -> Claim:
    entry = values.mapping("it", entry, (*CLAIM_KEYS, *QUESTION_KEYS, *CONTRAST_KEYS))
    own = {k: v for k, v in entry.items() if k not in CLAIM_KEYS}
    parts, beside = (values.sequence(name, entry.get(name, [])) for name in ("parts", "beside"))
    named = [(f"{key}.{i}", part) for i, part in enumerate(parts, 1)] or [(key, {})]
    questions = [question_of(name, inherited(own, part), arms, within) for name, part in named]
    if not all(question.contrast.judged for question in questions):
        raise values.refuse("contrast", own.get("contrast"), "what has no test is allowed under `beside` only")
    bare = {k: v for k, v in own.items() if k != "smallest_effect"}  # which is of what is claimed
    shown = [question_of(f"{key}+{i}", inherited(bare, part), arms, within) for i, part in enumerate(beside, 1)]
    return Claim(
        id=key,
        statement=values.text("statement", own.get("statement")),
        section=None if entry.get("section") is None else str(entry["section"]),
        seeds=values.count("seeds", entry.get("seeds", seeds)),
        questions=tuple(questions),
        beside=tuple(shown),
    )


def inherited(own: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """A part's keys over the claim's own: `within` adds to the claim's, and what suits the claim's alone stays out."""
    part = values.mapping("a part", part, (*QUESTION_KEYS, *CONTRAST_KEYS))
    left = dict(own)
    if {"quantity", "scale", "contrast"} & part.keys():
        left.pop("smallest_effect", None)
    if "contrast" in part:
        left = {k: v for k, v in left.items() if k not in CONTRAST_KEYS}
    inner = overlaid(*(values.mapping("within", keys.get("within", {})) for keys in (own, part)))
    return left | part | {"within": inner}


def question_of(key: str, keys: Mapping[str, Any], arms: Mapping[str, Settings], within: Settings) -> Question:
    word = values.one_of("contrast", keys.get("contrast", "paired"), CONTRASTS)
    kind = CONTRASTS[word]
    contrast = contrast_of(word, keys)
    scale = values.one_of("scale", keys.get("scale"), kind.scales or SCALES)
    treatment = arm_of("treatment", keys.get("treatment"), arms)
    control = arm_of("control", keys.get("control"), arms) if kind.control else None
    within = overlaid(within, values.settings("within", keys.get("within", {})))
    changes = values.setting_names("changes", keys.get("changes", [])) if kind.control else ()
    if control is not None:
        check_changes(overlaid(within, treatment), overlaid(within, control), changes)
    direction = keys.get("direction", None if kind.tested else "either")
    return Question(
        id=key,
        statement=values.text("statement", keys.get("statement")),
        quantity=kind.quantity or values.one_of("quantity", keys.get("quantity"), run_quantities()),
        scale=scale,
        contrast=contrast,
        treatment=treatment,
        control=control,
        within=within,
        changes=changes,
        direction=DIRECTIONS[values.one_of("direction", direction, DIRECTIONS)],
        smallest=size_of(keys.get("smallest_effect"), scale),
    )


def contrast_of(word: str, keys: Mapping[str, Any]) -> Contrast:
    own = [field.name for field in fields(CONTRASTS[word])]
    if foreign := [key for key in CONTRAST_KEYS if key in keys and key not in own]:
        raise values.refuse(foreign[0], keys[foreign[0]], f"contrast {word} has no such key")
    return CONTRASTS[word](**{name: CONTRAST_KEYS[name](name, keys.get(name)) for name in own})


def arm_of(key: str, value: Any, arms: Mapping[str, Settings]) -> Settings:
    """An arm by its name in `arms`, or by its settings."""
    if isinstance(value, str):
        if value not in arms:
            names = (
                f"a name under `arms`: {', '.join(arms)}" if arms else "a name under `arms`, where there is none yet"
            )
            raise values.refuse(key, value, f"settings are allowed, or {names}")
        return arms[value]
    return values.settings(key, value)


def check_changes(treatment: Settings, control: Settings, changes: tuple[str, ...]) -> None:
    """Raises ValueError unless the two differ in each of `changes` and in nothing else."""
    differ = sorted(varying([treatment, control]))
    if unsaid := [name for name in differ if not is_under(name, changes)]:
        raise values.refuse("changes", list(changes), f"treatment and control differ in {', '.join(unsaid)}, too")
    for name in changes:
        if not any(is_under(key, [name]) for key in differ):
            raise values.refuse("changes", list(changes), f"treatment and control do not differ in {name}")
    if not changes:
        raise values.refuse("changes", [], "what treatment and control differ in is needed")


def size_of(told: Any, scale: str) -> float | None:
    if told is None:
        return None
    with values.within(f"smallest_effect: {scale} scale: "):
        return SCALES[scale](1).size(values.number("smallest_effect", told))
