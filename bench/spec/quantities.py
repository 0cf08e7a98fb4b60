"""Quantities with units: "2GiB", "3 GB/s", "350ms" become base units, bytes and seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

__all__ = ["Bytes", "BytesPerSecond", "Seconds", "parse_bytes", "parse_rate", "parse_seconds"]

BYTE_UNITS = {
    "": 1,
    "B": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("KMGTPE", 1)},
    "kB": 1000,
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGTPE", 1)},
    **{f"{p}i": 1024**i for i, p in enumerate("KMGTPE", 1)},
}
"""Decimal and binary units; the Kubernetes forms Ki, Mi, ... are binary too."""

SECOND_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "m": 60.0, "h": 3600.0}

QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")


def _parse(text: str, units: dict[str, int] | dict[str, float], what: str) -> float:
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a {what}")
    number, unit = match.groups()
    if unit not in units:
        known = ", ".join(u for u in units if u)
        raise ValueError(f"unknown unit {unit!r} in {text!r}; known units are {known}")
    return float(number) * units[unit]


def parse_bytes(value: object) -> object:
    """Return bytes as an integer for "2GiB", "512 MB", 4096; other types pass through.

    Raises:
        ValueError: The text is no number, has an unknown unit, or is not a whole number of bytes.
    """
    if isinstance(value, str):
        size = _parse(value, BYTE_UNITS, "size, such as 2GiB or 500MB")
        if size != int(size):
            raise ValueError(f"{value!r} is not a whole number of bytes")
        return int(size)
    return value


def parse_rate(value: object) -> object:
    """Return bytes per second for "3GB/s", "1.5 GiB/s" or a number.

    Raises:
        ValueError: The text is no rate.
    """
    if isinstance(value, str):
        return _parse(value.strip().removesuffix("/s"), BYTE_UNITS, "rate, such as 3GB/s")
    return value


def parse_seconds(value: object) -> object:
    """Return seconds for "350ms", "5m", 0.323.

    Raises:
        ValueError: The text is no duration.
    """
    if isinstance(value, str):
        return _parse(value, SECOND_UNITS, "duration, such as 350ms or 5m")
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=int | str)]
BytesPerSecond = Annotated[float, BeforeValidator(parse_rate, json_schema_input_type=float | str)]
Seconds = Annotated[float, BeforeValidator(parse_seconds, json_schema_input_type=float | str)]
