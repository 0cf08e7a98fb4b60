"""A discrete-event model of the loader and the accelerator that emits the two tables.

Written from the loader's description and from nothing in `bench.measure` but the two dtypes,
so that accounting is tested against tables it had no part in. Service times are given; waiting
comes out of the events.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.measure.records import PIECE_DTYPE, STEP_DTYPE

US = 1_000
MS = 1_000_000
Table = npt.NDArray[Any]


@dataclass(frozen=True)
class Service:
    """What one piece takes, nanoseconds."""

    read: int = 1 * MS
    opening: int = 0
    first_byte: int = 0
    cpu: int = 0
    run_delay: int = 0
    decode: int = 0
    copy: int = 10 * US
    wake: int = 1 * US
    wake_accounted: int = 0
    notice: int = 1 * US
    queue: int = 1 * US
    free: int = 1 * US
    grant: int = 1 * US
    extents: int = 1


@dataclass(frozen=True)
class RankSpec:
    """One rank: its ring, threads, batches and service times."""

    pieces_per_step: list[int]
    services: list[Service]
    num_slots: int = 8
    num_threads: int = 4
    num_readers: int = 2
    step: int = 10 * MS
    slow_steps: dict[int, int] = field(default_factory=dict)
    launch: int = 0
    plan: int = 5 * US
    start: int = 1_000 * MS
    steps_per_epoch: int = 1 << 30


class World:
    """An agenda of events in elapsed nanoseconds."""

    def __init__(self) -> None:
        self.now = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._ids = itertools.count()

    def after(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + delay, next(self._ids), action))

    def run(self) -> None:
        while self._agenda:
            self.now, _, action = heapq.heappop(self._agenda)
            action()


class Barrier:
    """Lock-step: releases step b when the last rank has arrived."""

    def __init__(self, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        self._arrived: dict[int, list[Callable[[int], None]]] = {}

    def arrive(self, step: int, rank: int, release: Callable[[int], None]) -> None:
        waiting = self._arrived.setdefault(step, [])
        waiting.append(release)
        if len(waiting) == self._num_ranks:
            for action in waiting:
                action(rank)


class Rank:
    """One rank's loader and accelerator."""

    def __init__(self, world: World, number: int, spec: RankSpec, barrier: Barrier | None) -> None:
        self.world, self.number, self.spec, self.barrier = world, number, spec, barrier
        self.step_of = [s for s, n in enumerate(spec.pieces_per_step) for _ in range(n)]
        num_pieces, num_steps = len(self.step_of), len(spec.pieces_per_step)
        self.pieces = np.zeros(num_pieces, dtype=PIECE_DTYPE)
        self.steps = np.zeros(num_steps, dtype=STEP_DTYPE)
        self.free_slots = [(slot, -1) for slot in reversed(range(spec.num_slots))]
        self.idle_threads = deque(range(spec.num_threads))
        self.requests: deque[int] = deque()
        self.next_grant = 0
        self.to_queue = list(spec.pieces_per_step)
        self.to_copy = list(spec.pieces_per_step)
        self.held: dict[int, list[int]] = {}
        self.queue_step = 0
        self.stream: deque[int] = deque()
        self.copying = False
        self.computed = -1
        self.enqueued_to = -1
        self.arrived_to = -1
        world.after(spec.plan, self.dispatch)
        world.after(0, self.advance_queue)

    def at(self) -> int:
        return self.spec.start + self.world.now

    def dispatch(self) -> None:
        while self.free_slots and self.next_grant < len(self.pieces):
            piece, self.next_grant = self.next_grant, self.next_grant + 1
            slot, before = self.free_slots.pop()
            row = self.pieces[piece]
            row["piece"], row["step"], row["slot"] = piece, self.step_of[piece], slot
            row["previous"], row["grant"] = before, self.at()
            row["num_extents"] = self.spec.services[piece].extents
            self.requests.append(piece)
            if self.idle_threads:
                self.take(self.idle_threads.popleft())

    def take(self, thread: int) -> None:
        piece = self.requests.popleft()
        self.world.after(self.spec.services[piece].wake, lambda: self.read(piece, thread))

    def read(self, piece: int, thread: int) -> None:
        row, service = self.pieces[piece], self.spec.services[piece]
        row["reader"], row["thread"] = divmod(
            thread, -(-self.spec.num_threads // self.spec.num_readers)
        )
        row["start"] = self.at()
        row["read_end"] = self.at() + service.read
        row["ready"] = self.at() + service.read + service.decode
        row["open_ns"], row["first_byte_ns"] = service.opening, service.first_byte
        row["cpu_ns"], row["run_delay_ns"] = service.cpu, service.run_delay
        row["wake_delay_ns"], row["decode_cpu_ns"] = service.wake_accounted, service.decode
        self.world.after(service.read + service.decode, lambda: self.finish(piece, thread))

    def finish(self, piece: int, thread: int) -> None:
        if self.requests:
            self.take(thread)
        else:
            self.idle_threads.append(thread)
        self.world.after(self.spec.services[piece].notice, lambda: self.notice(piece))

    def notice(self, piece: int) -> None:
        self.pieces[piece]["taken"] = self.at()
        if self.step_of[piece] == self.queue_step:
            self.world.after(self.spec.services[piece].queue, lambda: self.enqueue_copy(piece))
        else:
            self.held.setdefault(self.step_of[piece], []).append(piece)

    def enqueue_copy(self, piece: int) -> None:
        self.pieces[piece]["copy_queued"] = self.at()
        self.stream.append(piece)
        self.to_queue[self.step_of[piece]] -= 1
        self.pump()
        self.advance_queue()

    def advance_queue(self) -> None:
        """Enqueue steps whose copies are all enqueued; let the next batch's copies begin."""
        while self.queue_step < len(self.steps) and self.to_queue[self.queue_step] == 0:
            self.steps[self.queue_step]["enqueued"] = self.at()
            self.enqueued_to = self.queue_step
            self.queue_step += 1
            for piece in self.held.pop(self.queue_step, []):
                delay = self.spec.services[piece].queue
                self.world.after(delay, lambda piece=piece: self.enqueue_copy(piece))
        self.arrive()

    def pump(self) -> None:
        if self.copying or not self.stream or self.step_of[self.stream[0]] - 2 > self.computed:
            return
        piece = self.stream.popleft()
        self.copying = True
        self.pieces[piece]["h2d_start"] = self.at()
        self.world.after(self.spec.services[piece].copy, lambda: self.copied(piece))

    def copied(self, piece: int) -> None:
        self.copying = False
        self.pieces[piece]["h2d_end"] = self.at()
        self.to_copy[self.step_of[piece]] -= 1
        self.world.after(self.spec.services[piece].free, lambda: self.release_slot(piece))
        self.pump()
        self.arrive()

    def release_slot(self, piece: int) -> None:
        self.pieces[piece]["freed"] = self.at()
        slot = int(self.pieces[piece]["slot"])

        def give() -> None:
            self.free_slots.append((slot, piece))
            self.dispatch()

        self.world.after(self.spec.services[piece].grant, give)

    def arrive(self) -> None:
        step = self.computed + 1
        blocked = step >= len(self.steps) or step > self.enqueued_to or step == self.arrived_to
        if blocked or self.to_copy[step]:
            return
        self.arrived_to = step
        self.steps[step]["own_ready"] = self.at()
        if self.barrier is None:
            self.compute(step, self.number)
        else:
            self.barrier.arrive(step, self.number, lambda root: self.compute(step, root))

    def compute(self, step: int, root: int) -> None:
        row, start = self.steps[step], self.at() + self.spec.launch
        row["released"], row["root_rank"] = self.at(), root
        row["compute_start"] = start
        length = self.spec.slow_steps.get(step, self.spec.step)
        row["compute_end"] = start + length
        self.world.after(self.spec.launch + length, lambda: self.computed_step(step))

    def computed_step(self, step: int) -> None:
        self.computed = step
        self.pump()
        self.arrive()

    def finish_tables(self) -> tuple[Table, Table]:
        counts = np.array(self.spec.pieces_per_step)
        index = np.arange(len(counts))
        self.steps["step"], self.steps["num_pieces"] = index, counts
        self.steps["epoch"] = index // self.spec.steps_per_epoch
        self.steps["first_piece"] = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.steps["num_samples"] = counts
        return self.steps, self.pieces


def simulate(specs: list[RankSpec], *, lock_step: bool = False) -> list[tuple[Table, Table]]:
    """Run all ranks to their end; return (steps, pieces) of each."""
    world = World()
    barrier = Barrier(len(specs)) if lock_step else None
    ranks = [Rank(world, number, spec, barrier) for number, spec in enumerate(specs)]
    world.run()
    return [rank.finish_tables() for rank in ranks]


def uniform(num_steps: int, pieces: int, service: Service, **settings: Any) -> RankSpec:
    """Return a rank whose pieces are all alike."""
    return RankSpec([pieces] * num_steps, [service] * (num_steps * pieces), **settings)
