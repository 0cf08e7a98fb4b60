"""Series for charts, from the stored tables of a repeat: binned so that size does not matter.

Tables are those of `bench.results.store.Store.read_steps` and `read_pieces`: pandas frames,
seconds from the start of the measured phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.analysis.causes import UNATTRIBUTED
from bench.results.schema import CAUSES, Histogram, Repeat

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COMPUTE",
    "OVERHEAD",
    "Condensed",
    "LatencyBins",
    "RankTables",
    "Segment",
    "Throughput",
    "condense",
    "latency_bins",
    "throughput_series",
    "window",
]

Floats = npt.NDArray[np.float64]

COMPUTE = "compute"
OVERHEAD = "overhead"
"""Launch overhead and the wait before stall counts: not stall (docs/method.md)."""

NUM_BINS = 200
"""About the pixels of a chart over three."""

MIN_BINS = 8
PIECES_PER_BIN = 16
"""Fewer would draw the count's own steps: of 4 pieces one more or less is 25 %."""


@dataclass(frozen=True, slots=True)
class RankTables:
    """The stored tables of one rank of one repeat; None where there are none."""

    repeat: int
    rank: int
    steps: pd.DataFrame | None
    pieces: pd.DataFrame | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rate of arrival over time: `rates[i]` in bytes per second from `edges[i]` to `edges[i+1]`."""

    repeat: int
    edges: Floats
    rates: Floats


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the accelerator's time, seconds from the start."""

    start: float
    seconds: float
    kind: str
    """COMPUTE, OVERHEAD, a cause, or "unattributed"."""


@dataclass(frozen=True, slots=True)
class Condensed:
    """What the accelerator's time went into, in bins over the whole run.

    `shares[kind][i]` is the ratio of bin i; the shares of a bin sum to 1, less where the rank
    had ended.
    """

    edges: Floats
    shares: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class LatencyBins:
    """Read latencies of all counted repeats: `counts[i]` from `edges[i]` to `edges[i+1]`."""

    edges: Floats
    counts: npt.NDArray[np.int64]


def throughput_series(tables: Sequence[RankTables], *, repeat: int) -> Throughput | None:
    """Return payload bytes by arrival (`read_end`) over time, all ranks of a repeat together.

    None where no piece was stored.
    """
    frames = [t.pieces for t in tables if t.repeat == repeat and t.pieces is not None]
    arrived = [frame.dropna(subset=["read_end_seconds"]) for frame in frames]
    if not any(len(frame) for frame in arrived):
        return None
    ends = np.concatenate([f["read_end_seconds"].to_numpy(float) for f in arrived])
    if ends.max() <= 0:
        return None
    sizes = np.concatenate([f["payload_bytes"].to_numpy(float) for f in arrived])
    num_bins = int(np.clip(len(ends) // PIECES_PER_BIN, MIN_BINS, NUM_BINS))
    edges = np.linspace(0.0, float(ends.max()), num_bins + 1)
    totals, _ = np.histogram(np.maximum(ends, 0.0), bins=edges, weights=sizes)
    return Throughput(repeat, edges, totals / np.diff(edges))


def window(steps: pd.DataFrame, *, first: int, count: int) -> list[Segment]:
    """Return what the accelerator did in steps [first, first + count), with the gaps before them.

    Amounts are stored by step, not instants, so the causes of a gap stand in the order of
    CAUSES.
    """
    chosen = steps.iloc[first : first + count].dropna(subset=["compute_start_seconds"])
    segments = []
    for row in chosen.to_dict("records"):
        start, gap = row["compute_start_seconds"], row.get("gap_seconds", 0.0)
        at = start - gap
        for name in (*CAUSES, UNATTRIBUTED):
            amount = row.get(_column(name), 0.0)
            if amount > 0:
                segments.append(Segment(at, amount, name))
                at += amount
        if start - at > 0:
            segments.append(Segment(at, start - at, OVERHEAD))
        segments.append(Segment(start, row["compute_end_seconds"] - start, COMPUTE))
    return segments


def condense(steps: pd.DataFrame, *, num_bins: int = NUM_BINS) -> Condensed | None:
    """Return what the accelerator's time went into over the whole run of one rank.

    None for a table without attribution (unthrottled mode) or without steps.
    """
    done = steps.dropna(subset=["compute_start_seconds", "compute_end_seconds"])
    if "stall_seconds" not in done or len(done) == 0:
        return None
    starts = done["compute_start_seconds"].to_numpy(float)
    ends = done["compute_end_seconds"].to_numpy(float)
    gaps = done["gap_seconds"].to_numpy(float)
    edges = np.linspace(0.0, float(ends[-1]), num_bins + 1)
    width = edges[1] - edges[0]
    shares = {COMPUTE: _spread(starts, ends, ends - starts, edges) / width}
    for name in (*CAUSES, UNATTRIBUTED):
        amounts = done[_column(name)].to_numpy(float)
        shares[name] = _spread(starts - gaps, starts, amounts, edges) / width
    left = gaps - done["stall_seconds"].to_numpy(float)
    shares[OVERHEAD] = _spread(starts - gaps, starts, left, edges) / width
    return Condensed(edges, shares)


def _spread(starts: Floats, ends: Floats, amounts: Floats, edges: Floats) -> Floats:
    """Return how much of `amounts`, each spread evenly over its interval, falls into each bin.

    Args:
        starts: Shape (n,), ascending; intervals do not overlap.
        ends: Shape (n,).
        amounts: Shape (n,).
        edges: Shape (bins + 1,).
    """
    knots = np.column_stack((starts, ends)).ravel()
    after = np.cumsum(amounts)
    totals = np.column_stack((after - amounts, after)).ravel()
    found: Floats = np.diff(np.interp(edges, np.maximum.accumulate(knots), totals))
    return found


def _column(cause: str) -> str:
    return "unattributed_seconds" if cause == UNATTRIBUTED else f"cause_{cause}_seconds"


def latency_bins(repeats: Sequence[Repeat]) -> LatencyBins | None:
    """Return the merged latency histogram of repeats, two bins wide; None without reads."""
    histograms = [r.read_latency.histogram for r in repeats if r.read_latency is not None]
    counts: dict[int, int] = {}
    for histogram in histograms:
        if not _same_bins(histogram, histograms[0]):
            return None
        for index, count in histogram.counts.items():
            counts[index // 2] = counts.get(index // 2, 0) + count
    if not counts:
        return None
    numbers = np.arange(min(counts), max(counts) + 2)
    first = histograms[0]
    edges = first.lowest_seconds * np.exp2(numbers * 2 / first.bins_per_octave)
    return LatencyBins(edges, np.array([counts.get(int(i), 0) for i in numbers[:-1]]))


def _same_bins(one: Histogram, other: Histogram) -> bool:
    return (one.lowest_seconds, one.bins_per_octave) == (
        other.lowest_seconds,
        other.bins_per_octave,
    )
