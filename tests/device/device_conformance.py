"""What every device must do, as one abstract test class.

Another device joins by subclassing `DeviceConformance` and saying how to open it and how to
read back what arrived. Nothing here depends on how fast anything is: assertions are about
order, about sums that must hold exactly, and about what cannot have happened yet.
"""

from __future__ import annotations

import itertools
import mmap
import random
import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from bench.device.base import CopyDone, Device, DeviceEvent, StepDone, StepReady
from bench.errors import InfrastructureError

SLOT_BYTES = 4096
DEADLINE_SECONDS = 30.0

MISTAKES: dict[str, Callable[[Device], object]] = {
    "step 1 is enqueued where step 0 is due": lambda d: d.step(1),
    "piece 0 lies outside the ring": lambda d: d.copy(0, 0, 7 * SLOT_BYTES, 2 * SLOT_BYTES),
    "piece 1 lies outside the ring": lambda d: d.copy(1, 0, -1, 1),
    "comes after its step": lambda d: (d.step(0), d.copy(0, 0, 0, 1)),
    "comes after batch 1": lambda d: (d.copy(0, 1, 0, 1), d.copy(1, 0, 0, 1)),
    "is larger than": lambda d: [d.copy(i, 0, 0, SLOT_BYTES) for i in range(9)],
    "released but not gated": lambda d: d.release(0, 0),
    "never released": lambda d: (d.step(0, gated=True), d.finish()),
    "waits for step 0, never enqueued": lambda d: (d.copy(0, 2, 0, 1), d.finish()),
    "a phase is open already": lambda d: d.start(1, 0.0),
    "registered already": lambda d: d.register(memoryview(bytearray(8))),
}
"""What a host may do wrong in a phase with batches of 8 slots, by what it is told."""


def poll_readable(device: Device, timeout_seconds: float) -> bool:
    poller = select.poll()
    poller.register(device.fileno(), select.POLLIN)
    return bool(poller.poll(timeout_seconds * 1000))


@dataclass
class Host:
    """A correct host: it refills a slot only after the slot's `CopyDone`."""

    device: Device
    ring: memoryview
    events: list[DeviceEvent] = field(default_factory=list)
    sent: dict[int, bytes] = field(default_factory=dict)
    batches: dict[int, list[int]] = field(default_factory=dict)
    step_called_ns: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free = list(range(len(self.ring) // SLOT_BYTES))
        self.slots: dict[int, int] = {}
        self.num_pieces = 0
        self.random = random.Random(7)

    def take(self, new: list[DeviceEvent]) -> None:
        self.events += new
        for event in new:
            if isinstance(event, CopyDone):
                self.free.append(self.slots.pop(event.piece))

    def wait(self) -> None:
        assert poll_readable(self.device, DEADLINE_SECONDS), "nothing happened"
        self.take(self.device.events())

    def copy(self, step: int, num_bytes: int = SLOT_BYTES) -> int:
        while not self.free:
            self.wait()
        slot = self.free.pop()
        piece = self.num_pieces
        self.num_pieces += 1
        self.sent[piece] = self.random.randbytes(num_bytes)
        self.ring[slot * SLOT_BYTES : slot * SLOT_BYTES + num_bytes] = self.sent[piece]
        self.slots[piece] = slot
        self.batches.setdefault(step, []).append(piece)
        self.device.copy(piece, step, slot * SLOT_BYTES, num_bytes)
        return piece

    def step(self, step: int, *, gated: bool = False) -> None:
        self.device.step(step, gated=gated)
        self.step_called_ns[step] = time.perf_counter_ns()

    def batch(self, step: int, num_pieces: int, *, gated: bool = False) -> None:
        for _ in range(num_pieces):
            self.copy(step)
        self.step(step, gated=gated)

    def finish(self) -> None:
        self.take(self.device.finish())

    @property
    def copies(self) -> list[CopyDone]:
        return [e for e in self.events if isinstance(e, CopyDone)]

    @property
    def steps(self) -> list[StepDone]:
        return [e for e in self.events if isinstance(e, StepDone)]

    @property
    def ready(self) -> list[StepReady]:
        return [e for e in self.events if isinstance(e, StepReady)]


class DeviceConformance(ABC):
    """Subclass it, and name the subclass `Test...`."""

    tolerance_ns = 0
    """How far instants of one stream may be apart from those of another: clock mapping."""

    @abstractmethod
    def open(self) -> Device:
        """Return a new device."""

    @abstractmethod
    def arrived(self, device: Device, host: Host, step: int) -> bytes:
        """Return the bytes of one of the last two batches as they lie on the device."""

    def after(self, device: Device) -> None:  # noqa: B027 - optional
        """Look at the device after each test."""

    @contextmanager
    def host(self, num_slots: int = 8) -> Iterator[Host]:
        memory = mmap.mmap(-1, num_slots * SLOT_BYTES)
        ring = memoryview(memory)
        device = self.open()
        try:
            device.register(ring)
            yield Host(device, ring)
        finally:
            device.close()
            ring.release()
            memory.close()  # fails where the device still holds the memory
        self.after(device)

    def run(self, host: Host, *, batches: int, pieces: int, step_seconds: float) -> None:
        host.device.start(pieces * SLOT_BYTES, step_seconds)
        for step in range(batches):
            host.batch(step, pieces)
        host.finish()

    def test_every_copy_and_step_is_reported_once_and_in_order(self) -> None:
        with self.host() as host:
            self.run(host, batches=6, pieces=3, step_seconds=0.001)
            assert [c.piece for c in host.copies] == list(range(18))
            assert [s.step for s in host.steps] == list(range(6))

    def test_copies_follow_each_other_on_the_copy_stream(self) -> None:
        with self.host() as host:
            self.run(host, batches=4, pieces=4, step_seconds=0.0)
            copies = host.copies
            assert all(c.start_ns <= c.end_ns for c in copies)
            for before, after in itertools.pairwise(copies):
                assert before.end_ns <= after.start_ns + self.tolerance_ns

    def test_a_step_starts_after_the_copies_of_its_batch_and_the_step_before(self) -> None:
        with self.host() as host:
            self.run(host, batches=6, pieces=3, step_seconds=0.001)
            ends = {c.piece: c.end_ns for c in host.copies}
            previous_end = 0
            for step in host.steps:
                last = max(ends[p] for p in host.batches[step.step])
                assert step.start_ns >= last - self.tolerance_ns
                assert step.start_ns >= previous_end - self.tolerance_ns
                assert step.start_ns >= step.ready_ns - self.tolerance_ns
                previous_end = step.end_ns

    def test_copies_wait_for_the_step_that_used_their_buffer(self) -> None:
        with self.host() as host:
            self.run(host, batches=6, pieces=3, step_seconds=0.002)
            starts = {c.piece: c.start_ns for c in host.copies}
            ends = [s.end_ns for s in host.steps]
            for step in range(2, 6):
                first = min(starts[p] for p in host.batches[step])
                assert first >= ends[step - 2] - self.tolerance_ns

    def test_bytes_arrive_as_they_were_when_the_copy_was_enqueued(self) -> None:
        with self.host(num_slots=3) as host:  # a ring smaller than a batch
            host.device.start(5 * SLOT_BYTES, 0.0005)
            for step in range(6):
                for num_bytes in (SLOT_BYTES, 100, 1, SLOT_BYTES - 1, 333):
                    host.copy(step, num_bytes)
                host.step(step)
            host.finish()
            for step in (4, 5):
                sent = b"".join(host.sent[p] for p in host.batches[step])
                assert self.arrived(host.device, host, step) == sent

    def test_gaps_and_steps_add_up_to_the_wall_time(self) -> None:
        with self.host() as host:
            start_ns = time.perf_counter_ns()
            self.run(host, batches=8, pieces=2, step_seconds=0.001)
            end_ns = time.perf_counter_ns()
            busy = sum(s.end_ns - s.start_ns for s in host.steps)
            edges = [start_ns, *(s.end_ns for s in host.steps)]
            gaps = sum(s.start_ns - e for s, e in zip(host.steps, edges, strict=False))
            assert busy + gaps == host.steps[-1].end_ns - start_ns
            assert host.steps[-1].end_ns <= end_ns + self.tolerance_ns

    def test_replayed_steps_need_no_copies_and_leave_no_gap_of_their_own(self) -> None:
        with self.host() as host:
            host.device.start(SLOT_BYTES, 0.002)
            for step in range(20):
                host.step(step)
            host.finish()
            assert len(host.steps) == 20
            for before, after in zip(host.steps, host.steps[1:], strict=False):
                # the host was ahead of the device: then the device alone made the gap
                if host.step_called_ns[after.step] <= before.end_ns - self.tolerance_ns:
                    assert after.start_ns - before.end_ns <= self.tolerance_ns

    def test_empty_steps_stand_between_full_ones(self) -> None:
        with self.host() as host:
            host.device.start(2 * SLOT_BYTES, 0.0005)
            for step in range(7):
                host.batch(step, 2 if step % 3 == 0 else 0)
            host.finish()
            assert [s.step for s in host.steps] == list(range(7))
            assert len(host.copies) == 6

    def test_a_step_time_of_zero_is_unthrottled(self) -> None:
        with self.host() as host:
            self.run(host, batches=5, pieces=2, step_seconds=0.0)
            for step in host.steps:
                assert step.end_ns - step.start_ns <= self.tolerance_ns

    def test_the_descriptor_polls_readable_while_events_wait_and_not_after(self) -> None:
        with self.host() as host:
            host.device.start(SLOT_BYTES, 0.0)
            host.batch(0, 1)
            assert poll_readable(host.device, DEADLINE_SECONDS)
            host.finish()
            while poll_readable(host.device, 0):
                host.device.events()
            assert host.device.events() == []

    def test_finish_leaves_nothing_and_waits_for_the_last_instant(self) -> None:
        with self.host() as host:
            self.run(host, batches=3, pieces=2, step_seconds=0.01)
            now = time.perf_counter_ns()
            assert len(host.copies) == 6
            assert len(host.steps) == 3
            assert max(s.end_ns for s in host.steps) <= now + self.tolerance_ns
            assert host.device.events() == []

    def test_phases_count_from_zero_again(self) -> None:
        with self.host() as host:
            self.run(host, batches=3, pieces=2, step_seconds=0.001)
            first = host.steps[-1].end_ns
            host.events.clear()
            host.batches.clear()
            self.run(host, batches=4, pieces=8, step_seconds=0.002)
            assert [s.step for s in host.steps] == [0, 1, 2, 3]
            assert host.steps[0].start_ns >= first - self.tolerance_ns
            for step in (2, 3):
                sent = b"".join(host.sent[p] for p in host.batches[step])
                assert self.arrived(host.device, host, step) == sent

    def test_a_gated_step_waits_for_its_release(self) -> None:
        with self.host() as host:
            host.device.start(SLOT_BYTES, 0.001)
            host.batch(0, 1, gated=True)
            while not (host.ready and host.copies):  # in either order
                host.wait()
            assert host.ready[0].step == 0
            assert host.ready[0].ready_ns >= host.copies[0].end_ns - self.tolerance_ns
            assert host.steps == []
            released_ns = time.perf_counter_ns()
            host.device.release(0, released_ns)
            host.finish()
            assert len(host.ready) == 1
            assert host.steps[0].start_ns >= released_ns - self.tolerance_ns
            assert abs(host.steps[0].ready_ns - host.ready[0].ready_ns) <= self.tolerance_ns

    def test_the_host_is_not_held_up_by_a_buffer_that_a_gated_step_holds(self) -> None:
        with self.host() as host:
            host.device.start(SLOT_BYTES, 0.0005)
            for step in range(6):
                host.batch(step, 1, gated=True)
            for step in range(6):
                while len(host.ready) <= step:
                    host.wait()
                assert len(host.steps) <= step
                host.device.release(step, 0)
            host.finish()
            assert [r.step for r in host.ready] == list(range(6))
            assert [s.step for s in host.steps] == list(range(6))
            copied = {c.piece: c for c in host.copies}
            for step in range(2, 6):
                first = copied[host.batches[step][0]]
                assert first.start_ns >= host.steps[step - 2].end_ns - self.tolerance_ns

    def test_a_release_may_come_before_the_step_is_ready(self) -> None:
        with self.host() as host:
            host.device.start(SLOT_BYTES, 0.0005)
            for step in range(4):
                host.batch(step, 1, gated=True)
                host.device.release(step, 0)
            host.finish()
            assert [r.step for r in host.ready] == [0, 1, 2, 3]
            assert [s.step for s in host.steps] == [0, 1, 2, 3]

    def test_closing_with_work_in_flight_ends_and_lets_the_ring_go(self) -> None:
        with self.host() as host:
            host.device.start(4 * SLOT_BYTES, 0.005)
            for step in range(2):
                host.batch(step, 4, gated=step == 1)
            host.device.close()
            host.device.close()
            with pytest.raises(InfrastructureError, match="closed"):
                host.device.step(2)

    def test_closing_a_device_that_never_ran(self) -> None:
        device = self.open()
        device.close()
        device.close()

    @pytest.mark.parametrize("message", list(MISTAKES))
    def test_a_mistake_of_the_host_is_named(self, message: str) -> None:
        with self.host() as host:
            host.device.start(8 * SLOT_BYTES, 0.0)
            with pytest.raises(InfrastructureError, match=message):
                MISTAKES[message](host.device)

    def test_nothing_can_be_enqueued_outside_a_phase(self) -> None:
        with self.host() as host:
            for call in (lambda d: d.copy(0, 0, 0, 1), lambda d: d.step(0), lambda d: d.finish()):
                with pytest.raises(InfrastructureError, match="no phase is open"):
                    call(host.device)

    def test_facts_describe_the_device(self) -> None:
        with self.host() as host:
            self.run(host, batches=2, pieces=1, step_seconds=0.001)
            facts = host.device.facts()
            assert facts.kind in ("emulated", "cuda")
            assert facts.name
            assert facts.clock_error_seconds is not None
            assert facts.clock_error_seconds * 1e9 <= max(self.tolerance_ns, 1)
            assert all(isinstance(value, str) for value in facts.details.values())
