"""Run the ranks of one repeat on this machine: one group, and the hub where they meet."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.agent.group import RankGroup, RepeatOutcome, run_ranks
from bench.agent.hub import Hub
from bench.agent.rank import START_BARRIER
from bench.agent.site import LocalSite
from bench.spec.plan import Plan

__all__ = ["run_repeat"]


def run_repeat(
    plan: Plan,
    *,
    repeat: int,
    site: LocalSite,
    scratch: Path,
    on_event: Callable[[int, dict[str, Any]], None],
) -> RepeatOutcome:
    """Run one repeat and wait for all of its processes; see `run_ranks`."""
    pairs = [socket.socketpair() for _ in range(plan.num_ranks)]
    hub = Hub([ours for ours, _ in pairs])
    hub.start()
    group = RankGroup(
        node=socket.gethostname(),
        ranks=range(plan.num_ranks),
        hubs={rank: theirs for rank, (_, theirs) in enumerate(pairs)},
        same_clock=True,
        missing=lambda: hub.missing(START_BARRIER),
    )
    return run_ranks(
        plan, group=group, repeat=repeat, site=site, scratch=scratch, on_event=on_event
    )
