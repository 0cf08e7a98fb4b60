"""Seeded shuffles that stay the same in every version of numpy, and need no table if asked.

`numpy.random.Generator.permutation` promises neither (NEP 19): orders are part of what makes
two runs comparable, and a table of the samples of a large data set would not fit beside the
ring.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Permutation", "shuffled"]

ROUNDS = 6
"""Four make a Feistel network of random functions a pseudorandom permutation (Luby and
Rackoff, 1988); two more for functions that are only well mixed."""

MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
"""Multipliers of splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014; Stafford's
variant 13)."""


def _words(seeds: tuple[int, ...], count: int) -> npt.NDArray[np.uint64]:
    """Return random words; both SeedSequence and raw Philox words are promised to be stable."""
    return np.random.Philox(np.random.SeedSequence(seeds)).random_raw(count)


def shuffled(count: int, *, seeds: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return a random order of range(count), shape (count,)."""
    return np.argsort(_words(seeds, count), kind="stable").astype(np.int64)


class Permutation:
    """A random order of range(count) that is computed where it is looked at.

    A Feistel network over the next power of four, walked until it lands inside (Black and
    Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        count: At least 1, at most 2**62.
        seeds: Anything that is to make a difference.
    """

    def __init__(self, count: int, *, seeds: tuple[int, ...]) -> None:
        self._count = np.uint64(count)
        self._half = np.uint64(max(1, (max(1, count - 1).bit_length() + 1) // 2))
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)
        self._keys = _words(seeds, ROUNDS)

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what stands at the given positions, shape as theirs."""
        found = self._walk(positions.astype(np.uint64))
        outside = np.flatnonzero(found >= self._count)
        while len(outside):
            found[outside] = self._walk(found[outside])
            outside = outside[found[outside] >= self._count]
        return found.astype(np.int64)

    def _walk(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (self._mix(right + key) & self._mask)
        return left << self._half | right

    @staticmethod
    def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        values = (values ^ values >> np.uint64(30)) * MIX_1
        values = (values ^ values >> np.uint64(27)) * MIX_2
        return values ^ values >> np.uint64(31)
