"""A clipping rule of a user's own, with state."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """Clip at `threshold` times the mean of the norms so far."""

    threshold: float

    def scale(self, norm: float, t: int, state: dict | None) -> tuple[float, dict]:
        seen = state or {"sum": 0.0, "count": 0}
        seen = {"sum": seen["sum"] + norm, "count": seen["count"] + 1}
        limit = self.threshold * seen["sum"] / seen["count"]
        return limit / max(norm, limit), seen
