"""What the head does not read is not computed.

BERT's classifier reads the first token of the last layer. What that layer makes of the other tokens once attention has
looked at them (projection, norm, MLP) changes neither a logit nor a gradient, and is left out: in six layers that is a
tenth of a step. Power-BERT drops tokens that matter little, layer by layer (Goyal et al. 2020, 2001.08950); these
matter not at all.
"""

from torch import Tensor, nn

from ablate.model.parameter_roles import last_after_attention


def skip_unread(model: nn.Module) -> None:
    """Have the last layer go on after its attention with the first token only [B, T, H] -> [B, 1, H].

    Logits and gradients are the same to rounding. The last layer's dropout draws fewer numbers, so that the masks
    after it are others. A model whose head reads another token, or all, is left as it is.
    """
    path = last_after_attention(name for name, _ in model.named_modules())
    if path is not None:
        model.get_submodule(path).register_forward_pre_hook(first_token)


def first_token(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A pre-hook: of each input [B, T, H] the first token [B, 1, H]."""
    return tuple(x[:, :1] for x in inputs)
