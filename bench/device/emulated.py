"""An accelerator without a GPU: copies really run, steps are computed.

The copy stream is a thread that moves bytes from the registered ring into a bounded window,
in order and asynchronously to the host, so a slot that is refilled before its `CopyDone`
arrives corrupted here just as on a GPU. The compute stream takes nobody's time: its instants
follow from `bench.device.timeline`. Therefore:

- `CopyDone` is delivered when the bytes have moved and, on a paced link, not before its end;
- `StepReady` and `StepDone` are delivered as soon as their instants are *known*, which may be
  before the host's clock gets there; hosts use them for progress and for lock-step;
- `finish` waits until the host's clock has passed the last instant of both streams.

Instants leave out how late the thread woke (a copy engine has no thread), so `late_ns` is
what is left: time that the thread lost to other threads and processes while it was copying.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from bench.device.base import DeviceEvent, DeviceFacts
from bench.device.copy_thread import CopyThread, Sink, Window
from bench.device.duties import HostDuties
from bench.device.mailbox import Mailbox
from bench.device.timeline import BUFFERS, Timeline
from bench.errors import InfrastructureError

__all__ = ["WINDOW_BYTES", "EmulatedDevice"]

WINDOW_BYTES = 64 * 2**20
"""Bytes that stand for device memory: more than one core's share of a last-level cache, so
that copies cost memory bandwidth as a GPU's do, and little enough for any memory limit."""

_NS = 1_000_000_000
_PLACE = "emulated device"


class EmulatedDevice:
    """An emulated accelerator; the methods' contract is `bench.device.base.Device`.

    Args:
        name: The named step time, for example "h100".
        copy_mode: "bytes" moves every byte; "none" only paces and reads no slot.
        link_bytes_per_second: Pace of copies; None for as fast as memory goes.
        window_bytes: Largest window; less is taken where two batches are smaller.
        clock: Nanoseconds of CLOCK_MONOTONIC.
        sink: For tests: called on the copy thread with (piece, bytes) as they arrived.
    """

    def __init__(
        self,
        name: str,
        *,
        copy_mode: str = "bytes",
        link_bytes_per_second: float | None = None,
        window_bytes: int = WINDOW_BYTES,
        clock: Callable[[], int] = time.perf_counter_ns,
        sink: Sink | None = None,
    ) -> None:
        if copy_mode not in ("bytes", "none"):
            raise InfrastructureError(
                _PLACE, f"unknown copy mode {copy_mode!r}", "use 'bytes' or 'none'"
            )
        self._name = name
        self._copy_mode = copy_mode
        self._link = link_bytes_per_second
        self._max_window_bytes = window_bytes
        self._clock = clock
        self._sink = sink
        self._duties = HostDuties(_PLACE)
        self._ring: ctypes.Array[ctypes.c_char] | None = None
        self._address = 0
        self._window_bytes = 0
        self._mailbox = Mailbox()
        self._thread = CopyThread(self._mailbox, clock=clock)

    def register(self, ring: memoryview) -> None:
        """Note where the ring lies; it stays exported, so cannot be unmapped, until `close`."""
        self._duties.register(ring.nbytes)
        self._ring = (ctypes.c_char * ring.nbytes).from_buffer(ring)
        self._address = ctypes.addressof(self._ring)

    def start(self, max_batch_bytes: int, step_seconds: float) -> None:
        """Begin a phase; the window grows where the phase needs a larger one."""
        self._check()
        self._duties.start(max_batch_bytes, step_seconds)
        if self._copy_mode == "bytes":
            self._make_window(max_batch_bytes)
        self._thread.start(Timeline(round(step_seconds * _NS), self._link))

    def copy(self, piece: int, step: int, offset: int, num_bytes: int) -> None:
        """Enqueue one copy."""
        thread = self._thread
        if thread.failure is not None:
            self._check()
        self._duties.copy(piece, step, offset, num_bytes)
        thread.copy((piece, step, self._address + offset, num_bytes, self._clock()))

    def step(self, step: int, *, gated: bool = False) -> None:
        """Enqueue one step behind the copies of its batch."""
        self._check()
        num_copies = self._duties.step(step, gated=gated)
        enqueued = self._clock()
        self._thread.settle(
            lambda timeline: timeline.enqueue_step(
                step, enqueued_ns=enqueued, num_copies=num_copies, gated=gated
            )
        )

    def release(self, step: int, not_before_ns: int) -> None:
        """Let a gated step start at max(own ready, `not_before_ns`)."""
        self._check()
        self._duties.release(step)
        self._thread.settle(lambda timeline: timeline.release(step, not_before_ns))

    def fileno(self) -> int:
        """Return a descriptor that polls readable while events wait, or after a failure."""
        return self._mailbox.fileno()

    def events(self) -> list[DeviceEvent]:
        """Return what happened since the last call."""
        self._check()
        return self._mailbox.take()

    def finish(self) -> list[DeviceEvent]:
        """Wait for the last instant of both streams and return the remaining events.

        Raises:
            InfrastructureError: The copy thread failed, or something enqueued can never end.
        """
        self._check()
        self._duties.finish()
        self._thread.drain()
        self._check()
        self._duties.finished()
        return self._mailbox.take()

    def facts(self) -> DeviceFacts:
        """Return the description; the details say how late slots came back to the host."""
        thread = self._thread
        lag = thread.lag_ns / thread.num_copied if thread.num_copied else 0.0
        return DeviceFacts(
            kind="emulated",
            name=self._name,
            copy=self._copy_mode,
            link_bytes_per_second=self._link,
            clock_error_seconds=0.0,
            details={
                "window_bytes": str(self._window_bytes),
                "num_copies": str(thread.num_copied),
                "slot_release_lag_mean_seconds": f"{lag / _NS:.9f}",
                "slot_release_lag_max_seconds": f"{thread.max_lag_ns / _NS:.9f}",
                "copy_cpu_seconds": f"{self.cpu_seconds():.6f}",
            },
        )

    def cpu_seconds(self) -> float:
        """Return the CPU time of the copy thread, which is no cost of the harness."""
        return self._thread.cpu_seconds()

    def close(self) -> None:
        """Stop the copy thread, whatever is in flight, and let the ring go."""
        self._duties.close()
        self._thread.close()
        self._ring = None
        self._mailbox.close()

    def _make_window(self, max_batch_bytes: int) -> None:
        wanted = max(1, min(self._max_window_bytes, BUFFERS * max_batch_bytes))
        if wanted > self._window_bytes:
            if self._thread.window is not None:
                self._thread.window.close()
            self._thread.window = Window(wanted, sink=self._sink)
            self._window_bytes = wanted

    def _check(self) -> None:
        """Raise what the copy thread failed with."""
        if (error := self._thread.failure) is not None:
            raise InfrastructureError(
                _PLACE, f"the copy thread failed: {error}", "close the device"
            ) from error
