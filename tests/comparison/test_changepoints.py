"""Changes of level are found soon, where they are, and not where there are none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.changepoints import change_points

GOLDEN = Path(__file__).parent / "golden" / "ruptures.json"
LEAST = -math.log1p(-0.02)
STABLE = 30


def noise(cv: float) -> float:
    return math.sqrt(math.log1p(cv**2))


def found(values, **changes) -> list[int]:
    return [one.index for one in change_points(list(values), **{"min_magnitude": LEAST} | changes)]


@pytest.mark.parametrize(
    ("cv", "change", "median", "ninth"), [(0.02, -0.05, 2, 5), (0.05, -0.10, 4, 7)]
)
def test_a_step_is_found_as_soon_as_by_otava(
    cv: float, change: float, median: int, ninth: int
) -> None:
    """After 30 stable points; further points until a change point within five of the step."""
    rng = np.random.default_rng(7)
    delays = []
    for _ in range(400):
        values = rng.normal(0, noise(cv), STABLE + 12)
        values[STABLE:] += math.log1p(change)
        delays.append(
            next(
                (
                    n
                    for n in range(2, 13)
                    if any(abs(i - STABLE) <= 5 for i in found(values[: STABLE + n]))
                ),
                99,
            )
        )
    assert np.median(delays) <= median
    assert np.quantile(delays, 0.9) <= ninth


@pytest.mark.parametrize("num", [30, 60, 100])
def test_a_steady_series_has_a_change_point_in_at_most_5_percent(num: int) -> None:
    rng = np.random.default_rng(num)
    hits = [bool(found(rng.normal(0, noise(0.05), num))) for _ in range(600)]
    assert np.mean(hits) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)


def test_several_levels_are_found_where_they_begin() -> None:
    rng = np.random.default_rng(2)
    levels = np.repeat([0.0, -0.1, -0.02, -0.2], [20, 15, 25, 12])
    places = found(levels + rng.normal(0, 0.01, len(levels)))
    assert places == pytest.approx([20, 35, 60], abs=1)


def test_a_pulse_is_two_changes() -> None:
    rng = np.random.default_rng(4)
    levels = np.repeat([0.0, -0.15, 0.0], [25, 6, 25])
    assert found(levels + rng.normal(0, 0.01, len(levels))) == pytest.approx([25, 31], abs=1)


def test_one_outlier_is_no_level() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0, 0.01, 40)
    values[20] -= 0.3
    assert found(values) == []


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([1.0, 1.0, 1.001, 1.001], []),  # otava says p = 0
        ([1.0] * 30, []),
        ([1.0] * 20 + [1.001] * 20, []),
        ([1.0] * 20 + [0.9] * 20, [20]),
        ([], []),
        ([1.0], []),
        ([1.0, 0.5, 1.0], []),
        ([1.0, 1.0, 0.97, 0.97 + 1e-9], []),  # beyond the least change, and still no certainty
    ],
)
def test_figures_without_spread_need_a_change_of_note(
    values: list[float], places: list[int]
) -> None:
    assert found(values) == places


def test_a_change_that_is_certain_and_small_is_none() -> None:
    rng = np.random.default_rng(9)
    values = np.repeat([0.0, -0.01], 20) + rng.normal(0, 0.0005, 40)
    assert found(values) == []
    assert found(values, min_magnitude=0.005) == [20]


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        change_points([1.0, math.nan, 1.0], min_magnitude=0.1)


def test_levels_and_their_p_are_reported() -> None:
    rng = np.random.default_rng(6)
    values = np.repeat([0.0, -0.1], [20, 20]) + rng.normal(0, 0.01, 40)
    (change,) = change_points(list(values), min_magnitude=LEAST)
    assert (change.before, change.after) == pytest.approx((0.0, -0.1), abs=0.01)
    assert change.p < 1e-9


@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_units_and_offsets_change_nothing(seed: int, offset: float, factor: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.repeat([0.0, rng.normal(0, 0.1)], 15) + rng.normal(0, 0.02, 30)
    moved = offset + factor * values
    assert found(values) == found(moved, min_magnitude=factor * LEAST)


def test_a_long_series_is_looked_at_from_its_end() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(0, 0.01, 1300)
    values[1200:] -= 0.1
    assert found(values) == [1200]


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["cases"], ids=lambda c: c["name"])
def test_change_points_agree_with_those_of_ruptures(case: dict) -> None:
    """Fixed series with known levels; ruptures was told how many changes there are.

    The file is written by tests/comparison/ruptures_golden.py in an environment of its own.
    """
    ours = found(case["values"])
    assert len(ours) == len(case["ruptures"])
    for place, theirs in zip(ours, case["ruptures"], strict=True):
        assert abs(place - theirs) <= 1, (ours, case["ruptures"])
