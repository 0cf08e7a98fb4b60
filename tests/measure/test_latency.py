"""Read latency: exact percentiles, mergeable histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.latency import (
    histogram,
    histogram_latency,
    histogram_quantile,
    merge_histograms,
    merge_latencies,
    read_durations_ns,
)
from bench.measure.records import PIECE_DTYPE
from bench.results.schema import Histogram

DURATIONS = st.lists(st.integers(1_000, 10**12), min_size=1, max_size=200)


@given(DURATIONS)
def test_every_duration_is_counted_in_the_bin_that_holds_it(durations: list[int]) -> None:
    found = histogram(np.array(durations))
    assert sum(found.counts.values()) == len(durations)
    for duration in durations:
        low = [1e-6 * 2 ** (i / 8) <= duration / 1e9 * (1 + 1e-12) for i in found.counts]
        high = [duration / 1e9 < 1e-6 * 2 ** ((i + 1) / 8) * (1 + 1e-12) for i in found.counts]
        assert any(a and b for a, b in zip(low, high, strict=True))


def test_edges_belong_to_the_bin_above_and_what_is_shorter_to_the_first() -> None:
    assert histogram(np.array([1_000, 999, 0, 2_000, 1_999])).counts == {0: 3, 7: 1, 8: 1}


@given(DURATIONS, DURATIONS)
def test_merging_is_counting_together(one: list[int], other: list[int]) -> None:
    merged = merge_histograms([histogram(np.array(one)), histogram(np.array(other))])
    assert merged == histogram(np.array(one + other))


@given(DURATIONS, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_of_the_histogram_is_within_half_a_bin(
    durations: list[int], quantile: float
) -> None:
    exact = np.quantile(np.array(durations) / 1e9, quantile, method="lower")
    found = histogram_quantile(histogram(np.array(durations)), quantile)
    assert found == pytest.approx(exact, rel=2 ** (1 / 16) - 1 + 1e-9)


def test_latency_is_exact_where_durations_are_at_hand() -> None:
    found = histogram_latency(np.arange(1, 102) * 1_000_000)
    assert found is not None
    assert (found.p50, found.p90, found.max) == (0.051, pytest.approx(0.091), 0.101)
    assert histogram_latency(np.zeros(0, dtype=np.int64)) is None


def test_merged_latencies_never_exceed_the_largest() -> None:
    parts = [histogram_latency(np.array([1_000_000] * 9)), histogram_latency(np.array([1_000_001]))]
    merged = merge_latencies([part for part in parts if part is not None])
    assert merged is not None
    assert merged.max == pytest.approx(0.001000001)
    assert merged.p99 <= merged.max
    assert merge_latencies([]) is None


def test_histograms_with_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="other bins"):
        merge_histograms([Histogram(bins_per_octave=4, counts={1: 1})])


def test_unfinished_reads_have_no_duration() -> None:
    pieces = np.zeros(3, dtype=PIECE_DTYPE)
    pieces["start"] = [5, 5, 0]
    pieces["read_end"] = [9, 0, 0]
    assert read_durations_ns(pieces).tolist() == [4]
