"""Figures for people: one way to write each unit, used by terminal, sentence and page."""

from __future__ import annotations

import math

from bench.results.schema import Interval

__all__ = [
    "data_bytes",
    "duration",
    "interval_percent",
    "interval_rate",
    "memory_bytes",
    "percent",
    "rate",
    "rough_percent",
    "significant",
]

GB = 1e9
KIB = 1024


def significant(value: float, *, digits: int = 3) -> str:
    """Return `value` with so many significant digits and no exponent: 1.93, 12.4, 0.0123."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def rate(bytes_per_second: float) -> str:
    """Return a data rate in GB/s of 1e9 bytes."""
    return f"{significant(bytes_per_second / GB)} GB/s"


def percent(ratio: float) -> str:
    """Return a ratio in percent with one decimal, two below 0.1 %."""
    value = ratio * 100
    return f"{value:.2f} %" if 0 < abs(value) < 0.095 else f"{value:.1f} %"


def rough_percent(ratio: float) -> str:
    """Return a ratio in percent as a sentence wants it: whole from 10 % on."""
    return f"{ratio * 100:.0f} %" if ratio >= 0.0995 else percent(ratio)


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: 410 us, 35 ms, 2.1 s, 3 min 20 s."""
    if seconds == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1, 1e3, "ms"), (100, 1, "s")):
        if abs(seconds) < limit * 0.9995:
            return f"{significant(seconds * factor)} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def data_bytes(count: float) -> str:
    """Return an amount of data in decimal units: 21.5 GB."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= factor:
            return f"{significant(count / factor)} {unit}"
    return f"{count:.0f} B"


def memory_bytes(count: float) -> str:
    """Return an amount of memory in binary units, labelled so: 256 MiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.0f} {unit}" if value == int(value) else f"{significant(value)} {unit}"


def interval_rate(interval: Interval) -> str:
    """Return a throughput with its interval: "1.93 GB/s (90 %: 1.90 to 1.96, n = 3)"."""
    if interval.low is None or interval.high is None:
        return f"{rate(interval.estimate)} (n = {interval.n}, no interval)"
    low, high = significant(interval.low / GB), significant(interval.high / GB)
    return f"{rate(interval.estimate)} (90 %: {low} to {high}, n = {interval.n})"


def interval_percent(interval: Interval) -> str:
    """Return a ratio with its interval: "37.2 % (90 %: 36.0 to 38.4, n = 3)"."""
    if interval.low is None or interval.high is None:
        return f"{percent(interval.estimate)} (n = {interval.n}, no interval)"
    low, high = percent(interval.low)[:-2], percent(interval.high)[:-2]
    return f"{percent(interval.estimate)} (90 %: {low} to {high}, n = {interval.n})"
