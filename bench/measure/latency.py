"""Latency of reads: exact percentiles where the durations are at hand, else from a histogram.

Histograms have fixed logarithmic bins, so those of ranks, repeats and runs merge by addition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.schema import Histogram, Latency

__all__ = [
    "histogram",
    "histogram_latency",
    "histogram_quantile",
    "merge_histograms",
    "merge_latencies",
    "read_durations_ns",
]

LOWEST_SECONDS = 1e-6
BINS_PER_OCTAVE = 8
NUM_BINS = 8 * 37
"""Bins up to 2**37 us, 38 hours; longer reads fall into the last one."""

QUANTILES = (0.5, 0.9, 0.99)


def read_durations_ns(pieces: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the duration of each finished read, start to last byte; shape (finished reads,).

    Args:
        pieces: PIECE_DTYPE rows.
    """
    finished = pieces[(pieces["start"] > 0) & (pieces["read_end"] > 0)]
    durations: npt.NDArray[np.int64] = finished["read_end"] - finished["start"]
    return durations


def histogram(durations_ns: npt.NDArray[np.int64]) -> Histogram:
    """Count durations in logarithmic bins; what is shorter than the lowest edge is in bin 0."""
    found = np.searchsorted(_edges(), durations_ns / 1e9, side="right") - 1
    bins, counts = np.unique(np.maximum(found, 0), return_counts=True)
    return Histogram(
        lowest_seconds=LOWEST_SECONDS,
        bins_per_octave=BINS_PER_OCTAVE,
        counts=dict(zip(bins.tolist(), counts.tolist(), strict=True)),
    )


def _edges() -> npt.NDArray[np.float64]:
    edges: npt.NDArray[np.float64] = LOWEST_SECONDS * np.exp2(np.arange(NUM_BINS) / BINS_PER_OCTAVE)
    return edges


def merge_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Add histograms up.

    Raises:
        ValueError: They do not have the same bins.
    """
    total: Counter[int] = Counter()
    for one in histograms:
        if (one.lowest_seconds, one.bins_per_octave) != (LOWEST_SECONDS, BINS_PER_OCTAVE):
            raise ValueError("histograms with other bins cannot be merged")
        total.update(one.counts)
    return Histogram(
        lowest_seconds=LOWEST_SECONDS,
        bins_per_octave=BINS_PER_OCTAVE,
        counts=dict(sorted(total.items())),
    )


def histogram_quantile(counts: Histogram, quantile: float) -> float:
    """Return a quantile in seconds: the geometric middle of the bin that holds it.

    Off by at most 2**(1 / (2 * bins_per_octave)) - 1, which is 4.4 %, of the durations
    between the lowest edge and the last bin.

    Raises:
        ValueError: The histogram is empty.
    """
    total = sum(counts.counts.values())
    if total == 0:
        raise ValueError("an empty histogram has no quantiles")
    rank = quantile * (total - 1)
    seen = 0
    bins = sorted(counts.counts)
    for index in bins:
        seen += counts.counts[index]
        if seen > rank:
            break
    return float(counts.lowest_seconds * 2.0 ** ((index + 0.5) / counts.bins_per_octave))


def histogram_latency(durations_ns: npt.NDArray[np.int64]) -> Latency | None:
    """Return exact percentiles and the histogram of durations; None where there is none."""
    if len(durations_ns) == 0:
        return None
    p50, p90, p99 = np.quantile(durations_ns / 1e9, QUANTILES).tolist()
    return Latency(
        p50=p50,
        p90=p90,
        p99=p99,
        max=int(durations_ns.max()) / 1e9,
        histogram=histogram(durations_ns),
    )


def merge_latencies(latencies: Sequence[Latency]) -> Latency | None:
    """Merge latencies whose durations are gone: percentiles from the merged histogram.

    The maximum is exact, percentiles are as good as `histogram_quantile`.
    """
    if not latencies:
        return None
    merged = merge_histograms(one.histogram for one in latencies)
    top = max(one.max for one in latencies)
    p50, p90, p99 = (min(top, histogram_quantile(merged, q)) for q in QUANTILES)
    return Latency(p50=p50, p90=p90, p99=p99, max=top, histogram=merged)
