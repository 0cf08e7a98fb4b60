"""What a measuring pod does: meet the others, run its ranks, send home what they left."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import __version__
from bench.agent.group import RankGroup, RepeatOutcome, run_ranks
from bench.agent.hub import Hub
from bench.agent.pod.board import Board
from bench.agent.pod.codes import LOG_BUDGET_BYTES
from bench.agent.pod.coordinator import Coordinator
from bench.agent.pod.environment import PodEnvironment
from bench.agent.pod.greeting import Identity
from bench.agent.pod.link import PodLink, join_rank
from bench.agent.pod.prepare import ensure_dataset
from bench.agent.pod.wire import encoded_bytes, pack
from bench.agent.rank import START_BARRIER
from bench.agent.site import open_site
from bench.dataset.manifest import Manifest
from bench.loader.records import PIECE_DTYPE, STEP_DTYPE
from bench.spec.plan import DatasetRef, Plan

__all__ = ["measure", "send_tables"]

MAKING_TIMEOUT_SECONDS = 14 * 86400.0
"""The Job's deadline ends what hangs; making takes as long as it takes. Sockets take no more
than 24 days, in milliseconds of 31 bits."""

HUB_TIMEOUT_SECONDS = 60.0
"""For the other pods' ranks to end after ours have."""

Write = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class _Meeting:
    """This pod's place among the others.

    Attributes:
        start: Waits for all pods to have their data.
        connect: Returns the hub's ends of our ranks.
        tell: Takes events of our ranks.
    """

    start: Callable[[str], None]
    connect: Callable[[], RankGroup]
    tell: Callable[[int, dict[str, Any]], None]
    facts: dict[str, Any] = field(default_factory=dict)


def measure(plan: Plan, environment: PodEnvironment, write: Write, *, repeat: int) -> RepeatOutcome:
    """Run this node's part of a repeat.

    Returns:
        How it ended; tables are in the scratch directory.

    Raises:
        BenchError: It did not come to start.
    """
    seconds: dict[str, float] = {}
    begun = time.monotonic()
    with _meet(plan, environment, write) as meeting:
        seconds["meet"] = time.monotonic() - begun
        begun = time.monotonic()
        dataset = plan.dataset
        if plan.storage.ephemeral is not None:
            dataset = ensure_dataset(plan, environment, write)
        seconds["prepare"] = time.monotonic() - begun
        meeting.start(dataset.manifest_digest)
        local, site = open_site(
            plan.storage, environment.data_root, sample=_sample(environment, dataset)
        )
        group = meeting.connect()
        write(
            {
                "event": "site",
                "node": environment.node,
                "pod": environment.pod,
                "uid": environment.uid,
                "index": environment.index,
                "ranks": [group.ranks.start, group.ranks.stop],
                "seconds": seconds,
                "dataset": dataset.model_dump(mode="json"),
                **meeting.facts,
                **site.to_json(),
            }
        )
        return run_ranks(
            _with_dataset(plan, dataset),
            group=group,
            repeat=repeat,
            site=local,
            scratch=environment.scratch,
            on_event=meeting.tell,
        )


def send_tables(outcome: RepeatOutcome, scratch: Path, write: Write) -> list[str]:
    """Send the ranks' results and tables; return the names of those that did not fit."""
    left, omitted = LOG_BUDGET_BYTES, []
    files = [(scratch / f"rank-{rank}.json", 1) for rank in outcome.ranks]
    for rank in outcome.ranks:
        files += [
            (scratch / f"steps-{rank}", STEP_DTYPE.itemsize),
            (scratch / f"replay-{rank}", STEP_DTYPE.itemsize),
        ]
    files += [(scratch / f"pieces-{rank}", PIECE_DTYPE.itemsize) for rank in outcome.ranks]
    for path, row_bytes in files:
        if not path.exists():
            continue
        events = pack(path, row_bytes=row_bytes)
        left -= encoded_bytes(events)
        if left < 0:
            omitted.append(path.name)
            continue
        for event in events:
            write(event)
    if omitted:
        write({"event": "omitted", "tables": omitted})
    return omitted


def _with_dataset(plan: Plan, dataset: DatasetRef) -> Plan:
    return plan.model_copy(update={"dataset": dataset})


def _sample(environment: PodEnvironment, dataset: DatasetRef) -> Path | None:
    """Return a file of the data set: its volume is mounted read-only here."""
    if environment.data_root is None:
        return None
    directory = environment.data_root / dataset.directory
    return directory / os.fsdecode(Manifest.load(directory).names[0])


def _own_ranks(plan: Plan, index: int) -> range:
    each = plan.settings.gpus_per_node
    return range(index * each, index * each + each)


@contextlib.contextmanager
def _meet(plan: Plan, environment: PodEnvironment, write: Write) -> Iterator[_Meeting]:
    identity = Identity(plan=plan.digest(), tool=__version__)
    if environment.index == 0:
        with _meet_as_first(plan, environment, identity, write) as meeting:
            yield meeting
        return
    timeout = plan.settings.barrier_timeout_seconds
    link = PodLink.join(
        environment.address,
        identity,
        index=environment.index,
        node=environment.node,
        timeout_seconds=timeout,
    )

    def connect() -> RankGroup:
        ranks = _own_ranks(plan, environment.index)
        hubs = {
            rank: join_rank(
                environment.address,
                identity,
                rank=rank,
                node=environment.node,
                timeout_seconds=timeout,
            )
            for rank in ranks
        }
        return RankGroup(environment.node, ranks, hubs, same_clock=False, missing=list)

    with contextlib.closing(link):
        yield _Meeting(
            start=lambda digest: link.wait_for_start(
                digest, timeout_seconds=MAKING_TIMEOUT_SECONDS
            ),
            connect=connect,
            tell=link.tell,
            facts={
                "clock_offset_seconds": link.offset_seconds,
                "clock_offset_error_seconds": link.error_seconds,
            },
        )


@contextlib.contextmanager
def _meet_as_first(
    plan: Plan, environment: PodEnvironment, identity: Identity, write: Write
) -> Iterator[_Meeting]:
    board = Board(write, time.monotonic)
    timeout = plan.settings.barrier_timeout_seconds
    coordinator = Coordinator(
        identity,
        num_pods=plan.settings.nodes,
        num_ranks=plan.num_ranks,
        ranks_per_pod=plan.settings.gpus_per_node,
        on_event=board,
    )
    hubs: list[Hub] = []

    def connect() -> RankGroup:
        others = coordinator.wait_for_ranks(timeout_seconds=timeout)
        ranks = _own_ranks(plan, 0)
        pairs = [socket.socketpair() for _ in ranks]
        hub = Hub([ours for ours, _ in pairs] + [others[rank] for rank in sorted(others)])
        hub.start()
        hubs.append(hub)
        return RankGroup(
            environment.node,
            ranks,
            {rank: theirs for rank, (_, theirs) in zip(ranks, pairs, strict=True)},
            same_clock=True,
            missing=lambda: hub.missing(START_BARRIER),
        )

    with contextlib.closing(coordinator):
        if plan.settings.nodes > 1:
            coordinator.listen("", environment.address[1])
            coordinator.wait_for_pods(timeout_seconds=timeout)
        yield _Meeting(
            start=lambda digest: coordinator.wait_until_prepared(
                digest, timeout_seconds=MAKING_TIMEOUT_SECONDS
            ),
            connect=connect,
            tell=board,
            facts={"clock_offset_seconds": 0.0, "clock_offset_error_seconds": 0.0},
        )
        for hub in hubs:  # the others' ranks still need it
            hub.join(HUB_TIMEOUT_SECONDS)
