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
    """Runs copies in order and computes steps as soon as their instants are known.

    The host appends to `copies` and calls `command`; single operations on a deque are atomic,
    so nothing else is locked. The thread never polls: it sleeps until the host rings or the
    next instant that it must not anticipate.

    Args:
        mailbox: Where events go.
        clock: Nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self, mailbox: Mailbox, *, clock: Callable[[], int]) -> None:
        self.copies: deque[Copy] = deque()
        self.window: Window | None = None
        self.timeline = Timeline(0)
        self.failure: BaseException | None = None
        self.num_copied = 0
        self.lag_ns = 0
        self.max_lag_ns = 0
        self.asleep = False
        self.hungry = False
        self._mailbox = mailbox
        self._clock = clock
        self._commands: deque[Callable[[], None]] = deque()
        # A lock is the cheapest thing in Python that waits with a precise timeout
        # (sem_clockwait) and is woken by one futex call. It is held while nothing is new.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._drained = threading.Lock()
        self._drained.acquire()
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

    def copy(self, copy: Copy) -> None:
        """Enqueue one copy; wake the thread only when it has run out of copies."""
        self.copies.append(copy)
        if self.hungry:
            self.hungry = False
            self.ring()

    def command(self, act: Callable[[], None]) -> None:
        """Have the thread do `act` before it looks at further copies."""
        self._commands.append(act)
        if self.asleep:
            self.ring()

    def ring(self) -> None:
        """Wake the thread."""
        with contextlib.suppress(RuntimeError):  # it was awake, and the bell rung already
            self._bell.release()

    def drain(self) -> None:
        """Block until both streams are empty and the clock has passed their last instant.

        Returns as well when the thread has failed.
        """
        self.command(self._begin_finish)
        self._drained.acquire()

    def cpu_seconds(self) -> float:
        """Return the CPU time that the thread has used."""
        if self._cpu_clock is not None:
            with contextlib.suppress(OSError):  # it has ended since
                self._cpu_seconds = time.clock_gettime(self._cpu_clock)
        return self._cpu_seconds

    def close(self) -> None:
        """End the thread after the part it is copying, and return the window."""
        self._stopping = True
        self.ring()
        self._thread.join()
        self._cpu_clock = None
        if self.window is not None:
            self.window.close()
            self.window = None

    def _begin_finish(self) -> None:
        self._finishing = True

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
            self._drained.release()

    def _work(self) -> int | None:
        """Do the next thing that can be done now.

        Returns:
            `_AGAIN`; or the instant before which nothing can be done unless the host calls;
            None for no such instant.
        """
        while self._commands:
            self._commands.popleft()()
        for event in self.timeline.advance():
            self._mailbox.put(event)
        now = self._clock()
        if self._in_flight is not None:
            if now < self._in_flight.end_ns:
                return self._in_flight.end_ns
            self._deliver(self._in_flight, now)
            self._in_flight = None
        if self.copies:
            earliest = self.timeline.copy_start_ns(self.copies[0][1], self.copies[0][4])
            if earliest is None or earliest > now:
                return earliest
            self._copy(self.copies.popleft(), earliest, now)
            return _AGAIN
        if self._finishing:
            last = max(self.timeline.last_copy_end_ns, self.timeline.last_compute_end_ns)
            if last > now:
                return last
            self._finishing = False
            self._drained.release()
        return None

    def _copy(self, copy: Copy, earliest_ns: int, now_ns: int) -> None:
        """Move one piece, place it on the time line, deliver it unless the link is slower."""
        piece, batch, address, num_bytes, _ = copy
        pace_ns = self.timeline.pace_ns(num_bytes)
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
        self.timeline.record_copy(batch, end, late_ns=late)
        done = CopyDone(piece, start, end)
        if end <= now_ns:
            self._deliver(done, now_ns)
        else:
            self._in_flight = done

    def _deliver(self, done: CopyDone, now_ns: int) -> None:
        """Tell the host, and keep how much later than the stream's instant that is."""
        lag = now_ns - done.end_ns
        self.num_copied += 1
        self.lag_ns += lag
        self.max_lag_ns = max(self.max_lag_ns, lag)
        self._mailbox.put(done)

    def _sleep(self, due_ns: int | None) -> None:
        """Sleep until `due_ns`, a command, or (with nothing left to copy) a copy."""
        self.hungry = not self.copies and self._in_flight is None
        self.asleep = True
        # What the host added before it could see these flags must not be slept over.
        if not (self._commands or self._stopping or (self.hungry and self.copies)):
            if due_ns is None:
                self._bell.acquire()
            elif (seconds := (due_ns - self._clock()) / _NS) > 0:
                self._bell.acquire(timeout=seconds)
        self.asleep = self.hungry = False
        self._burst.wake()
