"""Whether a run that was made again agrees with the first."""

from __future__ import annotations

import random

import pytest
from made_evidence import GOOD, run
from scipy.stats import ttest_ind

from bench.policy.agreement import _welch, compare_runs

RATES = (2.99e9, 3.01e9, 3.00e9, 3.02e9, 2.98e9)


def pair(*, factor: float = 1.0, points: float = 0.0, rates=RATES, stalls=GOOD):
    again = run(
        [s + points for s in stalls], rates=[r * factor * (1 + 1e-4) for r in rates], number=2
    )
    return compare_runs(run(stalls, rates=rates), again)


def test_the_interval_is_welchs() -> None:
    one, two = [1.0, 1.2, 0.9, 1.1], [1.3, 1.9, 1.4]
    found = _welch(one, two)
    expected = ttest_ind(two, one, equal_var=False).confidence_interval(0.90)
    assert found is not None
    assert found[1:] == pytest.approx((expected.low, expected.high))


def test_the_same_figures_agree() -> None:
    agreement = pair()
    assert agreement.verdict == "agrees"
    assert [metric.verdict for metric in agreement.metrics] == ["agrees", "agrees"]
    assert agreement.differences == ()


@pytest.mark.parametrize(
    "changes", [{"factor": 0.9}, {"factor": 1.1}, {"points": 0.05}], ids=["less", "more", "stall"]
)
def test_a_difference_beyond_the_margin_differs(changes: dict) -> None:
    assert pair(**changes).verdict == "differs"


def test_within_the_margin_is_agreement_even_where_it_is_significant() -> None:
    assert pair(factor=0.98).verdict == "agrees"


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": (2e9, 4e9, 3e9, 2.5e9, 3.5e9)},
        {"rates": (3e9,), "stalls": (0.01,)},
        {"rates": (3e9,) * 5, "factor": 1.02},
    ],
    ids=["wide", "single", "equal"],
)
def test_too_little_to_say_is_undecided(changes: dict) -> None:
    assert pair(**changes).verdict == "undecided"


def test_no_stall_at_all_twice_agrees() -> None:
    assert pair(stalls=(0.0,) * 5).metrics[1].verdict == "agrees"


def test_a_run_without_stall_is_compared_by_throughput() -> None:
    agreement = compare_runs(run([None] * 5, rates=RATES), run([None] * 5, rates=RATES, number=2))
    assert [metric.metric for metric in agreement.metrics] == ["throughput"]
    half = compare_runs(run(GOOD, rates=RATES), run([None] * 5, rates=RATES, number=2))
    assert half.verdict == "undecided"


def test_other_cells_are_named() -> None:
    other = run(number=2, fingerprint={"workload": {"name": "unet3d"}, "kernel": {"release": "7"}})
    assert compare_runs(run(), other).differences == ("kernel",)


def test_runs_of_one_cell_rarely_differ() -> None:
    source = random.Random(3)
    wrong = 0
    for _ in range(400):
        first, again = ([3e9 * source.lognormvariate(0, 0.05) for _ in range(5)] for _ in range(2))
        wrong += compare_runs(run(GOOD, rates=first), run(GOOD, rates=again)).verdict == "differs"
    assert wrong / 400 <= 0.10  # the interval's nominal 10 %, less what the margin takes
