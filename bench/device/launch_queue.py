"""What a real device may put on its streams now, and what it must hold back.

A stream can wait for an event only once the event has been recorded, so copies into a buffer
whose last step is not on the compute stream yet (gated and not released) are held here, and
so is a step whose copies are held. No device is touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.device.timeline import BUFFERS

__all__ = ["Batch", "HeldCopy", "LaunchQueue", "Step"]

HeldCopy = tuple[int, int, int, int]
"""piece, batch, offset, num_bytes."""


@dataclass(slots=True)
class Batch:
    """Copies of one batch that are on the copy stream; `last` is the last one's event."""

    num_copies: int = 0
    num_bytes: int = 0
    last: Any = None


@dataclass(slots=True)
class Step:
    """A step that the host enqueued."""

    number: int
    enqueued_ns: int
    num_copies: int
    gated: bool
    batch: Batch
    announced: bool = False


@dataclass(slots=True)
class LaunchQueue:
    """Orders one phase; batches and steps count from 0."""

    num_launched: int = 0
    _copies: deque[HeldCopy] = field(default_factory=deque)
    _steps: deque[Step] = field(default_factory=deque)
    _batches: dict[int, Batch] = field(default_factory=dict)
    _released: set[int] = field(default_factory=set)

    def add_copy(self, copy: HeldCopy) -> None:
        """Queue a copy."""
        self._copies.append(copy)

    def add_step(self, number: int, enqueued_ns: int, num_copies: int, *, gated: bool) -> None:
        """Queue a step behind the copies of its batch."""
        self._steps.append(Step(number, enqueued_ns, num_copies, gated, self._batch(number)))

    def release(self, number: int) -> None:
        """Let a gated step go."""
        self._released.add(number)

    def copies(self) -> Iterator[tuple[HeldCopy, Batch]]:
        """Yield the copies that may go on the copy stream now, in order.

        Waiting for step `batch - 2` on the stream is the taker's duty, before a batch's first.
        """
        while self._copies and self._copies[0][1] - BUFFERS < self.num_launched:
            copy = self._copies.popleft()
            yield copy, self._batch(copy[1])

    def announced(self) -> Step | None:
        """Return, once, the gated step whose copies are all on the stream and whose turn it is."""
        step = self._next()
        if step is None or not step.gated or step.announced:
            return None
        step.announced = True
        return step

    def launched(self) -> Step | None:
        """Return the step that goes on the compute stream now, if any, and count it."""
        step = self._next()
        if step is None or (step.gated and step.number not in self._released):
            return None
        self._released.discard(step.number)
        self._batches.pop(step.number, None)
        self.num_launched += 1
        return self._steps.popleft()

    def _next(self) -> Step | None:
        if not self._steps:
            return None
        step = self._steps[0]
        return step if step.batch.num_copies == step.num_copies else None

    def _batch(self, number: int) -> Batch:
        return self._batches.setdefault(number, Batch())
