"""Charts of a comparison: the change of every cell with its interval, and the repeats behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.comparison.document import Compared, Comparison, MetricComparison
from bench.analysis.comparison.words import METRIC_LABELS
from bench.report.svg import GRID, INK, inline_svg, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forest_chart", "sides_chart"]

WIDTH = 9.6
DECIDING = ("throughput_bytes_per_second", "stall_ratio")
COLOURS = {
    "regressed": "#d55e00",
    "improved": "#009e73",
    "equivalent": "#0072b2",
    "inconclusive": "#8a8f96",
}
MARKERS = {"regressed": "v", "improved": "^", "equivalent": "o", "inconclusive": "D"}
"""Told apart without colour too."""

BASELINE = "#8a8f96"
CANDIDATE = "#0072b2"
FACTORS = {"bytes_per_second": 1e-9, "ratio": 100.0}
UNITS = {"bytes_per_second": "GB/s", "ratio": "% of the time"}
MAX_LABEL = 46


def forest_chart(comparison: Comparison, *, most: int) -> str:
    """Draw each cell's change with its interval and the margin, worst first as in the table.

    Args:
        comparison: The document.
        most: Cells that are drawn.

    Returns:
        An SVG element; empty where no cell has figures.
    """
    cells = [cell for cell in comparison.cells if _metric(cell, DECIDING[0])][:most]
    if not cells:
        return ""
    names = [name for name in DECIDING if any(_metric(cell, name) for cell in cells)]
    with style():
        figure = new_figure(WIDTH, 1.25 + 0.34 * len(cells))
        rows = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(rows, names, strict=True):
            _forest(axes, cells, name)
        rows[0].set_yticks(range(len(cells)), [_label(cell) for cell in cells])
        rows[0].set_ylim(len(cells) - 0.4, -0.6)
        _legend(rows[0], cells)
        return inline_svg(figure, name="forest", label="Change of every cell with its interval")


def _forest(axes: Axes, cells: Sequence[Compared], name: str) -> None:
    reach = [1.0]
    for position, cell in enumerate(cells):
        metric = _metric(cell, name)
        if metric is None:
            continue
        colour = COLOURS[metric.verdict or "inconclusive"]
        if metric.low is not None and metric.high is not None:
            axes.hlines(position, 100 * metric.low, 100 * metric.high, color=colour, linewidth=2)
            reach += [abs(100 * metric.low), abs(100 * metric.high)]
        marker = MARKERS[metric.verdict or "inconclusive"]
        axes.plot([100 * metric.effect], [position], marker, color=colour, markersize=7)
        reach.append(abs(100 * metric.effect))
    known = next(m for cell in cells if (m := _metric(cell, name)) is not None)
    if known.margin is not None:
        edge = abs(100 * known.margin)
        axes.axvspan(-edge, edge, color=GRID, alpha=0.45, linewidth=0)
        reach.append(1.3 * edge)
    axes.axvline(0, color=INK, linewidth=1)
    limit = 1.08 * min(max(reach), 1.5 * sorted(reach)[-2] if len(reach) > 2 else max(reach))
    axes.set_xlim(-limit, limit)
    axes.grid(axis="y", visible=False)
    unit = "%" if known.scale == "ratio" else "points"
    better = "right" if known.lower_is_worse else "left"
    axes.set_title(f"{METRIC_LABELS[name]}: change, {unit} ({better} is better)")


def _legend(axes: Axes, cells: Sequence[Compared]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    used = [v for v in COLOURS if any(m.verdict == v for cell in cells for m in cell.metrics)]
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS[v], marker=MARKERS[v], linewidth=2, label=v) for v in used
    ]
    entries.append(Patch(facecolor=GRID, alpha=0.45, label="within the margin"))
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.legend(handles=entries, loc="outside upper left", ncols=6)


def sides_chart(comparison: Comparison, *, most: int) -> str:
    """Draw the repeats of both sides, one row a cell, from zero.

    Returns:
        An SVG element; empty where no cell has figures.
    """
    cells = [cell for cell in comparison.cells if _metric(cell, DECIDING[0])][:most]
    if not cells:
        return ""
    names = [name for name in DECIDING if any(_metric(cell, name) for cell in cells)]
    with style():
        figure = new_figure(WIDTH, 1.25 + 0.5 * len(cells))
        rows = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(rows, names, strict=True):
            _sides(axes, cells, name)
        rows[0].set_yticks(range(len(cells)), [_label(cell) for cell in cells])
        rows[0].set_ylim(len(cells) - 0.4, -0.6)
        handles, labels = rows[0].get_legend_handles_labels()
        figure.legend(handles[:2], labels[:2], loc="outside upper left", ncols=2)
        return inline_svg(figure, name="sides", label="Repeats of both sides")


def _sides(axes: Axes, cells: Sequence[Compared], name: str) -> None:
    top, unit = 0.0, ""
    for position, cell in enumerate(cells):
        metric = _metric(cell, name)
        if metric is None or cell.baseline is None or cell.candidate is None:
            continue
        factor, unit = FACTORS[metric.unit], UNITS[metric.unit]
        for side, estimate, shift, colour, label in (
            (cell.baseline, metric.baseline, -0.17, BASELINE, "baseline"),
            (cell.candidate, metric.candidate, 0.17, CANDIDATE, "candidate"),
        ):
            values = [factor * value for value in side.values[name]]
            at = position + shift
            axes.plot(
                values,
                [at] * len(values),
                "o",
                color=colour,
                markersize=4.5,
                alpha=0.75,
                label=label,
                linestyle="none",
            )
            axes.plot(
                [factor * estimate.estimate],
                [at],
                "|",
                color=INK,
                markersize=12,
                markeredgewidth=1.6,
            )
            ends = [estimate.low, estimate.high]
            if ends[0] is not None and ends[1] is not None:
                axes.hlines(at, factor * ends[0], factor * ends[1], color=INK, linewidth=1)
            top = max([top, *values, *(factor * end for end in ends if end is not None)])
    axes.set_xlim(0, 1.05 * top if top > 0 and math.isfinite(top) else 1)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"{METRIC_LABELS[name]}, {unit}")


def _metric(cell: Compared, name: str) -> MetricComparison | None:
    return next((metric for metric in cell.metrics if metric.name == name), None)


def _label(cell: Compared) -> str:
    words = cell.label
    return words if len(words) <= MAX_LABEL else f"{words[: MAX_LABEL - 3]}..."
