"""Skips last-layer computation for tokens that the head ignores.

BERT's classifier reads only the first token of the last layer. After attention, that layer's work on the other tokens
(projection, norm, MLP) changes neither a logit nor a gradient. Skipping it saves a tenth of a step with six layers.
Power-BERT drops tokens with a small effect, layer by layer (Goyal et al. 2020, 2001.08950); these have no effect.
"""

from torch import Tensor, nn

from ablate.model.parameter_roles import last_after_attention

READ_BY_HEAD = ("classification", "regression")
"""Kinds of task whose head reads one token of the last layer; others read all tokens."""


def skip_unread(model: nn.Module) -> None:
    """Let the last layer continue after its attention with the first token only: [B, T, H] -> [B, 1, H].

    Logits and gradients stay the same up to rounding. The last layer's dropout draws fewer numbers, so later dropout
    masks differ. A model whose head reads another token, or all tokens, is not changed.
    """
    path = last_after_attention(name for name, _ in model.named_modules())
    if path is not None:
        model.get_submodule(path).register_forward_pre_hook(first_token)


def first_token(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook: reduces each input [B, T, H] to its first token [B, 1, H]."""
    return tuple(x[:, :1] for x in inputs)
