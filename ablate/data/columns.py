"""The columns of a data file that a task reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Columns:
    """Names of columns: of the text, or of both texts of a pair; of the labels; of the groups. None: there is none.

    kind  kind of the task, which decides what a text and a label are
    """

    text: tuple[str, ...]
    label: str | None
    cluster: str | None = None
    kind: str = "classification"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (*self.text, self.label, self.cluster) if name is not None)

    def parts(self, row: Sequence[Any]) -> tuple[Sequence[Any], Any, Any]:
        """The texts, label and group of a row that has the values of `names`; None for a column that is not read.

        >>> Columns(("one", "two"), "y").parts(["a", "b", 1])
        (['a', 'b'], 1, None)
        """
        rest = iter(row[len(self.text) :])
        label = next(rest) if self.label is not None else None
        return row[: len(self.text)], label, next(rest) if self.cluster is not None else None


def task_columns(text: str | Sequence[str], label: str | None, cluster: str | None, kind: str) -> Columns:
    """The columns that `data.text`, `data.label` and `data.cluster` name, for a task of this kind.

    Raises ValueError where the task needs other ones. Language modelling reads no labels.
    """
    texts = (text,) if isinstance(text, str) else tuple(text)
    if len(texts) > 1 and kind in ("token_classification", "causal_lm"):
        raise ValueError(f"data.text must name one column for task={kind} (got {', '.join(texts)})")
    if kind == "causal_lm":
        if cluster is not None:
            raise ValueError(
                f"data.cluster must be null for task={kind}, whose blocks of tokens mix texts (got {cluster})"
            )
        return Columns(texts, None, None, kind)
    if label is None:
        raise ValueError(f"data.label must be the name of the column of labels for task={kind} (got null)")
    return Columns(texts, label, cluster, kind)
