"""What limits an approval without forbidding it, and what its reader must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from bench.analysis.facts import device_kind
from bench.analysis.wording import data_bytes, duration
from bench.policy.document import Note
from bench.policy.occasions import Group, Pair, pair_names
from bench.results.schema import Run
from bench.spec.requirements import RequirementsSpec

__all__ = ["conditions", "provisional_because"]

MIN_OCCASIONS, MIN_DAYS, MIN_REPEATS = 3, 2, 5
"""Of an approval that is not provisional (docs/approve.md)."""

CACHE_FACTOR = 5
"""A data set of 5 times a cache's size makes hits rare."""


def provisional_because(
    runs: Sequence[Run], groups: Sequence[Group], *, spec: RequirementsSpec, now: datetime
) -> list[Note]:
    """Return why an approval from these runs is provisional; empty where it is not.

    Args:
        runs: All that are of the cell.
        groups: Their repeats that count, by occasion.
        spec: Conditions of every approval.
        now: UTC.
    """
    counted = [pair for group in groups for pair in group.repeats]
    return [
        *_occasions(groups, counted),
        *_seconds(counted, spec),
        *_not_measured(counted),
        *_age(groups, spec, now),
        *_same_figures(counted),
        *_image(runs),
    ]


def conditions(runs: Sequence[Run], groups: Sequence[Group]) -> list[Note]:
    """Return what holds of an approval from these runs and must be said beside it."""
    counted = [pair for group in groups for pair in group.repeats]
    return [*_device(runs), *_tiers(runs, counted), *_warnings(counted)]


def _occasions(groups: Sequence[Group], counted: Sequence[Pair]) -> Iterator[Note]:
    days = len({group.day for group in groups})
    if len(groups) < MIN_OCCASIONS or days < MIN_DAYS:
        plural = "s" if len(groups) != 1 else ""
        yield Note(
            code="few_occasions",
            text=f"{len(groups)} occasion{plural} on {days} day{'s' * (days != 1)}; "
            f"{MIN_OCCASIONS} on {MIN_DAYS} are wanted",
        )
    if len(counted) < MIN_REPEATS:
        yield Note(
            code="few_repeats", text=f"{len(counted)} repeats; {MIN_REPEATS} or more are wanted"
        )


def _seconds(counted: Sequence[Pair], spec: RequirementsSpec) -> Iterator[Note]:
    least = spec.min_measured_seconds
    brief = [(run, repeat) for run, repeat in counted if repeat.duration_seconds < least]
    if brief:
        shortest = min(repeat.duration_seconds for _, repeat in brief)
        yield Note(
            code="brief",
            text=f"{len(brief)} of {len(counted)} repeats measured less than {duration(least)}; "
            f"the shortest {duration(shortest)}",
        )


def _not_measured(counted: Sequence[Pair]) -> Iterator[Note]:
    names = dict.fromkeys(
        guard.name
        for _, repeat in counted
        for guard in repeat.guards
        if guard.status == "not measured"
    )
    if names:
        text = f"guards that were not measured: {', '.join(names)}"
        yield Note(code="not_measured", text=text)


def _age(groups: Sequence[Group], spec: RequirementsSpec, now: datetime) -> Iterator[Note]:
    if groups and now - groups[-1].end > timedelta(days=spec.review_after_days):
        yield Note(
            code="old",
            text=f"the newest repeat is {(now - groups[-1].end).days} days old; an approval is "
            f"reviewed after {spec.review_after_days}",
        )


def _same_figures(counted: Sequence[Pair]) -> Iterator[Note]:
    seen: dict[tuple[float, float], Pair] = {}
    for run, repeat in counted:
        if repeat.throughput is not None:
            key = (repeat.duration_seconds, repeat.throughput.bytes_per_second)
            first = seen.setdefault(key, (run, repeat))
            if first[0].id != run.id:
                yield Note(
                    code="same_figures",
                    text=f"{pair_names([first])} and {pair_names([(run, repeat)])} have the same "
                    "figures to the last digit: one may be a copy of the other",
                )
                return


def _image(runs: Sequence[Run]) -> Iterator[Note]:
    pods = [run for run in runs if run.storage.get("pvc") or run.storage.get("ephemeral")]
    unpinned = [run.id for run in pods if not run.tool.image_digest]
    if unpinned:
        yield Note(code="image", text=f"run {unpinned[0]} records no digest of its image")


def _device(runs: Sequence[Run]) -> Iterator[Note]:
    emulated = [run for run in runs if device_kind(run) == "emulated"]
    if emulated:
        yield Note(
            code="emulated",
            text="made on emulated accelerators: step times are declared, no GPU was used",
        )
    copies = {
        device.get("copy")
        for run in emulated
        if isinstance(device := run.plan.get("device"), Mapping)
    }
    if "none" in copies:
        yield Note(code="no_copies", text="copies to the accelerator were paced, not made")


def _tiers(runs: Sequence[Run], counted: Sequence[Pair]) -> Iterator[Note]:
    unproven = dict.fromkeys(
        f"{tier.tier} ({tier.state})"
        for _, repeat in counted
        if repeat.cache is not None
        for tier in repeat.cache.tiers
        if tier.state != "cold-verified"
    )
    size = min((int(run.dataset.get("total_bytes") or 0) for run in runs), default=0)
    declared = runs[0].storage.get("cache_tiers") or () if runs else ()
    for tier in declared:
        capacity = int(tier.get("capacity_bytes") or 0)
        if size < CACHE_FACTOR * capacity:
            unproven[
                f"{tier.get('name')} of {data_bytes(capacity)}, for a data set of "
                f"{data_bytes(size)}"
            ] = None
    if not declared:
        unproven["caches of the servers, of which the target declares none"] = None
    if unproven:
        yield Note(
            code="unproven_tiers",
            text=f"not proven cold: {'; '.join(unproven)}",
        )


def _warnings(counted: Sequence[Pair]) -> Iterator[Note]:
    seen: dict[str, tuple[str, list[Pair]]] = {}
    for run, repeat in counted:
        for guard in repeat.guards:
            if guard.status == "warn" and guard.name != "short":
                seen.setdefault(guard.name, (guard.detail, []))[1].append((run, repeat))
    for name, (detail, where) in seen.items():
        yield Note(
            code="warning",
            text=f"guard {name} warns in {len(where)} of {len(counted)} repeats: {detail}",
        )
