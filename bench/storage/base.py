"""What a reader thread asks of a storage backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "PAGE_BYTES",
    "Backend",
    "Entry",
    "Extent",
    "PeekStore",
    "ReadStats",
    "StorageReadError",
    "Store",
    "ThreadReader",
]

PAGE_BYTES = 4096
"""Extents lie in a slot at the same offset modulo this as in their file: O_DIRECT needs it,
and buffered copies on Zen 3 are 3.5-7 times slower for some other offsets."""


class Extent(NamedTuple):
    """A byte range of one object, and where it goes."""

    file: int
    """Index of the object in the manifest."""
    offset: int
    """First byte in the object."""
    length: int
    """Payload bytes."""
    slot_offset: int
    """Where byte `offset` goes in the slot; congruent to `offset` modulo PAGE_BYTES."""


class ReadStats:
    """Amounts of one piece, reset by the reader before each piece; durations in nanoseconds."""

    __slots__ = (
        "fallback_reads",
        "first_byte_ns",
        "open_ns",
        "retries",
        "short_reads",
        "slow_downs",
        "transferred_bytes",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all amounts to zero."""
        self.transferred_bytes = 0
        self.open_ns = 0
        self.first_byte_ns = 0
        self.retries = 0
        self.short_reads = 0
        self.slow_downs = 0
        self.fallback_reads = 0


class StorageReadError(Exception):
    """A read failed for good, inside a reader process.

    Args:
        file: Index of the object.
        code: errno; 0 where the object ended early; below -100 a fault of an object store
            (`bench.storage.object.faults`).
        found_bytes: Where the object ended, for `code` 0; HTTP status of a fault.
    """

    def __init__(self, file: int, code: int, found_bytes: int = 0) -> None:
        self.file = file
        self.code = code
        self.found_bytes = found_bytes
        super().__init__(file, code, found_bytes)


class ThreadReader(Protocol):
    """One reader thread's access; used by that thread only."""

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """Fill the slot with the extents, completely.

        Args:
            piece: Number of the piece, for seeded behaviour.
            extents: What to read; spans rounded to PAGE_BYTES do not overlap in the slot.
            slot: The whole slot, page-aligned.
            stats: Where amounts are added.

        Raises:
            StorageReadError: The object cannot be read or ends early.
        """

    def close(self) -> None:
        """Give back descriptors."""


class Backend(Protocol):
    """One reader process's access to a storage target."""

    def thread_reader(self) -> ThreadReader:
        """Return the access of one more thread."""

    def close(self) -> None:
        """Give back what threads shared."""


class Entry(NamedTuple):
    """One object of a store."""

    name: str
    """Below the store's root."""
    size: int
    """Bytes."""
    etag: str
    """Changes whenever the object is written."""


class Store(Protocol):
    """What is done with a storage target outside of measuring: objects below one root."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with `prefix`, in bounded memory."""

    def stat(self, name: str) -> Entry | None:
        """Return one object; None where there is no such object."""

    def write(self, name: str, size: int, parts: Iterable[tuple[int, memoryview]]) -> Entry:
        """Write an object, whole or not at all, from (offset, bytes) parts.

        Parts come in order, but the head (offset 0) may come last.
        """

    def delete(self, entry: Entry) -> bool:
        """Delete an object if it is still the one that was written; say whether it was."""


class PeekStore(Protocol):
    """A store that can be scanned."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with `prefix`, in bounded memory."""

    def peek(self, name: str, count: int) -> bytes:
        """Return the first bytes of an object, fewer where it is shorter."""
