"""A rank that is told to be gentle asks for no more than its share, and says who held it back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "launch" / "kubernetes"))

from made_plans import SIMULATED, plan

from bench.loader.pace import BURST_NS, Pace, open_pace, patience_ms

SECOND = 1_000_000_000


@given(
    rate=st.integers(1_000, 10**10),
    sizes=st.lists(st.integers(1, 10**7), min_size=1, max_size=50),
    late=st.lists(st.integers(0, 10**8), min_size=50, max_size=50),
)
def test_any_stretch_of_grants_keeps_to_the_rate(rate, sizes, late):
    pace = Pace(rate, start_ns=5)
    now, grants = 5, []
    for size, lateness in zip(sizes, late, strict=False):
        now += pace.wait_ns(now)
        assert pace.wait_ns(now) == 0
        now += lateness
        pace.pay(size, now)
        grants.append((now, size))
    for first in range(len(grants)):
        for last in range(first, len(grants)):
            # Each grant is paid for before the next one, but for the burst.
            seconds = (grants[last][0] - grants[first][0] + BURST_NS) / SECOND
            paid = sum(size for _, size in grants[first:last])
            assert paid <= rate * seconds * (1 + 1e-6) + 1


def test_a_pause_is_no_credit():
    pace = Pace(1000, start_ns=0)
    assert pace.wait_ns(100 * SECOND) == 0
    pace.pay(1000, 100 * SECOND)
    assert pace.wait_ns(100 * SECOND) == SECOND - BURST_NS


def test_what_was_held_back_is_counted_once_something_waited():
    pace = Pace(1000, start_ns=0)
    assert pace.pay(1000, 0) == 0
    assert not pace.is_holding
    assert pace.wait_ns(10) > 0
    assert pace.is_holding
    assert pace.pay(1, SECOND) == SECOND - 10
    assert pace.held_ns == SECOND - 10
    assert not pace.is_holding


def test_nothing_to_grant_is_nothing_held_back():
    pace = Pace(1000, start_ns=0)
    pace.pay(1000, 0)
    assert pace.wait_ns(10) > 0
    pace.forget()
    assert not pace.is_holding
    assert patience_ms(pace, 0.25, 2 * SECOND) == 250


def test_the_loop_sleeps_until_the_next_grant_and_as_usual_without_a_limit():
    assert open_pace(None, 0) is None
    assert patience_ms(None, 0.25, 0) == 250
    pace = Pace(1000, start_ns=0)
    assert patience_ms(pace, 0.25, 0) == 250  # nothing waits for it
    pace.pay(100, 0)
    assert pace.wait_ns(0) == 100_000_000 - BURST_NS
    assert patience_ms(pace, 0.25, 0) == pytest.approx(80)


def test_ranks_share_the_limit():
    made = plan(SIMULATED, nodes=2, gpus_per_node=4, bytes_per_second_limit="800MB/s")
    assert made.rank_bytes_per_second_limit == 100e6
    assert plan(SIMULATED).rank_bytes_per_second_limit is None
