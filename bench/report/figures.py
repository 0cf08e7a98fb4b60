"""The charts of a page, each with the table that says the same in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.causes import UNATTRIBUTED
from bench.analysis.facts import step_seconds
from bench.analysis.intervals import counted, required_rate
from bench.analysis.series import (
    RankTables,
    Segment,
    condense,
    latency_bins,
    throughput_series,
    window,
)
from bench.analysis.stalls import stall_rows
from bench.analysis.wording import duration, percent, rate
from bench.report.charts import (
    condensed_chart,
    dots_chart,
    latency_chart,
    stall_chart,
    throughput_chart,
    window_chart,
)
from bench.report.palette import COLOURS, LABELS
from bench.results.schema import CAUSES, Repeat, Run

__all__ = ["Cell", "Figure", "Grid", "figures"]

MAX_STRIPS = 8
"""Ranks that are drawn; a line says how many are not."""

WINDOW_STEPS = 30
NONE = "none"
"""In unthrottled mode there is no accelerator that could stall."""

NEEDED = " The dashed line is what the accelerators would take if they never waited."

MAX_LINES = 12
"""Repeats drawn as lines or bars; a line says how many are not."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; `colour` draws a key before it."""

    text: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first column of each row heads it."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title, a caption, and its table; without SVG the caption says why."""

    title: str
    caption: str
    svg: str = ""
    more_svg: str = ""
    grid: Grid | None = None


def _grid(head: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> Grid:
    cells = tuple(
        tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows
    )
    return Grid(tuple(head), cells)


def figures(run: Run, tables: Sequence[RankTables]) -> list[Figure]:
    """Return the charts of a run in the order of the page.

    Args:
        run: The document.
        tables: Stored tables of its repeats, as many as there are.
    """
    shown = [r for r in run.repeats if r.throughput is not None]
    if not shown:
        return []
    needs = [required_rate(repeat, step_seconds=step_seconds(run)) for repeat in shown]
    required = next((need for need in needs if need is not None), None)
    found = [_dots(run, shown, required), _rates(shown, tables, required)]
    if any(repeat.stall is not None for repeat in shown):
        found += [_timeline(shown, tables), _causes(shown)]
    found.append(_latency(shown))
    return found


def _dots(run: Run, repeats: list[Repeat], required: float | None) -> Figure:
    rates = [(r.index, r.throughput.bytes_per_second) for r in repeats if r.throughput]
    stalls = [(r.index, r.stall.ratio) for r in repeats if r.stall]
    rows = [
        (
            str(r.index),
            r.status,
            rate(r.throughput.bytes_per_second) if r.throughput else NONE,
            percent(r.stall.ratio) if r.stall else NONE,
            percent(r.stall.steady_ratio) if r.stall else NONE,
            NONE if r.accelerator_utilization is None else percent(r.accelerator_utilization),
            duration(r.stall.time_to_first_batch_seconds) if r.stall else NONE,
            duration(r.duration_seconds),
        )
        for r in repeats
    ]
    skipped = len(run.repeats) - len(counted(run.repeats))
    return Figure(
        "Repeats",
        "One dot a repeat, the unit of statistics; the diamond is the estimate over those that "
        "count (filled), with its two-sided 90 % interval (Student t, on logarithms for "
        "throughput). Axes begin at zero."
        + (f" {skipped} of {len(run.repeats)} repeats do not count." if skipped else ""),
        svg=dots_chart(
            rates,
            stalls,
            counted={repeat.index for repeat in counted(run.repeats)},
            rate=run.summary.get("throughput_bytes_per_second"),
            stall=run.summary.get("stall_ratio"),
            required=required,
        ),
        grid=_grid(
            (
                *("repeat", "status", "throughput", "stall", "once running"),
                *("utilization", "first batch", "duration"),
            ),
            rows,
        ),
    )


def _rates(repeats: list[Repeat], tables: Sequence[RankTables], required: float | None) -> Figure:
    found = (throughput_series(tables, repeat=repeat.index) for repeat in repeats[:MAX_LINES])
    series = [one for one in found if one is not None]
    if not series:
        return Figure("Throughput over time", "The samples of this run are not at hand.")
    left = len(repeats) - len(series)
    rows = [
        (
            f"repeat {one.repeat}",
            rate(float(one.rates.min())),
            rate(float(one.rates.mean())),
            rate(float(one.rates.max())),
        )
        for one in series
    ]
    return Figure(
        "Throughput over time",
        "Payload bytes by the time they arrived in memory, all ranks together."
        + (NEEDED if required is not None else "")
        + (f" {left} repeats are not drawn." if left else ""),
        svg=throughput_chart(series, required=required),
        grid=_grid(("bins of the chart", "lowest", "mean", "highest"), rows),
    )


def _timeline(repeats: list[Repeat], tables: Sequence[RankTables]) -> Figure:
    title = "The accelerator's time"
    ranks = [
        table
        for repeat in repeats
        for table in tables
        if table.repeat == repeat.index and table.steps is not None and len(table.steps)
    ]
    first = [table for table in ranks if table.repeat == ranks[0].repeat][:MAX_STRIPS]
    whole = [
        (table.rank, one)
        for table in first
        if table.steps is not None and (one := condense(table.steps)) is not None
    ]
    if not whole:
        return Figure(title, "The samples of this run are not at hand.")
    total = sum(table.repeat == first[0].repeat for table in ranks)
    beginning = _windows(first, begin=0)
    num_steps = min(len(t.steps) for t in first if t.steps is not None)
    middle = _windows(first, begin=num_steps // 2) if num_steps >= 4 * WINDOW_STEPS else []
    rest = f" {total - len(first)} further ranks are not drawn." if total > len(first) else ""
    return Figure(
        title,
        f"Repeat {first[0].repeat}. Above: the whole run, share of time in bins. Below: the first "
        f"{min(num_steps, WINDOW_STEPS)} steps"
        + (", and as many from the middle." if middle else ".")
        + " Grey is computing; colours are stall by cause. Within one gap the causes stand "
        "in a fixed order, not in the order of time." + rest,
        svg=condensed_chart(whole),
        more_svg="".join(
            window_chart(rows, name=name, label=f"{name} steps and the stalls between them")
            for name, rows in (("first", beginning), ("middle", middle))
            if rows
        ),
    )


def _windows(tables: Sequence[RankTables], *, begin: int) -> list[tuple[str, list[Segment]]]:
    return [
        (f"rank {table.rank}", window(table.steps, first=begin, count=WINDOW_STEPS))
        for table in tables
        if table.steps is not None
    ]


def _causes(repeats: list[Repeat]) -> Figure:
    rows = stall_rows(repeats)
    names = [n for n in (*CAUSES, UNATTRIBUTED) if any(row.shares.get(n) for row in rows)]
    grid = _grid(
        ("cause", *(f"repeat {row.repeat}" for row in rows[:MAX_LINES])),
        [
            (
                Cell(LABELS[name], COLOURS[name]),
                *(
                    f"{percent(row.shares[name])} · {percent(row.of_stall(name))}"
                    for row in rows[:MAX_LINES]
                ),
            )
            for name in names
        ],
    )
    left = len(rows) - MAX_LINES
    return Figure(
        "Stall by cause",
        "Who kept the accelerator waiting: a waiting piece of a batch inherits the state of what "
        "it waits for, until something that works is reached. In the table: share of the "
        "accelerators' time, then share of the stall."
        + (f" {left} repeats are not drawn." if left > 0 else ""),
        svg=stall_chart([(row.repeat, row.shares) for row in rows[:MAX_LINES]]),
        grid=grid,
    )


def _latency(repeats: list[Repeat]) -> Figure:
    bins = latency_bins(repeats)
    known = [(r.index, r.read_latency) for r in repeats if r.read_latency is not None]
    if bins is None or not known:
        return Figure("Latency of reads", "No latencies were recorded.")
    first = known[0][1]
    return Figure(
        "Latency of reads",
        "One count a read, from the moment a reader thread takes a piece to its last byte; all "
        f"repeats together, marks of repeat {known[0][0]}. Time on a logarithmic axis.",
        svg=latency_chart(bins, marks=[("p50", first.p50), ("p99", first.p99)]),
        grid=_grid(
            ("repeat", "p50", "p90", "p99", "largest"),
            [
                (str(i), duration(x.p50), duration(x.p90), duration(x.p99), duration(x.max))
                for i, x in known
            ],
        ),
    )
