"""Storage with an exactly known speed and no bytes behind it; and none at all (`null`).

The model, also stated in docs/method.md: a request waits its own latency (constant, plus a
seeded exponential, plus an extra one for every n-th request), then its bytes pass one pipe
that all readers of the node share, in the order in which their latencies end. Instants are
computed and waited for, so a late wake-up of one request never slows the next one down.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Sequence

from bench.storage.base import Extent, ReadStats

__all__ = ["NullBackend", "SimulatedBackend", "jitter_ns", "make_server_state", "uniform"]

STATE_BYTES = mmap.PAGESIZE
PR_SET_TIMERSLACK = 29
MASK64 = (1 << 64) - 1

F_OFD_SETLKW = 38
"""Open-file-description locks: unlike POSIX locks they exclude threads of one process too."""


def make_server_state() -> int:
    """Return the descriptor of a new simulated server's shared state (all readers map it)."""
    fd = os.memfd_create("bench-simulated")
    os.ftruncate(fd, STATE_BYTES)
    return fd


def uniform(seed: int, number: int) -> float:
    """Return a number in (0, 1] that depends on (seed, number) alone, in every process.

    SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
    OOPSLA 2014).
    """
    z = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xD1342543DE82EF95) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return ((z ^ (z >> 31)) + 1) / 2**64


def jitter_ns(seed: int, piece: int, mean_ns: float) -> int:
    """Return the exponential extra latency of one request: a uniform number's logarithm."""
    return int(-math.log(uniform(seed, piece)) * mean_ns)


def _sleep_until(deadline_ns: int) -> None:
    while (left := deadline_ns - time.perf_counter_ns()) > 0:
        time.sleep(left / 1e9)


class SimulatedBackend:
    """The simulated server as one reader process sees it.

    Args:
        state_fd: From `make_server_state`, shared by all ranks of the node.
        bandwidth_bytes_per_second: Of the shared pipe; None for no limit.
        latency_seconds: Of each request.
        jitter_seconds: Mean of the exponential extra latency.
        slow_every: Every n-th piece is slow; 0 for none.
        slow_seconds: Extra latency of those.
        seed: Of the jitter.
    """

    def __init__(
        self,
        state_fd: int,
        *,
        bandwidth_bytes_per_second: float | None,
        latency_seconds: float,
        jitter_seconds: float,
        slow_every: int,
        slow_seconds: float,
        seed: int,
    ) -> None:
        self.state_fd = state_fd
        self.state = mmap.mmap(state_fd, STATE_BYTES)
        self.ns_per_byte = 1e9 / bandwidth_bytes_per_second if bandwidth_bytes_per_second else 0.0
        self.latency_ns = int(latency_seconds * 1e9)
        self.jitter_mean_ns = jitter_seconds * 1e9
        self.slow_every = slow_every
        self.slow_ns = int(slow_seconds * 1e9)
        self.seed = seed
        self.lock = threading.Lock()

    def thread_reader(self) -> _SimulatedThreadReader:
        """Return the access of one more thread; called on that thread."""
        return _SimulatedThreadReader(self)

    def close(self) -> None:
        """Unmap the shared state."""
        self.state.close()


class _SimulatedThreadReader:
    def __init__(self, backend: SimulatedBackend) -> None:
        self._backend = backend
        # Its own open file description, so that its locks exclude every other thread.
        self._lock_fd = os.open(f"/proc/self/fd/{backend.state_fd}", os.O_RDWR | os.O_CLOEXEC)
        # Default slack delays wake-ups by 50 us, which would add up to the latency.
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)

    def close(self) -> None:
        os.close(self._lock_fd)

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """Let the piece's time pass; the slot keeps what it held."""
        del slot
        backend = self._backend
        begin = time.perf_counter_ns()
        num_bytes = sum(extent[2] for extent in extents)
        latency = backend.latency_ns
        if backend.jitter_mean_ns:
            latency += jitter_ns(backend.seed, piece, backend.jitter_mean_ns)
        if backend.slow_every and piece % backend.slow_every == backend.slow_every - 1:
            latency += backend.slow_ns
        first_byte = begin + latency
        _sleep_until(first_byte)
        _sleep_until(self._reserve(first_byte, num_bytes))
        stats.first_byte_ns += latency
        stats.transferred_bytes += num_bytes

    def _reserve(self, first_byte_ns: int, num_bytes: int) -> int:
        """Take the pipe's next free time; return when the last byte arrives."""
        backend = self._backend
        if not backend.ns_per_byte:
            return first_byte_ns
        with backend.lock:
            lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 8, 0)
            fcntl.fcntl(self._lock_fd, F_OFD_SETLKW, lock)
            try:
                (free,) = struct.unpack_from("d", backend.state)
                end = max(float(first_byte_ns), free) + num_bytes * backend.ns_per_byte
                struct.pack_into("d", backend.state, 0, end)
            finally:
                unlock = struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, 0, 8, 0)
                fcntl.fcntl(self._lock_fd, F_OFD_SETLKW, unlock)
        return int(end)


class NullBackend:
    """Reads nothing in no time: what is left is the loader's own cost."""

    def thread_reader(self) -> NullBackend:
        """Return itself; there is no state."""
        return self

    def close(self) -> None:
        """Nothing to give back."""

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """Count the bytes."""
        del piece, slot
        stats.transferred_bytes += sum(extent[2] for extent in extents)
