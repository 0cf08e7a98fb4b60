"""The emulated device's copy stream: one thread that moves bytes and keeps the time line."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable

from bench.device.base import CopyDone
from bench.device.mailbox import Mailbox
from bench.device.timeline import Burst, Timeline

__all__ = ["Copy", "CopyThread", "Sink", "Window"]

Copy = tuple[int, int, int, int, int]
"""piece, batch, address, num_bytes, enqueued_ns: a tuple, since one is made for each piece."""

Sink = Callable[[int, memoryview], None]
"""Receives (piece, bytes as they arrived) in order; a piece larger than the window in parts."""

_NS = 1_000_000_000
_AGAIN = 0
_PR_SET_TIMERSLACK = 29  # <linux/prctl.h>; of the calling thread, in ns; the default is 50 us


class Window:
    """Bounded memory that stands for the device's; pieces wrap around in it.

    Args:
        num_bytes: Its size; pre-faulted, so that no copy pays for page faults.
        sink: Called with every part as it arrived; None for none.
    """

    def __init__(self, num_bytes: int, *, sink: Sink | None) -> None:
        self.num_bytes = num_bytes
        self._sink = sink
        self._at = 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        self._memory = mmap.mmap(-1, num_bytes, flags=flags)
        self._array = (ctypes.c_char * num_bytes).from_buffer(self._memory)
        self._address = ctypes.addressof(self._array)

    def receive(self, piece: int, address: int, num_bytes: int) -> None:
        """Copy `num_bytes` from `address`; memmove runs without the interpreter lock."""
        while num_bytes > 0:
            part = min(num_bytes, self.num_bytes - self._at)
            ctypes.memmove(self._address + self._at, address, part)
            if self._sink is not None:
                with memoryview(self._memory)[self._at : self._at + part] as view:
                    self._sink(piece, view)
            self._at = (self._at + part) % self.num_bytes
            address += part
            num_bytes -= part

    def close(self) -> None:
        """Return the memory."""
        del self._array
        self._memory.close()


class CopyThread:
    """Runs copies in order; computes steps as soon as their instants are known.

    The host appends to a deque, which needs no lock; the time line is computed under one, by
    whichever thread has news for it, so a step wakes nobody. The thread never polls: it sleeps
    until the next instant that it must not anticipate, or until the host rings.

    Args:
        mailbox: Where events go.
        clock: Nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self, mailbox: Mailbox, *, clock: Callable[[], int]) -> None:
        self.window: Window | None = None
        self.failure: BaseException | None = None
        self.num_copied = 0
        self.lag_ns = 0
        self.max_lag_ns = 0
        self._mailbox = mailbox
        self._clock = clock
        self._timeline = Timeline(0)
        self._lock = threading.Lock()
        self._copies: deque[Copy] = deque()
        self._num_enqueued = 0
        # A lock is the cheapest thing in Python that waits with a precise timeout
        # (sem_clockwait) and is woken by one futex call. It is held while nothing is new.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._drained = threading.Event()
        self._hungry = False  # asleep for want of copies
        self._blocked = False  # asleep for want of a step that frees the buffer
        self._finishing = False
        self._stopping = False
        self._burst = Burst()
        self._stamp_ns = 0
        self._stamp_cpu_ns = 0
        self._in_flight: CopyDone | None = None
        self._cpu_clock: int | None = None
        self._cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="bench-copy", daemon=True)
        self._thread.start()

    def start(self, timeline: Timeline) -> None:
        """Begin a phase; nothing may be in flight."""
        self._timeline = timeline

    def copy(self, copy: Copy) -> None:
        """Enqueue one copy; wake the thread only when it has run out of them."""
        self._num_enqueued += 1
        self._copies.append(copy)
        if self._hungry:
            self._hungry = False
            self._ring()

    def settle(self, news: Callable[[Timeline], None]) -> None:
        """Give the time line a step or a release, and deliver what follows from it."""
        with self._lock:
            news(self._timeline)
            self._deliver_steps()
        if self._blocked:
            self._ring()

    def drain(self) -> None:
        """Block until both streams are empty and the clock has passed their last instant.

        Returns as well when the thread has failed.
        """
        self._drained.clear()
        self._finishing = True
        if self.failure is None and self.num_copied < self._num_enqueued:
            self._ring()
            self._drained.wait()
        self._finishing = False
        with self._lock:
            last = self._timeline.last_ns
        while self.failure is None and (left := last - self._clock()) > 0:
            time.sleep(left / _NS)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the thread has used."""
        if self._cpu_clock is not None:
            with contextlib.suppress(OSError):  # it has ended since
                self._cpu_seconds = time.clock_gettime(self._cpu_clock)
        return self._cpu_seconds

    def close(self) -> None:
        """End the thread after the part that it is copying, and return the window."""
        self._stopping = True
        self._ring()
        self._thread.join()
        self._cpu_clock = None
        if self.window is not None:
            self.window.close()
            self.window = None

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # rung already
            self._bell.release()

    def _run(self) -> None:
        self._cpu_clock = time.pthread_getcpuclockid(threading.get_ident())
        with contextlib.suppress(OSError, AttributeError):  # precision, not correctness
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        try:
            while not self._stopping:
                due_ns = self._work()
                if due_ns != _AGAIN:
                    self._sleep(due_ns)
        except Exception as error:  # noqa: BLE001 - a thread's edge: the host's call raises it
            self.failure = error
            self._mailbox.signal()
        finally:
            self._cpu_seconds = time.thread_time()
            self._drained.set()

    def _work(self) -> int | None:
        """Do the next thing that can be done now.

        Returns:
            `_AGAIN`; or the instant before which nothing can be done unless the host calls;
            None for no such instant.
        """
        now = self._clock()
        if self._in_flight is not None:
            if now < self._in_flight.end_ns:
                return self._in_flight.end_ns
            self._deliver(self._in_flight, now)
            self._in_flight = None
        if not self._copies:
            if self._finishing and self.num_copied == self._num_enqueued:
                self._finishing = False
                self._drained.set()
            return None
        earliest = self._earliest_ns()
        if earliest is None or earliest > now:
            return earliest
        self._copy(self._copies.popleft(), earliest, now)
        return _AGAIN

    def _copy(self, copy: Copy, earliest_ns: int, now_ns: int) -> None:
        """Move one piece, place it on the time line, deliver it unless the link is slower."""
        piece, batch, address, num_bytes, _ = copy
        pace_ns = self._timeline.pace_ns(num_bytes)
        if self.window is None:
            start, end, late = earliest_ns, earliest_ns + pace_ns, 0
        else:
            if self._burst.lag_ns is None:
                self._stamp_ns, self._stamp_cpu_ns = now_ns, time.thread_time_ns()
            self.window.receive(piece, address, num_bytes)
            ended, ended_cpu = self._clock(), time.thread_time_ns()
            idle = (ended - self._stamp_ns) - (ended_cpu - self._stamp_cpu_ns)
            self._stamp_ns, self._stamp_cpu_ns = ended, ended_cpu
            start, end, late = self._burst.place(
                earliest_ns, started_ns=now_ns, ended_ns=ended, idle_ns=idle, pace_ns=pace_ns
            )
            now_ns = ended
        done = CopyDone(piece, start, end)
        with self._lock:  # so that `drain` sees the copy and its consequences, or neither
            self._timeline.record_copy(batch, end, start_ns=start, late_ns=late)
            if end <= now_ns:
                self._deliver(done, now_ns)
            else:
                self._in_flight = done
            self._deliver_steps()

    def _deliver(self, done: CopyDone, now_ns: int) -> None:
        """Tell the host, and keep how much later than the stream's instant that is."""
        lag = now_ns - done.end_ns
        self.num_copied += 1
        self.lag_ns += lag
        self.max_lag_ns = max(self.max_lag_ns, lag)
        self._mailbox.put(done)

    def _deliver_steps(self) -> None:
        for event in self._timeline.advance():
            self._mailbox.put(event)

    def _sleep(self, due_ns: int | None) -> None:
        """Sleep until `due_ns`, or until the host brings what the thread has run out of."""
        self._hungry = not self._copies and self._in_flight is None
        self._blocked = due_ns is None and not self._hungry
        # News that came before the host could see these flags must not be slept over.
        if self._news():
            pass
        elif due_ns is None:
            self._bell.acquire()
        elif (seconds := (due_ns - self._clock()) / _NS) > 0:
            self._bell.acquire(timeout=seconds)
        self._hungry = self._blocked = False
        self._burst.wake()

    def _news(self) -> bool:
        if self._stopping or (self._hungry and (self._copies or self._finishing)):
            return True
        return self._blocked and self._earliest_ns() is not None

    def _earliest_ns(self) -> int | None:
        _, batch, _, _, enqueued = self._copies[0]
        return self._timeline.copy_start_ns(batch, enqueued)
