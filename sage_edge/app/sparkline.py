"""A small chart of the last two minutes as SVG: one line, one area, and words for those who do not see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from sage_edge.core.status import HISTORY_SECONDS, Series

WIDTH, HEIGHT = 240, 56
TOP = 4
"""Left free above the highest value, for the line's own thickness."""


def draw(title: str, series: Series, show: Callable[[float | None], str]) -> Markup:
    """Draw it; the latest value is at the right edge, whatever there is of the past.

    Args:
        title: what is charted.
        series: its values.
        show: a value with its unit.
    """
    known = [value for value in series if value is not None]
    highest = max(known, default=0.0)
    lines = [_points(run, highest) for run in _runs(series)]
    most = show(highest) if known else ""
    label = f"{title} over the last two minutes: highest {most or 'none'}"
    shapes = Markup("".join(_shapes(points) for points in lines))  # noqa: S704  # numbers alone
    return Markup(
        '<div class="chart"><span aria-hidden="true">{}</span>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg></div>'
    ).format(most, WIDTH, HEIGHT, label, shapes)


def _runs(series: Series) -> list[list[tuple[int, float]]]:
    """The pieces without a gap, each value with its place from the right edge."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(series, HISTORY_SECONDS - len(series)):
        if value is not None:
            runs[-1].append((place, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _points(run: Sequence[tuple[int, float]], highest: float) -> list[tuple[float, float]]:
    step = WIDTH / max(1, HISTORY_SECONDS - 1)
    scale = (HEIGHT - TOP) / highest if highest else 0.0
    return [(place * step, HEIGHT - value * scale) for place, value in run]


def _shapes(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:  # a single second would be no line
        points = [(points[0][0] - WIDTH / HISTORY_SECONDS, points[0][1]), points[0]]
    path = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    left, right = points[0][0], points[-1][0]
    return (
        f'<path class="area" d="M{left:.1f},{HEIGHT} L{path} L{right:.1f},{HEIGHT} Z"/><path class="line" d="M{path}"/>'
    )
