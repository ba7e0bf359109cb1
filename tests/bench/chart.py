"""The chart: a panel for each load, a bar for each server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from tests.bench.rounds import Result
from tests.bench.table import FIGURES, show

_COLOURS = {"edge": "#1f6f8b", "edge-trio": "#1f6f8b"}
_OTHERS = "#b8c4c9"


def draw(results: Sequence[Result], file: Path) -> None:
    """Write the chart as a picture. Each panel shows the first figure of its load."""
    mpl.use("Agg")
    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(6 * columns, 3.4 * rows), squeeze=False)
    for panel in panels.flat[len(results) :]:
        panel.axis("off")
    for panel, result in zip(panels.flat, results, strict=False):
        first = FIGURES[result.load.figures[0]]
        names = [row.server for row in result.rows]
        values = [row.figure(result.load.figures[0]) for row in result.rows]
        bars = panel.barh(
            names, [value or 0 for value in values], color=[_COLOURS.get(name, _OTHERS) for name in names]
        )
        panel.bar_label(
            bars, [show(value) if value is not None else "failed" for value in values], padding=3, fontsize=8
        )
        direction = "more is better" if first.more_is_better else "less is better"
        panel.set_title(f"{result.load.name}: {first.heading.format(unit=result.load.unit)} ({direction})", fontsize=9)
        panel.invert_yaxis()
        panel.margins(x=0.18)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
