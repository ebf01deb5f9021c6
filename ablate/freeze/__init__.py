"""Freezing: which parameters a run trains. θ is the disjoint union of θ_frozen and θ_trained.

freezing   the interfaces of rules, and the freezing of a model by them
rules      the rules

A rule may change the set during the run (`FreezeSchedule`). A parameter that is frozen at a step gets no gradient and
no update in it; the optimizer's state for it begins with its first update, and rests while it is frozen.
"""

from ablate.freeze.freezing import (
    FittedRule,
    FreezeRule,
    FreezeSchedule,
    Freezing,
    Rule,
    fit_rule,
    freeze,
    freezes,
    frozen_names,
)
from ablate.freeze.rules import (
    AllBut,
    Blocks,
    FirstLayers,
    Gradual,
    LastLayers,
    NamePattern,
    Nothing,
    ProbeFirst,
    RandomTensors,
    TopDown,
    layer_count,
)

__all__ = [
    "AllBut",
    "Blocks",
    "FirstLayers",
    "FittedRule",
    "FreezeRule",
    "FreezeSchedule",
    "Freezing",
    "Gradual",
    "LastLayers",
    "NamePattern",
    "Nothing",
    "ProbeFirst",
    "RandomTensors",
    "Rule",
    "TopDown",
    "fit_rule",
    "freeze",
    "freezes",
    "frozen_names",
    "layer_count",
]
