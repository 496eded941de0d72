"""Common parts of the plots of reports: style, colours, placement of labels, Pareto front."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

INK, FAINT = "#2d3748", "#cbd5e0"
# For data without a colour of its own; neighbours differ in hue.
PALETTE = (
    "#4a5568",
    "#2b6cb0",
    "#c05621",
    "#2f855a",
    "#6b46c1",
    "#c53030",
    "#0987a0",
    "#b7791f",
    "#b83280",
    "#276749",
)


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title, the labels and the style of a panel."""
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=12)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(color="#edf2f7", linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def label_places(
    points: Mapping[str, tuple[float, float]], width: float, away: float, gap: float
) -> dict[str, tuple[float, float]]:
    """Place labels right of their points, as near as possible without covering a point or another label.

    Args:
        points: name -> point.
        width: width of a label.
        away: distance of a label from its point.
        gap: minimum distance of labels in y.

    Returns:
        name -> left end of the label.
    """
    places: dict[str, tuple[float, float]] = {}

    def is_free(x: float, y: float) -> bool:
        labels = all(abs(y - other[1]) >= gap or abs(x - other[0]) >= width for other in places.values())
        return labels and not any(x <= px <= x + width and abs(y - py) < gap / 2 for px, py in points.values())

    for name in sorted(points, key=lambda name: points[name]):
        x, y = points[name][0] + away, points[name][1]
        steps = sorted(range(-4 * len(points), 4 * len(points) + 1), key=abs)
        places[name] = next(((x, y + gap * step / 4) for step in steps if is_free(x, y + gap * step / 4)), (x, y))
    return places


def pareto_front(points: Mapping[str, tuple[float, float]], higher_is_better: bool) -> list[str]:
    """Return the Pareto front of points, cheapest first.

    Args:
        points: name -> (cost, score).
        higher_is_better: of the scores.

    Returns:
        The names of the points that no other point matches in one value and beats in the other.
    """
    front: list[str] = []
    sign = -1 if higher_is_better else 1
    for name in sorted(points, key=lambda name: (points[name][0], sign * points[name][1])):
        if not front or sign * points[name][1] < sign * points[front[-1]][1]:
            front.append(name)
    return front
