"""The charts of a run's page; each takes finished series and returns an SVG element."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.analysis.causes import UNATTRIBUTED
from bench.analysis.series import Condensed, LatencyBins, Segment, Throughput
from bench.analysis.wording import duration
from bench.report.palette import COLOURS, HATCHES, KINDS, LABELS, REPEATS, REQUIRED
from bench.report.svg import GRID, INK, inline_svg, new_figure, style
from bench.results.schema import CAUSES, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "condensed_chart",
    "dots_chart",
    "latency_chart",
    "stall_chart",
    "throughput_chart",
    "window_chart",
]

WIDTH = 9.6
"""Inches; a page shows it at its own width."""

GB = 1e9
MAX_LEGEND = len(REPEATS)
MAX_TICKS = 14

MIN_SHARE = 0.002
"""Of a bin; less is not to be seen and needs no entry in the legend."""


def throughput_chart(series: Sequence[Throughput], *, required: float | None) -> str:
    """Draw the rate of arrival over time, one line a repeat, from zero.

    Args:
        series: One a repeat.
        required: Bytes per second that the accelerators need; None in unthrottled mode.
    """
    with style():
        figure = new_figure(WIDTH, 3.0)
        axes = figure.add_subplot()
        for position, one in enumerate(series):
            axes.stairs(
                one.rates / GB,
                one.edges,
                baseline=None,
                color=REPEATS[position % len(REPEATS)],
                linewidth=1.4,
                alpha=1.0 if len(series) <= MAX_LEGEND else 0.5,
                label=f"repeat {one.repeat}" if position < MAX_LEGEND else None,
            )
        if required is not None:
            axes.axhline(required / GB, color=REQUIRED, linewidth=1.4, linestyle=(0, (5, 3)))
            axes.annotate(
                f"needed: {required / GB:.3g} GB/s",
                (1, required / GB),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
            )
        axes.set_xlim(0, max(float(one.edges[-1]) for one in series))
        top = max(float(one.rates.max()) for one in series)
        axes.set_ylim(0, 1.12 * max(top, required or 0.0) / GB)
        axes.set_xlabel("seconds from the common start")
        axes.set_ylabel("GB/s arriving")
        figure.legend(loc="outside upper left", ncols=MAX_LEGEND)
        return inline_svg(figure, name="rate", label="Throughput over time, by repeat")


def condensed_chart(series: Sequence[tuple[int, Condensed]]) -> str:
    """Draw what the accelerator's time went into over the whole run, one strip a rank.

    Args:
        series: Rank and its shares.
    """
    with style():
        figure = new_figure(WIDTH, 0.9 + 1.15 * len(series))
        rows = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (rank, one) in zip(rows, series, strict=True):
            bottom = np.zeros(len(one.edges) - 1)
            for kind in KINDS:
                shares = one.shares.get(kind)
                if shares is None or not shares.any():
                    continue
                upper = bottom + shares
                axes.stairs(
                    100 * upper,
                    one.edges,
                    baseline=100 * bottom,
                    fill=True,
                    facecolor=COLOURS[kind],
                    linewidth=0,
                )
                bottom = upper
            axes.set_ylim(0, 100)
            axes.set_yticks([0, 50, 100])
            axes.set_ylabel("% of time" if len(series) == 1 else f"rank {rank}, %")
            axes.grid(visible=False)
        rows[-1].set_xlabel("seconds from the common start")
        rows[-1].set_xlim(0, max(float(one.edges[-1]) for _, one in series))
        used = {k for _, one in series for k in one.shares if one.shares[k].max() >= MIN_SHARE}
        _legend(rows[0], used)
        return inline_svg(figure, name="whole", label="What the accelerator's time went into")


def window_chart(rows: Sequence[tuple[str, Sequence[Segment]]], *, name: str, label: str) -> str:
    """Draw steps and the stalls between them as strips in time.

    Args:
        rows: Title of a strip and its segments; one or more.
        name: Of the drawing, unlike that of any other on the page.
        label: What it shows.
    """
    with style():
        figure = new_figure(WIDTH, 0.85 + 0.42 * len(rows))
        axes = figure.add_subplot()
        for position, (_, segments) in enumerate(rows):
            for kind in KINDS:
                bars = [(s.start, s.seconds) for s in segments if s.kind == kind]
                axes.broken_barh(
                    bars,
                    (position - 0.36, 0.72),
                    facecolor=COLOURS[kind],
                    edgecolor=GRID if kind == "compute" else "none",
                    linewidth=0.5,
                )
        axes.set_yticks(range(len(rows)), [title for title, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds from the common start")
        starts = [s.start for _, segments in rows for s in segments]
        ends = [s.start + s.seconds for _, segments in rows for s in segments]
        axes.set_xlim(min(starts), max(ends))
        return inline_svg(figure, name=name, label=label)


def stall_chart(rows: Sequence[tuple[int, dict[str, float]]]) -> str:
    """Draw stall by cause as a stacked bar a repeat.

    Args:
        rows: Repeat, and its ratio of wall time by cause.
    """
    with style():
        figure = new_figure(WIDTH, 0.95 + 0.36 * len(rows))
        axes = figure.add_subplot()
        left = np.zeros(len(rows))
        for kind in (*CAUSES, UNATTRIBUTED):
            widths = 100 * np.array([shares.get(kind, 0.0) for _, shares in rows])
            if not widths.any():
                continue
            axes.barh(
                np.arange(len(rows)),
                widths,
                left=left,
                height=0.68,
                color=COLOURS[kind],
                hatch=HATCHES.get(kind),
                edgecolor=INK if kind in HATCHES else "none",
                linewidth=0,
            )
            left += widths
        axes.set_yticks(range(len(rows)), [f"repeat {repeat}" for repeat, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, max(1.0, 1.05 * float(left.max())))
        axes.set_xlabel("stall, % of the accelerators' time")
        used = {kind for _, shares in rows for kind, share in shares.items() if share > 0}
        _legend(axes, used, hatched=True)
        return inline_svg(figure, name="cause", label="Stall by cause, one bar a repeat")


def latency_chart(bins: LatencyBins, *, marks: Sequence[tuple[str, float]]) -> str:
    """Draw the histogram of read latencies on a logarithmic axis.

    Args:
        bins: Counts.
        marks: Name and seconds of percentiles.
    """
    with style():
        figure = new_figure(WIDTH, 2.6)
        axes = figure.add_subplot()
        axes.stairs(
            bins.counts, bins.edges, fill=True, facecolor=COLOURS["storage_read"], linewidth=0
        )
        axes.set_xscale("log")
        axes.set_xlim(float(bins.edges[0]), float(bins.edges[-1]))
        axes.set_ylim(0, 1.35 * int(bins.counts.max()))
        for position, (title, seconds) in enumerate(marks):
            axes.axvline(seconds, ymax=0.88, color=INK, linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(
                f"{title} {duration(seconds)}",
                (seconds, 0.99 if position % 2 == 0 else 0.9),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                va="top",
            )
        axes.xaxis.set_major_formatter(lambda value, _: duration(float(value)))
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.set_xlabel("time of one read, from its start to its last byte")
        axes.set_ylabel("reads")
        return inline_svg(figure, name="latency", label="Histogram of read latencies")


def dots_chart(
    rates: Sequence[tuple[int, float]],
    stalls: Sequence[tuple[int, float]],
    *,
    counted: Collection[int],
    rate: Interval | None,
    stall: Interval | None,
    required: float | None,
) -> str:
    """Draw one dot a repeat for throughput and stall, with their intervals, from zero.

    Args:
        rates: Repeat and bytes per second.
        stalls: Repeat and ratio; empty in unthrottled mode.
        counted: Repeats that the estimates stand on; others are drawn hollow.
        rate: Estimate over repeats.
        stall: Estimate over repeats.
        required: Bytes per second that the accelerators need.
    """
    with style():
        figure = new_figure(WIDTH, 2.9)
        columns = figure.subplots(1, 2 if stalls else 1, squeeze=False)[0]
        _dots(columns[0], rates, rate, counted, factor=1 / GB, label="throughput, GB/s")
        if required is not None:
            columns[0].axhline(required / GB, color=REQUIRED, linewidth=1.4, linestyle=(0, (5, 3)))
            columns[0].annotate(
                "needed",
                (1, required / GB),
                xycoords=("axes fraction", "data"),
                xytext=(-2, -4),
                textcoords="offset points",
                ha="right",
                va="top",
            )
            top = max([required, *(value for _, value in rates)])
            columns[0].set_ylim(0, 1.12 * top / GB)
        if stalls:
            _dots(columns[1], stalls, stall, counted, factor=100, label="stall, % of the time")
        return inline_svg(figure, name="dots", label="Throughput and stall of each repeat")


def _dots(
    axes: Axes,
    values: Sequence[tuple[int, float]],
    interval: Interval | None,
    counted: Collection[int],
    *,
    factor: float,
    label: str,
) -> None:
    positions = np.arange(len(values))
    colour = COLOURS["storage_read"]
    axes.scatter(
        positions,
        [factor * value for _, value in values],
        s=50,
        facecolors=[colour if repeat in counted else "none" for repeat, _ in values],
        edgecolors=colour,
        zorder=3,
    )
    names = [f"{repeat}" for repeat, _ in values]
    if interval is not None:
        at = len(values) + 0.2
        axes.plot([at], [factor * interval.estimate], marker="D", markersize=6, color=INK)
        if interval.low is not None and interval.high is not None:
            axes.vlines(at, factor * interval.low, factor * interval.high, color=INK, linewidth=1.6)
        positions, names = np.append(positions, at), [*names, "estimate\n90 %"]
    if len(names) <= MAX_TICKS:
        axes.set_xticks(positions, names)
    axes.set_xlim(-0.6, float(positions[-1]) + 0.6)
    highest = max([value for _, value in values] + [(interval and interval.high) or 0.0])
    axes.set_ylim(0, 1.15 * factor * highest or 1.0)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("repeat")
    axes.set_title(label)


def _legend(axes: Axes, used: set[str], *, hatched: bool = False) -> None:
    from matplotlib.patches import Patch

    entries = [
        Patch(
            facecolor=COLOURS[kind],
            hatch=HATCHES.get(kind) if hatched else None,
            edgecolor=INK if hatched and kind in HATCHES else "none",
            linewidth=0,
            label=LABELS[kind],
        )
        for kind in KINDS
        if kind in used
    ]
    figure = axes.get_figure(root=True)
    if figure is not None and entries:
        figure.legend(
            handles=entries, loc="outside upper left", ncols=6, handlelength=1.2, columnspacing=1.2
        )
