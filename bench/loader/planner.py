"""From batches of samples to pieces: what one reader thread reads into one slot.

Large extents are cut at multiples of the block, so that O_DIRECT reads stay aligned; small
ones are packed until a slot is full. A piece never holds samples of two batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.loader.wire import MAX_EXTENTS
from bench.storage.base import PAGE_BYTES

__all__ = ["PlannedPiece", "PlannedStep", "largest_batch_bytes", "plan_pieces"]


@dataclass(frozen=True, slots=True)
class PlannedPiece:
    """One piece of a batch.

    Attributes:
        extents: Shape (n, 4) int64: file, offset, length, slot offset.
        payload_bytes: Sum of the lengths.
        used_bytes: Bytes of the slot from 0 to the end of the last extent's span.
        num_samples: Samples that end in this piece, for decoding.
    """

    extents: NDArray[np.int64]
    payload_bytes: int
    used_bytes: int
    num_samples: int


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a rank; no pieces for an empty step joined in lock-step."""

    step: int
    epoch: int
    num_samples: int
    payload_bytes: int
    pieces: list[PlannedPiece]


def _spans(extents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes each extent (file, offset, length) takes when rounded out to pages."""
    lead = extents[:, 1] % PAGE_BYTES
    return (lead + extents[:, 2] + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


def plan_pieces(
    extents: NDArray[np.int64], num_samples: NDArray[np.int64], *, block_bytes: int
) -> list[PlannedPiece]:
    """Cut and pack one batch.

    Args:
        extents: Shape (n, 3) int64: file, offset, length, in reading order.
        num_samples: Shape (n,): samples in each extent.
        block_bytes: Slot size, a multiple of PAGE_BYTES.

    Returns:
        Pieces in reading order; their payloads sum to the extents' lengths.
    """
    spans = _spans(extents)
    pieces: list[PlannedPiece] = []
    first = 0
    large = np.flatnonzero(spans > block_bytes)
    for index in large.tolist():
        _pack(pieces, extents[first:index], spans[first:index], num_samples[first:index],
              block_bytes)  # fmt: skip
        _cut(pieces, extents[index], int(num_samples[index]), block_bytes)
        first = index + 1
    _pack(pieces, extents[first:], spans[first:], num_samples[first:], block_bytes)
    return pieces


def _cut(
    pieces: list[PlannedPiece], extent: NDArray[np.int64], num_samples: int, block_bytes: int
) -> None:
    file, offset, length = extent.tolist()
    end = offset + length
    decoded = 0
    while offset < end:
        lead = offset % PAGE_BYTES
        stop = min(end, offset - lead + block_bytes)
        # Samples of a cut extent are spread over its pieces in proportion to their bytes.
        done = num_samples - num_samples * (end - stop) // length
        pieces.append(
            PlannedPiece(
                np.array([[file, offset, stop - offset, lead]], np.int64),
                stop - offset,
                lead + stop - offset,
                done - decoded,
            )
        )
        decoded = done
        offset = stop


def _pack(
    pieces: list[PlannedPiece],
    extents: NDArray[np.int64],
    spans: NDArray[np.int64],
    num_samples: NDArray[np.int64],
    block_bytes: int,
) -> None:
    ends = np.cumsum(spans)
    first = 0
    while first < len(extents):
        base = int(ends[first] - spans[first])
        last = int(np.searchsorted(ends, base + block_bytes, side="right"))
        last = min(max(last, first + 1), first + MAX_EXTENTS)
        chunk = extents[first:last]
        placed = np.empty((last - first, 4), np.int64)
        placed[:, :3] = chunk
        placed[:, 3] = ends[first:last] - spans[first:last] - base + chunk[:, 1] % PAGE_BYTES
        pieces.append(
            PlannedPiece(
                placed,
                int(chunk[:, 2].sum()),
                int(placed[-1, 3] + placed[-1, 2]),
                int(num_samples[first:last].sum()),
            )
        )
        first = last


def largest_batch_bytes(sizes: NDArray[np.int64], batch_size: int, *, block_bytes: int) -> int:
    """Return a bound on the slot bytes of any batch: its samples plus page rounding.

    Args:
        sizes: Bytes of each sample as stored, any shape.
        batch_size: Samples of a batch.
        block_bytes: Slot size.
    """
    if sizes.size == 0:
        return block_bytes
    worst = int(sizes.max())
    return batch_size * (worst + 2 * PAGE_BYTES * (1 + worst // block_bytes))
