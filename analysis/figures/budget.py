"""The figure of tuned claims: the best validation value that an arm can be expected to reach, by number of trials."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.schema import TASKS
from analysis.claims.contrast import ROLES_OF_ARMS
from analysis.claims.contrasts import Tuned
from analysis.claims.finding import Finding, with_parts
from analysis.claims.reading import Claims
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.panels import HEIGHT, WIDE, WIDTH
from analysis.figures.style import LineStyle, add_legend, legend_for, line_styles, literal, plain_axis, wrapped
from analysis.quantities.registry import REGISTRY, of_kind
from analysis.records.arms import words

BUDGET_COLUMNS = ("id", "statement", "quantity", "arm", "budget", "expected_best")

SIDE_BY_SIDE = 3
"""Most panels in a row."""


def best_by_budget(findings: Sequence[Finding], claims: Claims | None = None) -> Contents:
    """Expected best validation value against the number of trials: a panel per tuned claim, a line per arm.

    Raises NotDrawable where no claim is tuned, or none of these is judged yet.
    """
    data = pd.DataFrame(budget_rows(findings), columns=list(BUDGET_COLUMNS))
    if data.empty:
        tuned = [] if claims is None else [q.id for q in claims.questions if isinstance(q.contrast, Tuned)]
        waiting = f"no effect of a tuned claim is shown yet ({', '.join(tuned)})"
        raise NotDrawable(waiting if tuned else "no claim is tuned (contrast: tuned)")
    panels = [part for _, part in data.groupby("id", sort=False)]
    columns = min(SIDE_BY_SIDE, len(panels))
    rows, width = math.ceil(len(panels) / columns), WIDTH if columns < SIDE_BY_SIDE else WIDE
    style_of = line_styles(data["arm"])
    kind = claims.kind if claims else TASKS[0]
    legend = legend_for(style_of, width)
    figure = Figure((width, rows * HEIGHT + legend.height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, part in zip(axes, panels, strict=False):
        draw_budgets(part, ax, style_of, kind)
        literal(ax.set_title(wrapped(title_of(part), int(12 * width / columns))))  # 12 characters per inch
    for ax in axes[len(panels) :]:
        ax.remove()
    add_legend(figure, legend)
    caption = (
        "Expected best validation value of an arm by budget, the number of trials: points of the claim's grid, drawn "
        "with replacement from those that were run (Dodge et al. 2019); mean over seeds. The last point has as many "
        "trials as the grid has points. If the lines cross, which arm is better depends on how much each is tuned."
    )
    return caption, data, figure


def budget_rows(findings: Sequence[Finding]) -> Iterator[tuple[object, ...]]:
    """The rows of the figure's data; shares in per cent. An exploratory line repeats its claim and has none."""
    for finding in with_parts(findings):
        if "validation" in finding.details and not finding.exploratory:
            quantity = REGISTRY[finding.details["validation"]]
            factor = 100 if quantity.scale == "points" else 1
            for role, arm in zip(ROLES_OF_ARMS, (finding.treatment, finding.control), strict=True):
                for budget, value in enumerate(finding.details[role]["by_budget"], 1):
                    yield finding.id, finding.statement, quantity.name, words(arm or {}), budget, factor * value


def draw_budgets(part: pd.DataFrame, ax: Axes, style_of: Mapping[str, LineStyle], kind: str = TASKS[0]) -> Axes:
    """Draw one claim's expected best values: one line per arm."""
    for arm, line in part.groupby("arm", sort=False):
        style = style_of[arm]
        look = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markersize": 4.5}
        ax.plot(line["budget"], line["expected_best"], label=arm, **look)
    quantity = of_kind(REGISTRY[part["quantity"].iloc[0]], kind)
    ax.set(xlabel="budget (trials)", ylabel=f"expected best\n{quantity.axis_label}")
    most = int(part["budget"].max())
    ax.set_xticks(range(1, most + 1, math.ceil(most / 10)))
    plain_axis(ax.yaxis)
    return ax


def title_of(part: pd.DataFrame) -> str:
    """The id and the statement of a claim; the id of a part may end in its statement."""
    name, statement = part[["id", "statement"]].iloc[0]
    return name if name.endswith(statement) else f"{name}: {statement}"
