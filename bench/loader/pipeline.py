"""The rank's event loop: grant slots, take completions, copy, step; no byte passes through it.

Slots are granted in plan order, so a ring smaller than a batch cannot deadlock on later
pieces; freed slots are granted last-in first-out, since a slot that was used a moment ago is
still in the CPU's cache. Copies of a batch are enqueued in arrival order, once all copies of
the batch before have been: anything else would block the copy stream behind a batch that
must wait for device memory.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator

from bench.device.base import CopyDone, Device, DeviceEvent, StepDone, StepReady
from bench.errors import BenchError, Interrupted
from bench.loader.pace import Pace, open_pace, patience_ms
from bench.loader.phase import RUN_AHEAD_STEPS, Gate, Limits, PhaseResult, Snapshot
from bench.loader.planner import PlannedPiece, PlannedStep
from bench.loader.pool import ReaderPool
from bench.loader.recorder import PieceRecorder, StepRecorder
from bench.loader.ring import Ring
from bench.loader.tracking import CopyTracker, Occupancy, OpenStep, Piece
from bench.loader.wire import REQUEST, Completion

__all__ = ["Pipeline"]

GRANT_CHUNK = 8
"""Requests handed over at once: small, so that the first reader starts at once."""

QUEUE_FACTOR = 2
"""Requests under way per reader thread: one being read and one waiting, so that no thread
ever waits for the rank. More would only hold slots that nobody fills yet, and give up the
cache-warm reuse of slots."""

PROGRESS_SECONDS = 0.25
DRAIN_TIMEOUT_SECONDS = 60.0

clock_ns = time.perf_counter_ns


class Pipeline:
    """One rank's loop over one measured phase.

    Args:
        ring: Filled by the pool, copied by the device.
        pool: Reader processes.
        device: Registered with the ring, `start`ed for this phase.
        pieces: Where piece rows go.
        steps: Where step rows go.
        fail: Turns a failed completion into the error to raise.
        gate: Lock-step with other ranks; None for a rank by itself.
    """

    def __init__(
        self,
        *,
        ring: Ring,
        pool: ReaderPool,
        device: Device,
        pieces: PieceRecorder,
        steps: StepRecorder,
        fail: Callable[[Completion], BenchError],
        gate: Gate | None = None,
    ) -> None:
        self._ring = ring
        self._pool = pool
        self._device = device
        self._pieces = pieces
        self._steps = steps
        self._fail = fail
        self._gate = gate
        self._free = list(range(ring.num_slots - 1, -1, -1))
        self._holder = [-1] * ring.num_slots
        self._freed = [0] * ring.num_slots
        self._readers_busy_since = 0
        self._in_flight: dict[int, Piece] = {}
        self._num_requested = 0
        self._max_requested = min(pool.max_requests, QUEUE_FACTOR * pool.num_threads)
        self._next_piece = 0
        self._open: deque[OpenStep] = deque()
        self._open_by_step: dict[int, OpenStep] = {}
        self._num_planned = 0
        self._to_grant: deque[tuple[int, PlannedPiece]] = deque()
        self._last_step = -1
        self._enqueued = -1
        self._copies = CopyTracker()
        self._released = -1
        self._done = -1
        self._occupancy = Occupancy(ring.num_slots)
        self._stall_ns = 0
        self._compute_ns = 0
        self._previous_end = 0
        self._pace: Pace | None = None
        self._exhausted = False
        self._held_back: PlannedStep | None = None
        self._result = PhaseResult()

    def run(
        self,
        plan: Iterator[PlannedStep],
        *,
        start_ns: int,
        limits: Limits,
        progress: Callable[[Snapshot], None],
    ) -> PhaseResult:
        """Run the whole phase.

        Args:
            plan: Steps in order.
            start_ns: The common start; nothing is read before.
            limits: What may end the phase early.
            progress: Called a few times a second.

        Returns:
            Counts; `interrupted` when the launcher asked to stop.

        Raises:
            InfrastructureError: A reader died or a read failed for good.
        """
        self._plan = plan
        self._start_ns = self._previous_end = start_ns
        self._occupancy.start(start_ns)
        self._limits = limits
        self._progress = progress
        self._pace = open_pace(limits.bytes_per_second, start_ns)
        poll = select.poll()
        for fd in (self._pool.completion_fd, self._device.fileno(), *self._pool.pidfds):
            poll.register(fd, select.POLLIN)
        if self._gate is not None:
            poll.register(self._gate.fileno(), select.POLLIN)
        if limits.control_fd >= 0:
            poll.register(limits.control_fd, select.POLLIN)
        deaths = set(self._pool.pidfds)
        next_progress = start_ns
        try:
            while not self._finished():
                self._grant()
                self._advance()
                if self._finished():
                    break
                drained = self._held_back is not None and not self._open
                if self._take_events(self._device.events()) or drained:
                    continue  # slots came free at once, or the next epoch may begin
                for fd, _ in poll.poll(patience_ms(self._pace, PROGRESS_SECONDS, clock_ns())):
                    if fd == limits.control_fd:
                        raise Interrupted("run", "stopped by the launcher")
                    if fd in deaths:
                        self._pool.raise_if_dead()
                self._take_completions()
                self._take_events(self._device.events())
                self._take_releases()
                now = clock_ns()
                if now >= next_progress:
                    self._report(now)
                    next_progress = now + int(PROGRESS_SECONDS * 1e9)
            self._take_events(self._device.finish())
            self._result.end_ns = clock_ns()
            self._drain()
        except Interrupted:
            self._result.interrupted = True
            self._result.end_ns = clock_ns()
        self._report(clock_ns())
        self._flush_unfinished()
        self._result.occupancy_ns = self._occupancy.tenths_ns()
        self._result.held_ns = self._pace.held_ns if self._pace is not None else 0
        return self._result

    # Planning and granting

    def _next_to_grant(self) -> tuple[int, PlannedPiece] | None:
        """Return the next piece of the plan, opening steps on the way; None if there is none."""
        while not self._to_grant:
            step = self._held_back or next(self._plan, None)
            self._held_back = None
            if step is None or self._beyond_last(step.step):
                self._exhausted = True
                return None
            if self._must_drain(step):
                self._held_back = step
                return None
            opened = OpenStep(step, self._num_planned)
            self._num_planned += len(step.pieces)
            self._open.append(opened)
            self._open_by_step[step.step] = opened
            self._result.bytes_requested += step.payload_bytes
            self._to_grant.extend((step.step, piece) for piece in step.pieces)
        return self._to_grant.popleft()

    def _must_drain(self, step: PlannedStep) -> bool:
        """Whether a step must wait until all batches of the epoch before are on their way."""
        return (
            self._limits.drain_epochs
            and bool(self._open)
            and step.epoch != self._open[-1].planned.epoch
        )

    def _beyond_last(self, step: int) -> bool:
        return 0 <= self._last_step < step

    def _grant(self) -> None:
        """Hand pieces to readers while slots are free."""
        while self._free and not self._exhausted:
            if self._num_requested >= self._max_requested:
                self._readers_busy_since = self._readers_busy_since or clock_ns()
                return
            if self._pace is not None and self._pace.wait_ns(clock_ns()):
                self._readers_busy_since = 0
                return
            chunk = GRANT_CHUNK if self._pace is None else 1
            messages: list[bytes] = []
            granted: list[Piece] = []
            while (
                self._free
                and len(messages) < chunk
                and self._num_requested < self._max_requested
                and (item := self._next_to_grant()) is not None
            ):
                step, planned = item
                slot = self._free.pop()
                number = self._next_piece
                self._next_piece += 1
                count = len(planned.extents)
                self._ring.descriptors[slot, :count] = planned.extents
                piece = Piece(number, step, slot, self._holder[slot], planned, 0)
                self._holder[slot] = number
                self._in_flight[number] = piece
                messages.append(REQUEST.pack(number, slot, count, planned.num_samples))
                granted.append(piece)
                self._num_requested += 1
            if not messages:
                if self._pace is not None:
                    self._pace.forget()  # the loop must not wait for it
                return
            now = clock_ns()
            since = self._readers_busy_since or now
            for piece in granted:
                # A piece that had a slot and waited for the readers was granted back then.
                piece.grant = max(since, self._freed[piece.slot])
                if self._pace is not None:
                    piece.held_ns = self._pace.pay(piece.planned.payload_bytes, now)
            self._pool.request(messages)
            if self._num_requested < self._max_requested:
                self._readers_busy_since = 0

    # What comes back

    def _take_completions(self) -> None:
        rows = self._pool.completions()
        if not rows:
            return
        now = clock_ns()
        result = self._result
        self._occupancy.change(now, len(rows))
        for row in rows:
            if row.code:
                result.reads_failed += 1
                raise self._fail(row)
            piece = self._in_flight[row.piece]
            piece.row = row
            piece.taken = now
            self._num_requested -= 1
            result.bytes_read += piece.planned.payload_bytes
            result.count(row)
            self._open_by_step[piece.step].arrived.append(piece)

    def _advance(self) -> None:
        """Enqueue copies of the front step as pieces land, and the step after its last copy."""
        while self._open:
            front = self._open[0]
            number = front.planned.step
            if self._beyond_last(number) or not self._may_enqueue(number):
                return
            if front.arrived:
                now = clock_ns()
                for piece in front.arrived:
                    piece.queued = now
                    self._device.copy(
                        piece.number,
                        number,
                        piece.slot * self._ring.slot_bytes,
                        piece.planned.used_bytes,
                    )
                front.left -= len(front.arrived)
                front.arrived = []
            if front.left:
                return
            self._steps.enqueued(front.planned, first_piece=front.first_piece, now_ns=clock_ns())
            self._device.step(number, gated=self._gate is not None)
            self._enqueued = number
            self._open.popleft()
            del self._open_by_step[number]
            self._copies.enqueued(number, len(front.planned.pieces))
            if self._gate is None and self._out_of_time():
                self._last_step = number

    def _may_enqueue(self, step: int) -> bool:
        if step > self._copies.copied_step + RUN_AHEAD_STEPS:
            return False
        return self._gate is None or step <= self._released + RUN_AHEAD_STEPS

    def _out_of_time(self) -> bool:
        limit = self._limits.max_seconds
        return limit is not None and clock_ns() - self._start_ns >= limit * 1e9

    def _take_events(self, events: list[DeviceEvent]) -> bool:
        """Handle what the device reports; return whether there was anything."""
        if not events:
            return False
        now = clock_ns()
        freed = 0
        for event in events:
            if isinstance(event, CopyDone):
                piece = self._in_flight.pop(event.piece)
                self._pieces.record(piece, event, now_ns=now)
                self._free.append(piece.slot)
                self._freed[piece.slot] = now
                self._copies.done(piece.step)
                freed += 1
            elif isinstance(event, StepReady):
                if self._gate is not None:
                    self._gate.ready(
                        event.step, event.ready_ns - self._start_ns, want_stop=self._out_of_time()
                    )
            else:
                self._step_done(event)
        if freed:
            self._occupancy.change(now, -freed)
        return True

    def _step_done(self, event: StepDone) -> None:
        planned = self._steps.done(event)
        self._result.steps += 1
        self._result.samples += planned.num_samples
        self._result.bytes_consumed += planned.payload_bytes
        self._stall_ns += max(0, event.start_ns - self._previous_end)
        self._compute_ns += event.end_ns - event.start_ns
        self._previous_end = event.end_ns
        self._done = event.step

    def _take_releases(self) -> None:
        if self._gate is None:
            return
        for release in self._gate.releases():
            self._released = release.step
            if release.last_step >= 0:
                self._last_step = release.last_step
            instant = self._start_ns + release.elapsed_ns
            self._steps.released(release.step, instant, release.root_rank)
            self._device.release(release.step, instant)

    def _finished(self) -> bool:
        """Whether every step of the phase is enqueued and, in lock-step, done."""
        if self._last_step >= 0 and self._enqueued >= self._last_step:
            complete = True
        else:
            complete = self._exhausted and not self._open and self._held_back is None
        if not complete:
            return False
        return self._gate is None or self._done >= self._enqueued

    # The end of a phase

    def _drain(self) -> None:
        """Wait for reads under way when the last step ended; their bytes are prefetched."""
        deadline = clock_ns() + int(DRAIN_TIMEOUT_SECONDS * 1e9)
        poll = select.poll()
        poll.register(self._pool.completion_fd, select.POLLIN)
        for fd in self._pool.pidfds:
            poll.register(fd, select.POLLIN)
        while self._num_requested and clock_ns() < deadline:
            poll.poll(PROGRESS_SECONDS * 1000)
            self._take_completions()
            self._pool.raise_if_dead()

    def _flush_unfinished(self) -> None:
        """Record pieces that were read and never copied: prefetched, not consumed."""
        for piece in self._in_flight.values():
            self._pieces.record(piece, None, now_ns=0)
        self._in_flight.clear()

    def _report(self, now: int) -> None:
        self._progress(
            Snapshot(
                elapsed_seconds=max(0, now - self._start_ns) / 1e9,
                steps=self._result.steps,
                bytes_read=self._result.bytes_read,
                bytes_consumed=self._result.bytes_consumed,
                stall_seconds=self._stall_ns / 1e9,
                compute_seconds=self._compute_ns / 1e9,
                ring_occupancy=self._occupancy.ratio,
            )
        )
