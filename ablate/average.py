"""Averages of the weights over the steps, with which a run is evaluated while training goes on with its own weights."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Average(Protocol):
    """Interface of an averaging option. Its state is None before the first update, and can be saved by torch."""

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: Any) -> Any:
        """Return the state after the update of step t, given the trained parameters and the state before it."""
        ...

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: Any) -> AbstractContextManager[None]:
        """Return a context in which the trained parameters have the averaged values."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Evaluates the weights themselves."""

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: None) -> None:
        return None

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: None) -> AbstractContextManager[None]:
        return nullcontext()
