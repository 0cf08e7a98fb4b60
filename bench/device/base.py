"""What a rank asks of an accelerator, real or emulated.

An accelerator has one copy stream and one compute stream. Both run behind the host: every
call here enqueues and returns. Two batches fit in device memory (a double buffer): copies
of batch b wait, on the copy stream, for the end of step b - 2, and step b waits, on the
compute stream, for all copies of batch b and for step b - 1.

The buffer of a batch may be held by a step that is not enqueued or not released yet; its
copies wait on the device, never in the host's call.

The host's duties, which a device may check and must not repair:

- copies of batch b are enqueued only after all copies of batch b - 1 have been;
- a slot is not refilled before its `CopyDone` has been taken from `events()`;
- `step(b)` comes after the last `copy()` of batch b, and steps come in order 0, 1, 2, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["CopyDone", "Device", "DeviceEvent", "DeviceFacts", "StepDone", "StepReady"]


@dataclass(frozen=True, slots=True)
class CopyDone:
    """The bytes of one piece are on the device; its slot may be refilled.

    `start_ns` and `end_ns` are host-clock instants on the copy stream. The event itself comes
    a little later, by the time a thread takes to wake, and never earlier than `end_ns`.
    """

    piece: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class StepReady:
    """A gated step could start now as far as this rank is concerned (lock-step only)."""

    step: int
    ready_ns: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """The instants of a step are known. They are host-clock.

    A real device may deliver these late, all at once; the emulated one as soon as they can be
    computed, which may be before the host's clock gets there.

    `ready_ns` is max(end of the batch's last copy, enqueue time, end of the step before);
    `late_ns` is how much of the batch's copy time was lost to the emulation's own thread not
    running when it should (always 0 on a real device).
    """

    step: int
    ready_ns: int
    start_ns: int
    end_ns: int
    late_ns: int = 0


DeviceEvent = CopyDone | StepReady | StepDone


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the run document says about the device.

    Attributes:
        kind: "emulated" or "cuda".
        name: Model name of a GPU; the named step time for an emulated one ("h100").
        copy: "bytes" when copies move bytes, "none" when they are only paced.
        link_bytes_per_second: Pace of copies; None for unpaced.
        clock_error_seconds: Residual of mapping device time to host time; None before `finish`.
        details: Driver, PCIe link, NUMA node and the like; "unknown" where not readable.
    """

    kind: str
    name: str
    copy: str
    link_bytes_per_second: float | None
    clock_error_seconds: float | None
    details: dict[str, str]


class Device(Protocol):
    """One accelerator, owned by one rank; every method is called from the rank's main thread."""

    def register(self, ring: memoryview) -> None:
        """Pin the whole ring (page-aligned, pre-faulted) for copies. Called once, first."""

    def start(self, max_batch_bytes: int, step_seconds: float) -> None:
        """Allocate the double buffer and begin a phase; steps and batches count from 0 again.

        Args:
            max_batch_bytes: Largest batch of the phase as it lies in slots.
            step_seconds: Duration of every step; 0 for none.
        """

    def copy(self, piece: int, step: int, offset: int, num_bytes: int) -> None:
        """Enqueue the copy of `num_bytes` from byte `offset` of the ring for batch `step`."""

    def step(self, step: int, *, gated: bool = False) -> None:
        """Enqueue step `step`.

        A gated step does not start by itself: the device emits `StepReady` when it could,
        and starts it no earlier than the instant given to `release`.
        """

    def release(self, step: int, not_before_ns: int) -> None:
        """Let a gated step start.

        At max(own ready, `not_before_ns`) on the emulated device, at once on a real one. It
        may come before the step's `StepReady`.
        """

    def fileno(self) -> int:
        """Return a descriptor that polls readable while `events` has something to return."""

    def events(self) -> list[DeviceEvent]:
        """Return what happened since the last call, in order, without blocking."""

    def finish(self) -> list[DeviceEvent]:
        """Block until everything enqueued has ended (waiting out emulated time), return the rest.

        Ends the phase; `start` may be called again. Copies without a step may be left; a gated
        step that was never released is an error, since it could not end.
        """

    def facts(self) -> DeviceFacts:
        """Return the device's description for the run document."""

    def close(self) -> None:
        """Stop threads, unpin, free; idempotent; safe after an error and with work in flight."""
