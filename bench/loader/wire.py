"""What crosses process borders: requests to the readers, completions from them, nothing else.

Messages are fixed-size records in two pipes. All reader threads of a rank block on one
request pipe: the kernel gives each message to exactly one of them, in order, and no thread
wakes that has no work. Writes of at most PIPE_BUF bytes are atomic (pipe(7)), so whole
messages arrive whole.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = [
    "COMPLETION",
    "DESCRIPTOR",
    "MAX_EXTENTS",
    "MAX_MESSAGES",
    "REQUEST",
    "Completion",
]

REQUEST = struct.Struct("<qiii4x")
"""piece, slot, number of extents, samples to decode."""

DESCRIPTOR = struct.Struct("<qqqq")
"""One extent in a slot's descriptor area: file, offset, length, slot offset."""

MAX_EXTENTS = 512
"""Most extents packed into one slot; bounds the descriptor area (16 KiB a slot)."""

COMPLETION = struct.Struct("<qiiiiiiiiqqqqqqqqqqqq")


class Completion(NamedTuple):
    """A finished (or failed) piece; instants and amounts in nanoseconds."""

    piece: int
    slot: int
    reader: int
    thread: int
    code: int
    """0, or an errno; -1: the object ended early, at byte `found_bytes`; below -100: a fault of
    an object store, with its HTTP status in `found_bytes`."""
    retries: int
    short_reads: int
    fallback_reads: int
    slow_downs: int
    file: int
    """The object that failed."""
    found_bytes: int
    transferred_bytes: int
    start: int
    read_end: int
    ready: int
    open_ns: int
    first_byte_ns: int
    cpu_ns: int
    decode_cpu_ns: int
    run_delay_ns: int
    wake_delay_ns: int


PIPE_BUF = 4096
MAX_MESSAGES = PIPE_BUF // REQUEST.size
"""Most requests in one atomic write."""
