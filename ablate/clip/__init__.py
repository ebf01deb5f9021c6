"""Gradient clipping: rules that act on the gradient of a step before the optimizer does.

A `NormRule` turns the norm of the whole gradient into the factor by which the gradient is multiplied. A `GradientRule`
changes the gradient's tensors in place; the norm after it is measured.

protocols      the two interfaces, and the checked call of a rule on the norm
norm_rules     rules on the global norm
tensor_rules   rules on the gradient's tensors
windows        rules that act from a step on, or up to a step: they contain another rule of either kind

A rule on the global norm is a fold over norms: `scale` takes the norm of step t and the rule's state after the previous
step, and returns the factor and the next state. The state starts as None, is plain data (so that it can be saved), and
depends only on the norms seen so far (so that the rule can be replayed over the records of a run).

    >>> Fixed(threshold=1.0).scale(norm=4.0, t=1, state=None)
    (0.25, None)
    >>> Delayed(start=50, rule=Fixed()).scale(norm=4.0, t=49, state=None)
    (1.0, None)

To write your own rule, define a class with such a `scale`; the README has an example.
"""

from ablate.clip.norm_rules import AutoClip, Fixed, Nothing, Soft, ZClip
from ablate.clip.protocols import GradientRule, NormRule, apply, check_rule, checked_scale, rule_name
from ablate.clip.tensor_rules import AdaGC, AdaptiveClip, Normalize, PerRole, PerTensor, Value
from ablate.clip.windows import Delayed, DelayedGradientRule, Until, UntilGradientRule

__all__ = [
    "AdaGC",
    "AdaptiveClip",
    "AutoClip",
    "Delayed",
    "DelayedGradientRule",
    "Fixed",
    "GradientRule",
    "NormRule",
    "Normalize",
    "Nothing",
    "PerRole",
    "PerTensor",
    "Soft",
    "Until",
    "UntilGradientRule",
    "Value",
    "ZClip",
    "apply",
    "check_rule",
    "checked_scale",
    "rule_name",
]
