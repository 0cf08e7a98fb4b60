"""What a run found out: estimates over repeats, and one plain sentence on what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.analysis.causes import CAUSE_LABELS, GROUPS, cause_seconds, group_seconds
from bench.analysis.intervals import counted, required_rate, summarize
from bench.analysis.wording import duration, memory_bytes, rate, rough_percent, significant
from bench.results.schema import Interval, Repeat

__all__ = ["sentence", "summarize"]

NOT_WAITING_RATIO = 0.02
"""Stall under 2 points, the default margin of a decision, is not worth a cause."""
SECOND_CAUSE_SHARE = 0.2
ROOT_RANK_SHARE = 0.3


def sentence(repeats: Sequence[Repeat], *, plan: Mapping[str, Any]) -> str:
    """Return one plain sentence on what the accelerator waited for.

    Args:
        repeats: All repeats of the run.
        plan: `schema.Run.plan`; `step_seconds`, `ranks`, `threads`, `ring_bytes`, `mode` are
            used where present.
    """
    used = counted(repeats)
    failed = _failed_guards(repeats)
    if failed and not all(_sound(repeat) for repeat in used):
        return f"these figures must not be used: {failed}"
    if not used:
        return f"these figures must not be used: {failed}" if failed else _nothing(repeats)
    text = _finding(used, summarize(used), plan)
    if "page cache" not in text:
        text += _cache_note(used)
    if failed:
        text += f"; left out: {failed}"
    elif len(used) < len(repeats):
        text += f"; {len(repeats) - len(used)} of {len(repeats)} repeats did not end well"
    return text


def _sound(repeat: Repeat) -> bool:
    return all(guard.status != "fail" for guard in repeat.guards)


def _failed_guards(repeats: Sequence[Repeat]) -> str:
    unsound = [repeat for repeat in repeats if not _sound(repeat)]
    if not unsound:
        bad = [repeat for repeat in repeats if repeat.status == "invalid"]
        return f"{bad[0].problem or 'invalid'} ({_of(bad, repeats)})" if bad else ""
    first = next(guard for guard in unsound[0].guards if guard.status == "fail")
    return f"guard {first.name} failed in {_of(unsound, repeats)}, {first.detail}"


def _of(some: Sequence[Repeat], repeats: Sequence[Repeat]) -> str:
    if len(repeats) == 1:
        return "the only repeat"
    return f"{len(some)} of {len(repeats)} repeats"


def _nothing(repeats: Sequence[Repeat]) -> str:
    if any(repeat.status == "interrupted" for repeat in repeats) or not repeats:
        return "no figures: stopped before a repeat had ended"
    problem = repeats[0].problem or "no reason recorded"
    return f"no figures: {_of(repeats, repeats)} failed, {problem}"


def _finding(used: list[Repeat], summary: Mapping[str, Interval], plan: Mapping[str, Any]) -> str:
    throughput = summary.get("throughput_bytes_per_second")
    stall = summary.get("stall_ratio")
    if throughput is None:
        return "no figures: nothing was read"
    if stall is None:
        return (
            f"the pipe delivers {rate(throughput.estimate)}{_in_flight(plan)}; "
            "there was no accelerator to wait"
        )
    if stall.estimate < NOT_WAITING_RATIO:
        return (
            f"not waiting: the accelerator stalled {rough_percent(stall.estimate)} of the time; "
            + _keeps_up(used, plan)
        )
    steady = summary["steady_stall_ratio"].estimate
    if steady < NOT_WAITING_RATIO:
        first = summary["time_to_first_batch_seconds"].estimate
        return (
            f"waiting at the start only: the first batch came after {duration(first)}, "
            f"which makes {rough_percent(stall.estimate)} of stall; "
            f"once running it is {rough_percent(steady)}"
        )
    return _waiting(used, stall, throughput, plan)


def _waiting(
    used: list[Repeat], stall: Interval, throughput: Interval, plan: Mapping[str, Any]
) -> str:
    causes = cause_seconds(used)
    total = sum(causes.values())
    if total <= 0:
        return f"waiting {rough_percent(stall.estimate)} of the time, for a cause that is unknown"
    groups = list(group_seconds(causes).items())
    (name, largest), (second, less) = groups[:2]
    share = rough_percent(largest / total)
    text = f"waiting on {name}: {share} of the stall, which is {rough_percent(stall.estimate)} of "
    text += "the time"
    if less / total >= SECOND_CAUSE_SHARE:
        text += f" (then {second}, {rough_percent(less / total)})"
    return f"{text}; {_reason(name, causes, used, throughput, plan)}{_root_rank(used)}"


def _reason(
    group: str,
    causes: Mapping[str, float],
    used: list[Repeat],
    throughput: Interval,
    plan: Mapping[str, Any],
) -> str:
    if group == "storage":
        return _delivery(used, throughput, plan)
    if group == "the loader's ring":
        size = plan.get("ring_bytes")
        now = f" (now {memory_bytes(size)})" if size else ""
        return f"its slots were held by later batches or by the copy; raise plan.ring_bytes{now}"
    if group == "the harness":
        return "this is the tool's own delay, so the figure says little about the storage"
    if group == "other ranks":
        return "one rank kept the others waiting"
    if group == "the link to the accelerator":
        return "batches were in memory and waited for the copy to the accelerator"
    main = max(GROUPS[group], key=lambda name: causes.get(name, 0.0))
    return {
        "decode": "samples were in memory and waited to be decoded",
        "client_cpu": _client_cpu(used, plan),
        "run_delay": "reader threads were ready to run and got no CPU",
    }.get(main, CAUSE_LABELS[main])


def _client_cpu(used: list[Repeat], plan: Mapping[str, Any]) -> str:
    warm = any(repeat.cache is not None and repeat.cache.verdict == "warm" for repeat in used)
    if warm or plan.get("mode") == "buffered":
        return "reads spent their time copying out of the page cache, not waiting for the storage"
    return "reads spent their time computing in the client (copies, protocol), not waiting"


def _keeps_up(used: list[Repeat], plan: Mapping[str, Any]) -> str:
    need = _need(used, plan)
    return f"the data kept up with the {need}" if need else "the data came in time"


def _delivery(used: list[Repeat], throughput: Interval, plan: Mapping[str, Any]) -> str:
    need = _need(used, plan)
    if not need:
        return f"the storage delivers {rate(throughput.estimate)}{_in_flight(plan)}"
    return f"the storage delivers {significant(throughput.estimate / 1e9)} of the {need}"


def _need(used: list[Repeat], plan: Mapping[str, Any]) -> str:
    needs = [required_rate(repeat, step_seconds=plan.get("step_seconds")) for repeat in used]
    known = [need for need in needs if need is not None]
    if not known:
        return ""
    ranks = int(plan.get("ranks") or 1)
    who = "this accelerator needs" if ranks == 1 else f"these {ranks} accelerators need"
    return f"{rate(fmean(known))} that {who}{_in_flight(plan)}"


def _in_flight(plan: Mapping[str, Any]) -> str:
    threads = plan.get("threads")
    if not threads:
        return ""
    total = int(threads) * int(plan.get("ranks") or 1)
    return f" at {total} request{'s' if total != 1 else ''} in flight"


def _root_rank(used: list[Repeat]) -> str:
    """Name the rank that the others waited for, when one made much of the stall."""
    roots = [
        (sum(r.stall.sync_root.causes.values()) / r.stall.total_seconds, r.stall.sync_root.rank)
        for r in used
        if r.stall is not None and r.stall.sync_root is not None and r.stall.total_seconds > 0
    ]
    if len(roots) < len(used) or len({rank for _, rank in roots}) != 1:
        return ""
    share, rank = fmean(share for share, _ in roots), roots[0][1]
    return f"; the others waited for rank {rank} most" if share >= ROOT_RANK_SHARE else ""


def _cache_note(used: list[Repeat]) -> str:
    verdicts = {(r.cache.requested, r.cache.verdict) for r in used if r.cache is not None}
    if not any(verdict == "warm" for _, verdict in verdicts):
        return ""
    asked = "as asked" if all(requested == "hot" for requested, _ in verdicts) else "not the medium"
    return f"; the data came from the page cache, {asked}"
