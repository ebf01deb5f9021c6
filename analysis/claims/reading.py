"""Reads claims files: what a study claims, written in YAML before the study runs.

    seeds: 10
    claims:
      B:
        statement: clipping raises the accuracy
        quantity: test_accuracy       # any name of analysis.quantities.registry
        scale: points                 # raw | points | log | logit
        treatment: {clip: fixed}      # an arm by its settings, or by its name under `arms`
        control: {clip: none}
        changes: [clip]               # all other settings of the arms must be equal
        direction: above              # above | below | either: where treatment - control lies
        smallest_effect: 3            # 3 points; a ratio on log and logit
        why: the gain that the method's authors report

conf/claims/paper.yaml explains every key. Mistakes raise a ValueError with the file, claim, key, rule and value.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config.checks import refusal
from ablate.config.secrets import leaves, resolvers
from ablate.files.reading import Damaged, read_regular
from ablate.schema import TASKS
from analysis.claims import values
from analysis.claims.comparison import Comparison, claims_on_data_sets, comparison_claims, comparison_of
from analysis.claims.contrasts import CONTRASTS, Contrast
from analysis.claims.estimand import Estimand, Settings
from analysis.claims.looks import OPEN, LookPlan
from analysis.claims.verdict_rule import Direction
from analysis.quantities.own_metrics import OwnMetrics, own_metrics
from analysis.quantities.recorded import of_table, use_quantities_of
from analysis.quantities.registry import (
    REGISTRY,
    Quantities,
    Quantity,
    no_examples,
    of_kind,
    run_quantities,
    use_quantities,
)
from analysis.records.arms import is_under, overlaid, varying
from analysis.records.study import ResultTable, Study
from analysis.stats.scales import SCALES
from analysis.stats.spending import SPENDINGS

FILE_KEYS = ("seeds", "looks", "spending", "command", "metrics", "arms", "within", "claims", "compare")
CLAIM_KEYS = ("section", "seeds", "requires", "parts", "beside")
QUESTION_KEYS = (
    *("statement", "quantity", "scale", "contrast", "treatment", "control", "within", "changes"),
    *("direction", "smallest_effect", "why"),
)
CONTRAST_KEYS = {
    "reference": values.finite_number,
    "tolerance": values.positive_number,
    "over": values.grid,
    "control_over": values.grid,
    "at_least": values.whole_number,
    "above": values.positive_number,
}
"""Keys that some contrasts add to a claim, with their checks; each contrast allows only its own."""

AUTO = "auto"
"""Name of the claims file that compares all arms: of a table of results, in all of its metrics."""

DIRECTIONS = {direction.name.lower(): direction for direction in Direction}


@dataclass(frozen=True)
class Question(Estimand):
    """A statement about one estimand, under one contrast.

    smallest   the smallest effect of interest: a size > 0 on the scale, in the claimed direction
    why        where the smallest effect comes from
    kind       the kind of task of the study, which units depend on
    """

    id: str
    statement: str
    contrast: Contrast
    direction: Direction
    smallest: float | None
    why: str | None
    kind: str = TASKS[0]

    @property
    def described(self) -> Quantity:
        """Its quantity, in the units of the study."""
        return of_kind(REGISTRY[self.quantity], self.kind)

    @property
    def measured(self) -> str:
        """The quantity that is measured of each run."""
        return self.contrast.measures or self.quantity


@dataclass(frozen=True)
class Claim:
    """A claim, which asserts all its `questions`; those in `beside` are shown with it and not judged.

    looks      when it is judged
    requires   settings of an arm that a study must have for the claim to be among the judged ones
    """

    id: str
    statement: str
    section: str | None
    looks: LookPlan
    requires: Settings
    questions: tuple[Question, ...]
    beside: tuple[Question, ...]

    @property
    def is_tested(self) -> bool:
        return any(question.contrast.tested for question in self.questions)


@dataclass(frozen=True)
class Claims:
    """A claims file. `looks`: when its claims are judged, unless they say otherwise; `command`: that of the study.

    compare   compares all arms of a study in place of claims, which `for_study` then writes
    metrics   the user's own
    """

    name: str
    sha256: str
    command: str
    looks: LookPlan
    claims: tuple[Claim, ...]
    compare: Comparison | None = None
    metrics: OwnMetrics = field(default_factory=OwnMetrics)

    @property
    def judged(self) -> int:
        """Number of claims that are tested, and so share alpha."""
        return sum(claim.is_tested for claim in self.claims)

    @property
    def kind(self) -> str:
        """The kind of task of the study that `for_study` wrote it for."""
        return next((question.kind for question in self.questions), TASKS[0])

    @property
    def questions(self) -> tuple[Question, ...]:
        return tuple(question for claim in self.claims for question in (*claim.questions, *claim.beside))


def read_claims(
    path: Path,
    allow: Sequence[str] = (),
    read: Callable[[Path], bytes] = read_regular,
    table: ResultTable | None = None,
) -> Claims:
    """Reads and checks a claims file. Raises ValueError for an unreadable file, bad YAML and wrong values.

    allow: modules whose functions may be metrics (`analysis.quantities.own_metrics`).
    table: the table of results that they are about, whose metrics they may name.
    """
    path = Path(path)
    try:
        content = read(path)
        # in the YAML of OmegaConf, 1e-4 is a number and a duplicate key is an error
        config = OmegaConf.create(content.decode())
        with values.prefixed(f"{path}: "):
            check_no_resolvers(OmegaConf.to_container(config, resolve=False))
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OSError as error:
        raise ValueError(f"{path}: the claims file cannot be read: {error.strerror}") from error
    except Damaged as error:
        raise ValueError(f"{path}: the claims file must be a regular file of at most 16 MiB (it is {error})") from error
    except (UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: the claims file is not valid YAML: {error}") from error
    with values.prefixed(f"{path}: "):
        return claims_of(data, path.stem, hashlib.sha256(content).hexdigest(), allow, of_table(table) if table else {})


def check_no_resolvers(content: Any) -> None:
    """Raise ValueError for `${oc.env:...}` and its like: reports show the claims, and they need no environment."""
    for key, value in leaves(content):
        for resolver, _ in resolvers(str(value)):
            raise ValueError(f"{key} must not read anything from outside the file (got ${{{resolver}:...}})")


def claims_of(
    data: Any, name: str, sha256: str, allow: Sequence[str] = (), known: Quantities = MappingProxyType({})
) -> Claims:
    """Checks the content of a claims file. `known`: the quantities of a study besides the shipped ones."""
    data = values.mapping("the file", data, FILE_KEYS)
    looks = look_plan(data)
    command = values.sentence("command", data.get("command", "python -m ablate -m"))
    metrics = own_metrics(data.get("metrics", {}), allow)
    use_quantities(known, metrics.quantities)
    if "compare" in data:
        if unused := [key for key in ("claims", "arms", "within") if key in data]:
            raise refusal(unused[0], data[unused[0]], "left out of a file with `compare`")
        return Claims(name, sha256, command, looks, (), comparison_of(data["compare"]), metrics)
    named = values.mapping("arms", data.get("arms", {}))
    arms = {arm: values.settings(f"arms.{arm}", found) for arm, found in named.items()}
    # arms with another nuisance seed are controls: a claim must ask for them
    within = {"nuisance": 0} | values.settings("within", data.get("within", {}))
    claims = []
    for key, entry in values.mapping("claims", data.get("claims", {})).items():
        with values.prefixed(f"claim {key}: "):
            claims.append(claim_of(key, entry, looks, arms, within))
    if not claims:
        raise refusal("claims", {}, "a mapping with at least one claim")
    return Claims(name, sha256, command, looks, tuple(claims), metrics=metrics)


def look_plan(data: Mapping[str, Any]) -> LookPlan:
    """The plan of looks: `seeds`, `looks` (a list of numbers of seeds, or open) and `spending`."""
    seeds = values.whole_number("seeds", data.get("seeds"))
    looks = data.get("looks", [seeds])
    planned = () if looks == OPEN else values.planned_looks("looks", looks)
    if "spending" in data and len(planned) < 2:
        raise refusal("spending", data["spending"], "left out where there are no two planned looks")
    return LookPlan(planned, values.one_of("spending", data.get("spending", SPENDINGS[0]), SPENDINGS), seeds)


def for_study(claims: Claims, study: Study) -> Claims:
    """The claims of a file for a study: those that its `compare` section comes to, in the units of its kind of task.

    Raises ValueError where no arm fits the reference.
    """
    use_quantities_of(study, claims.metrics.quantities)
    if claims.compare is not None:
        compare, entries = comparisons(claims, study)
        found = (claim_of(key, entry, claims.looks, {}, {}) for key, entry in entries.items())
        claims = replace(claims, compare=compare, claims=tuple(found))
    return replace(claims, claims=tuple(of_task(claim, study.kind) for claim in claims.claims))


def comparisons(claims: Claims, study: Study) -> tuple[Comparison, dict[str, dict[str, Any]]]:
    """The `compare` section for a study, and the claims that it comes to."""
    assert claims.compare is not None
    if study.table is None:
        compare = claims.compare.for_metric(study.primary)
        return compare, comparison_claims(compare, study.arms)
    metrics = [metric.quantity for metric in study.table.metrics] if claims.name == AUTO else []
    compare = claims.compare.for_table(study.primary, metrics)
    return compare, claims_on_data_sets(compare, study.arms, study.is_paired)


def of_task(claim: Claim, kind: str) -> Claim:
    """The claim on runs of a kind of task."""
    questions, beside = (
        tuple(replace(question, kind=kind) for question in found) for found in (claim.questions, claim.beside)
    )
    return replace(claim, questions=questions, beside=beside)


def claim_of(key: str, entry: Any, looks: LookPlan, arms: Mapping[str, Settings], within: Settings) -> Claim:
    entry = values.mapping("the claim", entry, (*CLAIM_KEYS, *QUESTION_KEYS, *CONTRAST_KEYS))
    own = {k: v for k, v in entry.items() if k not in CLAIM_KEYS}
    parts, beside = (values.list_of(name, entry.get(name, [])) for name in ("parts", "beside"))
    named = [(f"{key}.{i}", part) for i, part in enumerate(parts, 1)] or [(key, {})]
    questions = [question_of(name, inherited(own, part), arms, within) for name, part in named]
    if not all(question.contrast.judged for question in questions):
        raise refusal("contrast", own.get("contrast"), "one with a verdict, except under `beside`")
    bare = {k: v for k, v in own.items() if k not in ("smallest_effect", "why")}  # they belong to what is claimed
    shown = [question_of(f"{key}+{i}", inherited(bare, part), arms, within) for i, part in enumerate(beside, 1)]
    return Claim(
        id=key,
        statement=values.sentence("statement", own.get("statement")),
        section=None if entry.get("section") is None else str(entry["section"]),
        looks=look_plan(entry) if "seeds" in entry and not looks.is_open else looks,
        requires=values.settings("requires", entry.get("requires", {})),
        questions=tuple(questions),
        beside=tuple(shown),
    )


def inherited(own: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """A part's keys over the claim's own keys.

    `within` is added to the claim's. A part with another quantity, scale or contrast does not inherit the smallest
    effect, and one with another contrast does not inherit the keys of the claim's contrast.
    """
    part = values.mapping("a part", part, (*QUESTION_KEYS, *CONTRAST_KEYS))
    left = dict(own)
    if {"quantity", "scale", "contrast"} & part.keys():
        left = {k: v for k, v in left.items() if k not in ("smallest_effect", "why")}
    if "contrast" in part:
        left = {k: v for k, v in left.items() if k not in CONTRAST_KEYS}
    inner = overlaid(*(values.mapping("within", keys.get("within", {})) for keys in (own, part)))
    return left | part | {"within": inner}


def question_of(key: str, keys: Mapping[str, Any], arms: Mapping[str, Settings], within: Settings) -> Question:
    word = values.one_of("contrast", keys.get("contrast", "paired"), CONTRASTS)
    kind = CONTRASTS[word]
    contrast = contrast_of(word, keys)
    scale = values.one_of("scale", keys.get("scale"), kind.scales or SCALES)
    treatment = named_arm("treatment", keys.get("treatment"), arms)
    control = named_arm("control", keys.get("control"), arms) if kind.control else None
    within = overlaid(within, values.settings("within", keys.get("within", {})))
    changes = values.setting_names("changes", keys.get("changes", [])) if kind.control else ()
    if control is not None:
        check_changes(overlaid(within, treatment), overlaid(within, control), changes)
    direction = keys.get("direction", None if kind.tested else "either")
    return Question(
        id=key,
        statement=values.sentence("statement", keys.get("statement")),
        quantity=kind.quantity or chosen_quantity(kind, keys.get("quantity")),
        scale=scale,
        contrast=contrast,
        treatment=treatment,
        control=control,
        within=within,
        changes=changes,
        direction=DIRECTIONS[values.one_of("direction", direction, DIRECTIONS)],
        smallest=smallest_effect(keys.get("smallest_effect"), scale),
        why=justification(keys),
    )


def chosen_quantity(kind: type[Contrast], given: Any) -> str:
    """A quantity that a claim chooses. Raises ValueError for one that the contrast cannot use."""
    name = values.one_of("quantity", given, run_quantities())
    if kind.of_examples and REGISTRY[name].per_example is no_examples:
        allowed = [each for each in run_quantities() if REGISTRY[each].per_example is not no_examples]
        raise refusal("quantity", name, f"a mean over examples with contrast examples ({', '.join(allowed)})")
    return name


def contrast_of(word: str, keys: Mapping[str, Any]) -> Contrast:
    own = [field.name for field in fields(CONTRASTS[word])]
    if foreign := [key for key in CONTRAST_KEYS if key in keys and key not in own]:
        raise refusal(foreign[0], keys[foreign[0]], f"left out: contrast {word} has no such key")
    optional = [field.name for field in fields(CONTRASTS[word]) if field.default is not MISSING]
    given = [name for name in own if name in keys or name not in optional]
    return CONTRASTS[word](**{name: CONTRAST_KEYS[name](name, keys.get(name)) for name in given})


def named_arm(key: str, value: Any, arms: Mapping[str, Settings]) -> Settings:
    """The settings of an arm that is given by its name in `arms` or by its settings."""
    if not isinstance(value, str):
        return values.settings(key, value)
    if value not in arms:
        raise refusal(key, value, f"settings, or a name under `arms` ({', '.join(arms) or 'there is none yet'})")
    return arms[value]


def check_changes(treatment: Settings, control: Settings, changes: tuple[str, ...]) -> None:
    """Raises ValueError unless the two arms differ in each of `changes` and in nothing else."""
    differ = sorted(varying([treatment, control]))
    if missing := [name for name in differ if not is_under(name, changes)]:
        problem = f"complete: treatment and control also differ in {', '.join(missing)}"
        raise refusal("changes", list(changes), problem)
    for name in changes:
        if not any(is_under(key, [name]) for key in differ):
            problem = f"settings that differ: treatment and control do not differ in {name}"
            raise refusal("changes", list(changes), problem)
    if not changes:
        raise refusal("changes", [], "the settings in which treatment and control differ")


def justification(keys: Mapping[str, Any]) -> str | None:
    """Where the smallest effect comes from. Raises ValueError where a claim has one without the other."""
    if (keys.get("smallest_effect") is None) != (keys.get("why") is None):
        what = "a sentence on where smallest_effect comes from, and left out without smallest_effect"
        raise refusal("why", keys.get("why"), what)
    return None if keys.get("why") is None else values.sentence("why", keys["why"])


def smallest_effect(value: Any, scale: str) -> float | None:
    """The smallest effect of interest as a size on the scale; None where the claim names none."""
    if value is None:
        return None
    size = values.finite_number("smallest_effect", value)
    with values.prefixed(f"smallest_effect on the {scale} scale: "):
        return SCALES[scale](1).size(size)
