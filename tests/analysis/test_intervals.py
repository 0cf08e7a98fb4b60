"""Estimates over repeats: which repeats count, and intervals that hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run
from scipy import stats

from bench.analysis.intervals import interval, log_interval, required_rate, summarize
from bench.results.schema import Interval

VALUES = st.lists(st.floats(1e3, 1e12), min_size=2, max_size=10)


@given(VALUES)
def test_the_interval_of_rates_is_the_t_interval_of_their_logarithms(values: list[float]) -> None:
    logs = np.log(values)
    half = stats.t.ppf(0.95, len(values) - 1) * np.std(logs, ddof=1) / math.sqrt(len(values))
    expected = (logs.mean() - half, logs.mean() + half)
    found = log_interval(values)
    assert found.low is not None
    assert found.high is not None
    assert found.estimate == pytest.approx(stats.gmean(values), rel=1e-9)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )


@given(VALUES, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter_for_rates(values: list[float], factor: float) -> None:
    one, other = log_interval(values), log_interval([value * factor for value in values])
    assert other.estimate == pytest.approx(one.estimate * factor, rel=1e-9)
    assert one.low is not None
    assert other.low == pytest.approx(one.low * factor, rel=1e-6)


def test_a_plain_interval_against_a_table_of_t() -> None:
    found = interval([0.10, 0.20, 0.30])  # t(0.95, 2) = 2.920
    half = 2.920 * 0.1 / math.sqrt(3)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (0.2, 0.2 - half, 0.2 + half), 1e-3
    )


def test_an_interval_ends_where_nothing_can_lie() -> None:
    found = interval([0.001, 0.2, 0.99], most=1.0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_repeat_has_no_interval() -> None:
    assert interval([0.4]) == Interval(estimate=0.4, low=None, high=None, n=1)
    assert log_interval([4e9]) == Interval(estimate=4e9, low=None, high=None, n=1)


def test_equal_repeats_have_an_interval_without_width() -> None:
    found = log_interval([2e9, 2e9, 2e9])
    assert (found.low, found.high) == pytest.approx((2e9, 2e9))


def test_nothing_read_is_no_interval_on_logarithms() -> None:
    assert log_interval([0.0, 1e9]) == Interval(estimate=5e8, low=None, high=None, n=2)


def test_only_repeats_that_ended_well_count() -> None:
    run = make_run(num_steps=5, statuses=("ok", "invalid", "failed", "ok", "interrupted")).run
    found = summarize(run.repeats)
    assert {name: value.n for name, value in found.items()} == dict.fromkeys(found, 2)
    assert len(found) == 5
    rates = [run.repeats[i].throughput.bytes_per_second for i in (0, 3)]
    assert found["throughput_bytes_per_second"].estimate == pytest.approx(
        math.sqrt(math.prod(rates))
    )
    assert found["stall_ratio"].estimate == pytest.approx(
        (run.repeats[0].stall.ratio + run.repeats[3].stall.ratio) / 2
    )


def test_no_repeat_that_counts_is_no_summary() -> None:
    assert summarize(make_run(statuses=("failed",)).run.repeats) == {}
    assert summarize([]) == {}


def test_unthrottled_runs_have_throughput_alone() -> None:
    run = make_run(num_steps=5, accelerator="none").run
    assert list(summarize(run.repeats)) == ["throughput_bytes_per_second"]
    assert required_rate(run.repeats[0], step_seconds=None) is None


def test_the_required_rate_is_what_never_waiting_takes() -> None:
    run = make_run(num_steps=5, num_ranks=3, batch_bytes=800, step_seconds=0.5).run
    assert required_rate(run.repeats[0], step_seconds=0.5) == pytest.approx(3 * 800 / 0.5)
