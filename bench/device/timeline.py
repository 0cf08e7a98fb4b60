"""Arithmetic of the emulated accelerator: instants of its two streams, nothing else.

No clock, no thread, no memory is touched here, so the rules can be checked by themselves.
All instants are integer nanoseconds of the caller's clock. The rules (method.md, section 2):

    copy_start    = max(enqueued, end of the copy before, end of step b - 2)
    copy_end      = copy_start + max(time that moving took, bytes / link rate)
    ready         = max(end of the batch's last copy, enqueued, end of the step before)
    compute_start = max(ready, instant of release)
    compute_end   = compute_start + step time
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.device.base import DeviceEvent, StepDone, StepReady

__all__ = ["BUFFERS", "Burst", "Timeline"]

BUFFERS = 2
"""Batches that fit in device memory; copies of batch b reuse the buffer of batch b - 2."""

_NS = 1_000_000_000


@dataclass(slots=True)
class _Step:
    """A step that the host enqueued and whose end is not known yet."""

    enqueued_ns: int
    num_copies: int
    gated: bool
    announced: bool = False


@dataclass(slots=True)
class _Batch:
    """What is known of the copies of one batch."""

    num_copied: int = 0
    last_end_ns: int = 0
    late_ns: int = 0


@dataclass(slots=True)
class Burst:
    """Turns the stamps of copies that a thread makes back to back into stream instants.

    A copy engine needs no CPU to start, a thread does: it wakes late. What passes between
    the instant at which a copy could start and the instant at which the woken thread starts
    it is the *lag*. It is taken off every instant until the stream runs dry or the thread
    sleeps again, so a late wake-up is not booked as copy time. Time that the thread loses
    *inside* a burst (preempted, or waiting for the interpreter lock) cannot be told from
    copying by its wall clock; it stays in the instants and is returned as `late_ns`.
    """

    lag_ns: int | None = None

    def wake(self) -> None:
        """Note that the thread has slept: the next copy starts a new burst."""
        self.lag_ns = None

    def place(
        self, earliest_ns: int, *, started_ns: int, ended_ns: int, idle_ns: int, pace_ns: int
    ) -> tuple[int, int, int]:
        """Return (start, end, late) of one copy on the copy stream.

        Args:
            earliest_ns: When the stream's order lets the copy start.
            started_ns: When the thread started it.
            ended_ns: When its bytes were there.
            idle_ns: Of the time since the burst's last stamp, how much the thread did not run.
            pace_ns: Least duration that the link allows.
        """
        start = earliest_ns
        if self.lag_ns is not None:
            start = max(start, started_ns - self.lag_ns)
        self.lag_ns = started_ns - start
        moved = ended_ns - self.lag_ns
        paced = start + pace_ns
        end = max(moved, paced)
        late = min(idle_ns, end - max(start, paced)) if end > paced else 0
        return start, end, max(0, late)


@dataclass(slots=True)
class Timeline:
    """The copy stream and the compute stream of one phase.

    Args:
        step_ns: Duration of every step.
        link_bytes_per_second: Pace of copies; None for unpaced.
    """

    step_ns: int
    link_bytes_per_second: float | None = None
    last_copy_end_ns: int = 0
    last_compute_end_ns: int = 0
    num_steps_done: int = 0
    _ends: dict[int, int] = field(default_factory=dict)
    _steps: dict[int, _Step] = field(default_factory=dict)
    _batches: dict[int, _Batch] = field(default_factory=dict)
    _released: dict[int, int] = field(default_factory=dict)

    @property
    def last_ns(self) -> int:
        """Last instant so far on either stream."""
        return max(self.last_copy_end_ns, self.last_compute_end_ns)

    def copy_start_ns(self, batch: int, enqueued_ns: int) -> int | None:
        """Return the earliest start of the batch's next copy; None while its buffer is held."""
        start = max(enqueued_ns, self.last_copy_end_ns)
        if batch >= BUFFERS:
            free = self._ends.get(batch - BUFFERS)
            if free is None:
                return None
            start = max(start, free)
        return start

    def pace_ns(self, num_bytes: int) -> int:
        """Return the least duration of a copy on the link, rounded up to a nanosecond."""
        if self.link_bytes_per_second is None:
            return 0
        return -int(-num_bytes * _NS // self.link_bytes_per_second)

    def record_copy(
        self, batch: int, end_ns: int, *, start_ns: int | None = None, late_ns: int = 0
    ) -> None:
        """Note that one copy of the batch takes [start_ns, end_ns], `late_ns` of it too long.

        A copy that starts after the stream ran dry starts when it does whatever came before,
        so earlier lateness has delayed nothing that is still to come.
        """
        known = self._batches.setdefault(batch, _Batch())
        known.num_copied += 1
        if start_ns is not None and start_ns > self.last_copy_end_ns:
            known.late_ns = 0
        known.late_ns += late_ns
        known.last_end_ns = self.last_copy_end_ns = end_ns

    def enqueue_step(self, step: int, *, enqueued_ns: int, num_copies: int, gated: bool) -> None:
        """Note that the host enqueued a step behind `num_copies` copies of its batch."""
        self._steps[step] = _Step(enqueued_ns, num_copies, gated)

    def release(self, step: int, not_before_ns: int) -> None:
        """Note that a gated step may start at `not_before_ns`."""
        self._released[step] = not_before_ns

    def advance(self) -> list[DeviceEvent]:
        """Compute every step that can be computed by now, in order, and return what happened."""
        events: list[DeviceEvent] = []
        while (step := self._steps.get(number := self.num_steps_done)) is not None:
            batch = self._batches.get(number) or _Batch()
            if batch.num_copied < step.num_copies:
                break
            ready = max(batch.last_end_ns, step.enqueued_ns, self.last_compute_end_ns)
            start = ready
            if step.gated:
                if not step.announced:
                    step.announced = True
                    events.append(StepReady(number, ready))
                if number not in self._released:
                    break
                start = max(ready, self._released.pop(number))
            end = start + self.step_ns
            events.append(StepDone(number, ready, start, end, batch.late_ns))
            self._complete(number, end)
        return events

    def _complete(self, number: int, end_ns: int) -> None:
        """Keep what later batches need of a step, and forget the rest."""
        del self._steps[number]
        self._batches.pop(number, None)
        self._ends.pop(number - BUFFERS, None)
        self._ends[number] = end_ns
        self.last_compute_end_ns = end_ns
        self.num_steps_done = number + 1
