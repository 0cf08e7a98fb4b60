"""Quantities with units: "2GiB", "3 GB/s", "350ms" become base units, bytes and seconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

__all__ = ["Bytes", "BytesPerSecond", "Seconds", "parse_bytes", "parse_rate", "parse_seconds"]

MAX_BYTES = 2**63 - 1
"""Sizes travel through 64-bit columns and system calls."""

MAX_SECONDS = 1e9
"""Thirty years: in nanoseconds still a 64-bit number."""

BYTE_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("KMGTPE", 1)},
    "kB": 1000,
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGTPE", 1)},
    **{f"{p}i": 1024**i for i, p in enumerate("KMGTPE", 1)},
}
"""Decimal and binary units; the Kubernetes forms Ki, Mi, ... are binary too."""

SECOND_UNITS: dict[str, Decimal] = {
    "": Decimal(1),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
    "m": Decimal(60),
    "h": Decimal(3600),
}

# Three digits of exponent: enough for any size, and no integer of a billion digits.
QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-z]*)\s*")

SIZE = "a size, such as 2GiB or 500MB"
RATE = "a rate, such as 3GB/s"
DURATION = "a duration, such as 350ms or 5m"


def _parse(text: str, units: dict[str, int] | dict[str, Decimal], what: str) -> Decimal:
    match = QUANTITY.fullmatch(text)
    if match is None or len(text) > 64:
        raise ValueError(f"must be {what}")
    number, unit = match.groups()
    if unit not in units:
        known = ", ".join(u for u in units if u)
        raise ValueError(f"has the unknown unit {unit!r}; known units are {known}")
    return Decimal(number) * units[unit]


def _check_type(value: object, what: str) -> None:
    # bool is an int to Python; `size: yes` is nonsense to a person.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be {what}")  # noqa: TRY004 - pydantic reports ValueError alone


def parse_bytes(value: object) -> object:
    """Return bytes as an integer for "2GiB", "512 MB", 4096.

    Raises:
        ValueError: The value is no number, has an unknown unit, or is not a whole number of
            bytes.
    """
    _check_type(value, SIZE)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        size = _parse(value, BYTE_UNITS, SIZE)
        if size != size.to_integral_value():
            raise ValueError("must be a whole number of bytes")
        return int(size)
    return value


def parse_rate(value: object) -> object:
    """Return bytes per second for "3GB/s", "1.5 GiB/s" or a number.

    Raises:
        ValueError: The value is no rate.
    """
    _check_type(value, RATE)
    if isinstance(value, str):
        return float(_parse(value.strip().removesuffix("/s"), BYTE_UNITS, RATE))
    return value


def parse_seconds(value: object) -> object:
    """Return seconds for "350ms", "5m", 0.323.

    Raises:
        ValueError: The value is no duration.
    """
    _check_type(value, DURATION)
    if isinstance(value, str):
        return float(_parse(value, SECOND_UNITS, DURATION))
    return value


Bytes = Annotated[
    int, BeforeValidator(parse_bytes, json_schema_input_type=int | str), Field(le=MAX_BYTES)
]
BytesPerSecond = Annotated[
    float, BeforeValidator(parse_rate, json_schema_input_type=float | str), Field(le=1e18)
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds, json_schema_input_type=float | str),
    Field(le=MAX_SECONDS),
]
