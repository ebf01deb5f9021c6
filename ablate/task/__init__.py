"""The options of the group `task`: what a model learns to predict, its loss, and the metric that judges it.

    task=classification        a class of a text or a pair of texts; the default
    task=regression            a number
    task=token_classification  a label of each word
    task=causal_lm             the next token

A task's primary metric is chosen by its name: `task.primary=f1_macro`. `ablate.metrics` lists the metrics.
"""

from ablate.task.base import Scored, Task
from ablate.task.causal_lm import CausalLM
from ablate.task.classification import Classification
from ablate.task.regression import Regression
from ablate.task.token_classification import TokenClassification

__all__ = ["CausalLM", "Classification", "Regression", "Scored", "Task", "TokenClassification"]
