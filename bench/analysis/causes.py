"""Causes of stall for people: a name for each, and whose problem it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.results.schema import CAUSES, Repeat

__all__ = ["CAUSE_LABELS", "GROUPS", "UNATTRIBUTED", "Shares", "cause_seconds", "group_seconds"]

UNATTRIBUTED = "unattributed"

CAUSE_LABELS: Mapping[str, str] = {
    "storage_open": "storage: open",
    "storage_first_byte": "storage: first byte",
    "storage_read": "storage: read",
    "ring_full": "ring full",
    "rate_limit": "our own rate limit",
    "reader_idle": "idle reader",
    "decode": "decode",
    "client_cpu": "CPU inside reads",
    "run_delay": "no CPU to run on",
    "handoff": "hand-off to the rank",
    "h2d": "copy to the accelerator",
    "sync": "other ranks",
    UNATTRIBUTED: "unattributed",
}
"""In the order of CAUSES, which every table and chart keeps."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "storage": ("storage_open", "storage_first_byte", "storage_read"),
    "the loader's ring": ("ring_full",),
    "the rate limit of the run": ("rate_limit",),
    "the harness": ("reader_idle", "handoff"),
    "the host's CPU": ("decode", "client_cpu", "run_delay"),
    "the link to the accelerator": ("h2d",),
    "other ranks": ("sync",),
}
"""Whose problem it is -> causes; every cause is in one group."""

Shares = Mapping[str, float]
"""Name -> seconds."""


def cause_seconds(repeats: Iterable[Repeat]) -> dict[str, float]:
    """Return seconds of stall by cause over repeats, in the order of CAUSES, then unattributed."""
    totals = dict.fromkeys((*CAUSES, UNATTRIBUTED), 0.0)
    for repeat in repeats:
        if repeat.stall is not None:
            for name in CAUSES:
                totals[name] += repeat.stall.causes.get(name, 0.0)
            totals[UNATTRIBUTED] += repeat.stall.unattributed_seconds
    return totals


def group_seconds(seconds: Shares) -> dict[str, float]:
    """Return seconds by group, the largest first."""
    totals = {
        group: sum(seconds.get(name, 0.0) for name in names) for group, names in GROUPS.items()
    }
    return dict(sorted(totals.items(), key=lambda item: -item[1]))
