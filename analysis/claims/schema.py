"""The JSON Schema of claims files, conf/claims/schema.json: editors complete keys and mark mistakes with it.

    # yaml-language-server: $schema=schema.json

The reader (`analysis.claims.reading`) checks more than a schema can say. After a change of keys or quantities
write the file again: python -m analysis.claims.schema > conf/claims/schema.json
"""

import json
from typing import Any

from analysis.claims.comparison import PRIMARY_METRIC, QUANTITY_KEYS, USUAL
from analysis.claims.contrasts import CONTRASTS
from analysis.claims.looks import OPEN
from analysis.claims.reading import CLAIM_KEYS, CONTRAST_KEYS, DIRECTIONS, FILE_KEYS, QUESTION_KEYS
from analysis.quantities.own_metrics import METRIC_KEYS
from analysis.quantities.registry import REGISTRY, run_quantities
from analysis.stats.scales import SCALES
from analysis.stats.spending import SPENDINGS

DESCRIPTIONS: dict[str, str] = {
    "seeds": "paired seeds that a claim needs before it is judged",
    "looks": "numbers of seeds at which the study is judged, or open",
    "spending": "how several looks share alpha",
    "command": "what runs the study; arms and further seeds are added to it",
    "metrics": "metrics of your own: name -> a function with its module, such as my_metrics.cost",
    "arms": "names for arms, by their settings",
    "within": "settings that the arms have, unless a claim says otherwise",
    "claims": "the claims by their names",
    "compare": "compares every arm with a reference arm, in place of claims",
    "statement": "what is claimed, in words",
    "section": "where the text makes the claim",
    "quantity": "the one number that a run is reduced to",
    "scale": "the scale of differences and intervals",
    "contrast": "how the runs of a seed become one number; paired by default",
    "treatment": "an arm by its name or its settings",
    "control": "an arm by its name or its settings",
    "changes": "all that treatment and control may differ in",
    "direction": "where treatment - control lies if the claim is right",
    "smallest_effect": "the smallest effect worth the name: a difference on raw and points, a ratio on log and logit",
    "why": "where smallest_effect comes from; required with it",
    "requires": "settings of an arm without which the claim is not judged",
    "parts": "claims that say several things: all are required",
    "beside": "contrasts that are shown with the claim and not judged",
    "reference": "the number that a one-sample or exact claim is compared with",
    "tolerance": "how far an exact number may be from the reference",
    "over": "a grid: settings, each with its values",
    "control_over": "the control's own grid, with the keys of `over` and as many points",
    "at_least": "number of pretrained sizes that a claim on sizes needs",
    "above": "parameters that one of the sizes must exceed",
}
"""Key of a claims file -> its description."""

SETTINGS_TYPE: dict[str, Any] = {"type": "object"}
ARM_TYPE = {"anyOf": [{"type": "string"}, SETTINGS_TYPE]}
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
GRID_TYPE = {"type": "object", "additionalProperties": {"type": "array", "minItems": 2}}
COUNT = {"type": "integer", "minimum": 1}
OF_TEST = "^test_"
"""The names of quantities that metrics of the user's own can have."""

OWN_METRIC: dict[str, Any] = {"type": "object", "required": ["function"], "propertyNames": {"enum": list(METRIC_KEYS)}}

TYPES: dict[str, dict[str, Any]] = {
    "seeds": COUNT,
    "looks": {"anyOf": [{"type": "array", "items": COUNT, "minItems": 1}, {"const": OPEN}]},
    "spending": {"enum": list(SPENDINGS)},
    "arms": {"type": "object", "additionalProperties": SETTINGS_TYPE},
    "within": SETTINGS_TYPE,
    "requires": SETTINGS_TYPE,
    "metrics": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, OWN_METRIC]}},
    "quantity": {"anyOf": [{"enum": list(run_quantities())}, {"type": "string", "pattern": OF_TEST}]},
    "scale": {"enum": list(SCALES)},
    "contrast": {"enum": list(CONTRASTS)},
    "treatment": ARM_TYPE,
    "control": ARM_TYPE,
    "changes": {"type": "array", "items": {"type": "string"}},
    "direction": {"enum": list(DIRECTIONS)},
    "smallest_effect": POSITIVE,
    "section": {"type": ["string", "number"]},
    "reference": {"type": "number"},
    "tolerance": POSITIVE,
    "over": GRID_TYPE,
    "control_over": GRID_TYPE,
    "at_least": COUNT,
    "above": POSITIVE,
}
"""Key -> its type; all other keys are text."""


def schema() -> dict[str, Any]:
    """The schema as plain data (JSON Schema, draft 2020-12)."""
    question = properties(*QUESTION_KEYS, *CONTRAST_KEYS)
    together = {"smallest_effect": ["why"], "why": ["smallest_effect"]}
    part = object_of(question) | {"dependentRequired": together}
    listed = {name: described(name) | {"type": "array", "items": part} for name in ("parts", "beside")}
    claim = object_of(properties(*CLAIM_KEYS) | question | listed) | {"dependentRequired": together}
    scale = {"enum": [USUAL, *SCALES]}
    of_quantity = {"anyOf": [scale, object_of(properties(*QUANTITY_KEYS) | {"scale": described("scale") | scale})]}
    words = {PRIMARY_METRIC: "primary metric on the test split"} | {q: REGISTRY[q].words for q in run_quantities()}
    quantities = object_of({name: {"description": text} | of_quantity for name, text in words.items()})
    quantities["patternProperties"] = {OF_TEST: of_quantity}
    compare = object_of({"reference": {"type": ["object", "null"]}, "quantities": quantities})
    keys = properties(*FILE_KEYS) | {
        "claims": described("claims") | {"type": "object", "additionalProperties": claim, "minProperties": 1},
        "compare": described("compare") | compare | {"required": ["quantities"]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Claims of a study",
        **object_of(keys),
        "required": ["seeds"],
        "oneOf": [{"required": ["claims"]}, {"required": ["compare"]}],
    }


def object_of(keys: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": keys, "additionalProperties": False}


def properties(*names: str) -> dict[str, Any]:
    return {name: described(name) | TYPES.get(name, {"type": "string"}) for name in names}


def described(name: str) -> dict[str, Any]:
    return {"description": DESCRIPTIONS[name]}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
