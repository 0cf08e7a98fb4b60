"""The chart of a cell's history: runs, levels, change points, environment changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.comparison.words import METRIC_LABELS
from bench.analysis.history import Series
from bench.report.svg import GRID, INK, inline_svg, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["series_chart"]

WIDTH = 9.6
RUNS = "#0072b2"
WORSE, BETTER = "#d55e00", "#009e73"
FACTORS = {"bytes_per_second": 1e-9, "ratio": 100.0}
UNITS = {"bytes_per_second": "GB/s", "ratio": "% of the time"}
MAX_TICKS = 8
MAX_MARKS = 12


def series_chart(series: Sequence[Series], *, name: str) -> str:
    """Draw the figures of one cell over its runs, one panel a figure, from zero.

    Args:
        series: Of one cell, throughput before stall.
        name: Of the drawing, unlike that of any other on the page.
    """
    with style():
        figure = new_figure(WIDTH, 0.7 + 1.9 * len(series))
        rows = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
        for axes, one in zip(rows, series, strict=True):
            _panel(axes, one)
        _marks(rows[0], series[0])
        points = series[0].points
        step = max(1, -(-len(points) // MAX_TICKS))
        ticks = range(0, len(points), step)
        rows[-1].set_xticks(list(ticks), [points[i].created_at[:10] for i in ticks])
        rows[-1].set_xlim(-0.7, len(points) - 0.3)
        rows[-1].set_xlabel("runs in the order of time")
        return inline_svg(figure, name=name, label=f"History of {series[0].key.workload}")


def _panel(axes: Axes, series: Series) -> None:
    factor = FACTORS[series.unit]
    values = [factor * point.estimate.estimate for point in series.points]
    for position, point in enumerate(series.points):
        if point.estimate.low is not None and point.estimate.high is not None:
            low, high = factor * point.estimate.low, factor * point.estimate.high
            axes.vlines(position, low, high, color=RUNS, linewidth=1, alpha=0.45)
    axes.plot(range(len(values)), values, "o", color=RUNS, markersize=4, linestyle="none")
    edges = [0, *(change.index for change in series.changes), len(values)]
    levels = [series.changes[0].before if series.changes else sum(values) / len(values) / factor]
    levels += [change.after for change in series.changes]
    for start, end, level in zip(edges, edges[1:], levels, strict=False):
        axes.hlines(factor * level, start - 0.5, end - 0.5, color=INK, linewidth=1.4)
    for one in series.environment:
        axes.axvline(one.index - 0.5, color=GRID, linewidth=1.2, linestyle=(0, (4, 3)))
    for change in series.changes:
        colour = WORSE if change.is_worse else BETTER
        axes.axvline(change.index - 0.5, color=colour, linewidth=1.6)
        is_ratio = series.unit == "bytes_per_second"
        words = (
            f"{100 * change.effect:+.1f} %" if is_ratio else f"{100 * change.effect:+.1f} points"
        )
        axes.annotate(
            words,
            (change.index - 0.5, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            fontweight="bold",
        )
    highs = [factor * (p.estimate.high or p.estimate.estimate) for p in series.points]
    top = max(*values, *sorted(highs)[: max(1, len(highs) - 1)])
    axes.set_ylim(0, 1.2 * top or 1.0)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"{METRIC_LABELS[series.metric]}, {UNITS[series.unit]}")


def _marks(axes: Axes, series: Series) -> None:
    """Name what changed at the dashed lines, as far as there is room."""
    if len(series.environment) > MAX_MARKS:
        return
    for one in series.environment:
        themes = list(dict.fromkeys(d.path.partition(".")[0] for d in one.differences))
        axes.annotate(
            ", ".join(themes),
            (one.index - 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            fontsize=8,
        )
