"""CRC-32C of files, whatever order their parts come in, and TFRecord's mask."""

from __future__ import annotations

import numpy as np

__all__ = ["Crc32c", "combine", "crc32c", "mask_crc"]

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bits reversed (RFC 3720, B.4)."""

MASK_DELTA = 0xA282EAD8
"""TFRecord's CRC mask (tensorflow/core/lib/hash/crc32c.h): rotate right by 15, add this."""


def crc32c(data: memoryview | bytes, crc: int = 0) -> int:
    """Extend a CRC-32C by more bytes, without a copy of them."""
    import google_crc32c

    # The library refuses memoryviews; an array of the same memory will do.
    return int(google_crc32c.extend(crc, np.frombuffer(data, np.uint8)))


def mask_crc(crc: int) -> int:
    """Return a CRC as TFRecord stores it."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def combine(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32C of two stretches of bytes from the CRC of each.

    A CRC is linear over GF(2): `first` is multiplied by x^(8 * second_bytes) modulo the
    polynomial, by squaring, and `second` added.
    """
    power, factor, exponent = 1 << 31, 1 << 30, 8 * second_bytes  # x^0, x^1
    while exponent:
        if exponent & 1:
            power = _multiply(power, factor)
        factor = _multiply(factor, factor)
        exponent >>= 1
    return _multiply(first, power) ^ second


def _multiply(left: int, right: int) -> int:
    """Return the product modulo the polynomial; bit 31 is x^0."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (POLYNOMIAL if right & 1 else 0)
    return product


class Crc32c:
    """CRC-32C of a file whose parts come in order, but for its head, which may come last."""

    def __init__(self) -> None:
        self.value = 0
        self._start: int | None = None
        self._end = 0

    def add(self, offset: int, part: memoryview) -> None:
        """Take the bytes at `offset`, directly behind or before those taken so far.

        Raises:
            ValueError: There is a gap.
        """
        if self._start is None:
            self._start = self._end = offset
        if offset == self._end:
            self.value = crc32c(part, self.value)
            self._end += len(part)
        elif offset + len(part) == self._start:
            self.value = combine(crc32c(part), self.value, self._end - self._start)
            self._start = offset
        else:
            raise ValueError(f"bytes from {offset} join neither {self._start} nor {self._end}")
