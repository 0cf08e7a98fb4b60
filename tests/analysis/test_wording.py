"""Figures for people have one form, with their unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import wording
from bench.results.schema import Interval


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (4.1e-7, "0.410 us"),
        (0.00041, "410 us"),
        (0.00099999, "1.00 ms"),
        (0.035, "35.0 ms"),
        (0.9999, "1.00 s"),
        (2.1, "2.10 s"),
        (99.99, "1 min 40 s"),
        (200.4, "3 min 20 s"),
        (3600, "1 h 0 min"),
        (7322, "2 h 2 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1.93e9, "1.93 GB/s"),
        (12.345e9, "12.3 GB/s"),
        (12.3e6, "0.0123 GB/s"),
        (0, "0 GB/s"),
        (1234e9, "1234 GB/s"),
    ],
)
def test_rates_are_in_units_of_1e9(rate: float, words: str) -> None:
    assert wording.rate(rate) == words


@pytest.mark.parametrize(
    ("ratio", "words", "rough"),
    [
        (0.372, "37.2 %", "37 %"),
        (0.0151, "1.5 %", "1.5 %"),
        (0.0004, "0.04 %", "0.04 %"),
        (0.0, "0.0 %", "0.0 %"),
        (1.0, "100.0 %", "100 %"),
        (0.0999, "10.0 %", "10 %"),
    ],
)
def test_percents(ratio: float, words: str, rough: str) -> None:
    assert (wording.percent(ratio), wording.rough_percent(ratio)) == (words, rough)


def test_memory_is_binary_and_data_decimal() -> None:
    assert wording.memory_bytes(256 * 2**20) == "256 MiB"
    assert wording.memory_bytes(1.5 * 2**30) == "1.50 GiB"
    assert wording.memory_bytes(512) == "512 B"
    assert wording.data_bytes(21.5e9) == "21.5 GB"
    assert wording.data_bytes(999) == "999 B"


def test_intervals_say_how_they_came_about() -> None:
    three = Interval(estimate=1.93e9, low=1.9e9, high=1.96e9, n=3)
    assert wording.interval_rate(three) == "1.93 GB/s (90 %: 1.90 to 1.96, n = 3)"
    one = Interval(estimate=0.372, low=None, high=None, n=1)
    assert wording.interval_percent(one) == "37.2 % (n = 1, no interval)"
    share = Interval(estimate=0.372, low=0.36, high=0.384, n=3)
    assert wording.interval_percent(share) == "37.2 % (90 %: 36.0 to 38.4, n = 3)"


@given(st.floats(1e-6, 1e15))
def test_three_digits_are_close_enough(value: float) -> None:
    assert float(wording.significant(value)) == pytest.approx(value, rel=0.0051)
