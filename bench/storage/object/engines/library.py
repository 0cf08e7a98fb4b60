"""The reader that all engines of other libraries share: retries, counts, time stamps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from bench.storage.base import Extent, ReadStats
from bench.storage.object.faults import Fault, ObjectFault
from bench.storage.object.http import ObjectTable, failure
from bench.storage.object.retry import RetryPolicy

__all__ = ["Fetch", "LibraryBackend", "fill"]

clock_ns = time.perf_counter_ns

OnFirstByte = Callable[[], None]


class Fetch(Protocol):
    """One request by a library; called from many threads at a time."""

    def __call__(
        self, key: str, offset: int, view: memoryview, etag: str, on_first_byte: OnFirstByte
    ) -> int:
        """Fill the view with an object's bytes from `offset`; return how many came.

        Args:
            key: From the bucket's root, not encoded.
            offset: First byte.
            view: Where to; its length is what is asked for.
            etag: What the object must have; empty for any.
            on_first_byte: Called when the first byte is there, by libraries that show it.

        Raises:
            ObjectFault: The request failed.
        """


def fill(view: memoryview, at: int, data: Any) -> int:
    """Copy some bytes into the view; return where they end.

    Raises:
        ObjectFault: They are more than was asked for.
    """
    end = at + len(data)
    if end > len(view):
        raise ObjectFault(Fault.WRONG_RANGE, detail="more bytes than were asked for")
    view[at:end] = memoryview(data).cast("B")
    return end


class LibraryBackend:
    """The objects of a data set, read by a library.

    Args:
        table: Their keys.
        prefix: Encoded; from the bucket's root to the data set.
        fetch: The library's request.
        retry: When to try again.
    """

    def __init__(
        self, table: ObjectTable, *, prefix: str, fetch: Fetch, retry: RetryPolicy
    ) -> None:
        self._table = table
        self._prefix = unquote(prefix)
        self._fetch = fetch
        self._retry = retry

    def thread_reader(self) -> LibraryBackend:
        """Return itself: libraries keep their connections to themselves."""
        return self

    def close(self) -> None:
        """Nothing that the end of the process does not give back."""

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """See `bench.storage.base.ThreadReader.read`."""
        for file, offset, length, at in extents:
            key = self._prefix + unquote(self._table.path(file))
            self._read(piece, file, key, offset, slot[at : at + length], stats)

    def _read(
        self, piece: int, file: int, key: str, offset: int, view: memoryview, stats: ReadStats
    ) -> None:
        etag = self._table.etag(file)
        ended_at = -1
        for attempt in range(self._retry.max_attempts):
            begin = clock_ns()
            seen: list[int] = []

            def first_byte(seen: list[int] = seen) -> None:
                seen.append(clock_ns())

            try:
                count = self._fetch(key, offset, view, etag, first_byte)
                if count < len(view):
                    # The same length twice is where the object ends, and no accident.
                    found = offset + count if count == ended_at else -1
                    ended_at = count
                    raise ObjectFault(Fault.SHORT_BODY, found_bytes=found)
            except ObjectFault as fault:
                stats.first_byte_ns += (seen[0] if seen else clock_ns()) - begin
                last = attempt + 1 == self._retry.max_attempts or fault.found_bytes >= 0
                if not fault.passing or last:
                    raise failure(file, fault) from fault
                stats.retries += 1
                stats.slow_downs += fault.fault is Fault.THROTTLED
                stats.short_reads += fault.fault is Fault.SHORT_BODY
                begin = clock_ns()
                time.sleep(self._retry.delay_seconds(piece, attempt))
                stats.first_byte_ns += clock_ns() - begin
            else:
                # A library that shows no first byte leaves all its time to the transfer.
                stats.first_byte_ns += seen[0] - begin if seen else 0
                stats.transferred_bytes += count
                return
