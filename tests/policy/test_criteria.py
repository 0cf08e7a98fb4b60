"""Limits against intervals: the arithmetic, and how often it errs."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest
from hypothesis import given as draw
from hypothesis import strategies as st
from made_evidence import FIRST, requirements, run

from bench.policy.criteria import STALL, THROUGHPUT, clustered, judge
from bench.policy.occasions import group_occasions


def verdict_of(limit: float, values: list[float]) -> str:
    groups = group_occasions([run(values)])
    wanted = requirements({"max_stall_ratio": limit}).spec.requirements[0]
    (criterion,) = judge(wanted, groups)
    return criterion.verdict


def test_the_interval_of_one_occasion_is_that_of_its_repeats() -> None:
    # mean 0.02, standard deviation 0.01, t(0.95, 2) = 2.920: half width 0.016859
    found, clusters = clustered([[0.01, 0.02, 0.03]], STALL)
    assert clusters == 1
    assert found.estimate == pytest.approx(0.02)
    assert found.high == pytest.approx(0.02 + 2.9199856 * 0.01 / math.sqrt(3))


def test_occasions_are_the_clusters_of_several() -> None:
    groups = [[0.010, 0.011], [0.020, 0.021], [0.030, 0.031]]
    found, clusters = clustered(groups, STALL)
    assert (clusters, found.n) == (3, 6)
    assert found.estimate == pytest.approx(0.0205)
    assert found.high == pytest.approx(0.0205 + 2.9199856 * 0.01 / math.sqrt(3))


def test_occasions_weigh_the_same_whatever_their_repeats() -> None:
    found, _ = clustered([[1e9] * 9 + [1.001e9], [4e9]], THROUGHPUT)
    assert found.estimate == pytest.approx(2e9, rel=1e-3)  # the geometric mean of 1 and 4


def test_occasions_that_lie_together_by_luck_do_not_narrow_the_interval() -> None:
    groups = [[0.01, 0.03], [0.011, 0.029], [0.012, 0.028]]
    found, clusters = clustered(groups, STALL)
    alone, _ = clustered([[v for group in groups for v in group]], STALL)
    assert clusters == 1
    assert found == alone


def test_a_single_repeat_decides_nothing() -> None:
    assert verdict_of(0.9, [0.01]) == "inconclusive"


def test_what_is_missing_is_counted_in_what_the_interval_is_made_of() -> None:
    starts = [FIRST + timedelta(days=n) for n in range(3)]
    runs = [
        run([centre * f for f in (0.99, 1.0, 1.01)], number=n, start=starts[n])
        for n, centre in enumerate((0.010, 0.014, 0.012))
    ]
    wanted = requirements({"max_stall_ratio": 0.013}).spec.requirements[0]
    (criterion,) = judge(wanted, group_occasions(runs))
    assert (criterion.verdict, criterion.num_occasions) == ("inconclusive", 3)
    assert criterion.detail.endswith(
        f"about {criterion.more_needed} more occasions would settle it"
    )


def test_figures_that_are_equal_to_the_last_digit_decide_nothing() -> None:
    assert verdict_of(0.9, [0.01] * 5) == "inconclusive"
    assert verdict_of(0.9, [0.0] * 5) == "pass"  # no stall at all is a measurement


def test_the_bound_and_not_the_estimate_is_held_against_the_limit() -> None:
    values = [0.010, 0.012, 0.014, 0.011, 0.013]
    high = clustered([values], STALL)[0].high
    assert high is not None
    assert verdict_of(high * 1.0001, values) == "pass"
    assert verdict_of(high * 0.9999, values) == "inconclusive"


@draw(
    st.lists(st.floats(1e-4, 0.5), min_size=3, max_size=8, unique=True),
    st.floats(1e-3, 0.6),
    st.floats(1.0, 1.5),
)
def test_a_looser_limit_is_never_judged_worse(values, limit, factor) -> None:
    order = ["not met", "inconclusive", "pass"]
    looser = min(1.0, limit * factor)
    assert order.index(verdict_of(looser, values)) >= order.index(verdict_of(limit, values))


@draw(st.lists(st.floats(1e8, 1e10), min_size=2, max_size=8, unique=True), st.floats(0.1, 10))
def test_units_do_not_matter(values, factor) -> None:
    one, _ = clustered([values], THROUGHPUT)
    other, _ = clustered([[v * factor for v in values]], THROUGHPUT)
    assert other.low == pytest.approx(one.low * factor, rel=1e-9)


def wrong_approvals(*, between: float, within: float, occasions: int, trials: int) -> float:
    """Return how often a class is approved whose true stall lies exactly at the limit."""
    source = random.Random(7)
    limit, wrong = 0.10, 0
    for _ in range(trials):
        groups = []
        for _ in range(occasions):
            centre = source.gauss(limit, between * limit)
            groups.append([source.gauss(centre, within * limit) for _ in range(5)])
        high = clustered(groups, STALL)[0].high
        wrong += high is not None and high <= limit
    return wrong / trials


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.05), (0.05, 0.02), (0.05, 0.05)])
def test_a_class_at_the_limit_is_approved_in_at_most_one_case_of_twenty(between, within) -> None:
    share = wrong_approvals(between=between, within=within, occasions=3, trials=3000)
    assert share <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 3000)


def test_one_occasion_alone_errs_far_more_often_which_is_why_it_is_provisional() -> None:
    assert wrong_approvals(between=0.05, within=0.02, occasions=1, trials=1000) > 0.2


def test_a_pause_of_more_than_four_hours_begins_a_new_occasion() -> None:
    first = run(number=1)
    end = FIRST + timedelta(seconds=500 * 4 + 400)
    close = run(number=2, start=end + timedelta(hours=3, minutes=59))
    far = run(number=3, start=end + timedelta(hours=4, seconds=1))
    assert len(group_occasions([first, close])) == 1
    assert len(group_occasions([first, far])) == 2
    assert len(group_occasions([far, close, first])) == 1  # in the order of time
