"""From the logs of a Job's pods to how its repeat ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from bench.agent.group import RepeatOutcome, rebuild_error
from bench.agent.pod.codes import LOG_BUDGET_BYTES
from bench.errors import BenchError, InfrastructureError
from bench.launch.kubernetes.logs import PodLog
from bench.launch.kubernetes.picture import PodView
from bench.spec.plan import Plan

__all__ = ["counted", "outcome_of", "quiet_log"]


def counted(pods: Iterable[PodView]) -> list[PodView]:
    """Return one pod for each index: the one that succeeded, else the newest."""
    found: dict[int, PodView] = {}
    for pod in pods:
        before = found.get(pod.index)
        if before is None or before.phase != "Succeeded":
            found[pod.index] = pod
    return [found[index] for index in sorted(found)]


def outcome_of(
    plan: Plan, directory: Path, logs: list[PodLog], error: BenchError | None
) -> RepeatOutcome:
    """Return how a repeat ended, by what has come of its ranks.

    Args:
        plan: What was run.
        directory: Where the tables were put.
        logs: Of its pods.
        error: What ended the Job; None where it ended well.
    """
    outcome = RepeatOutcome(error=error)
    for rank in range(plan.num_ranks):
        names = [f"rank-{rank}.json", f"steps-{rank}", f"pieces-{rank}", f"replay-{rank}"]
        if all((directory / one).exists() for one in names):
            outcome.ranks[rank] = json.loads((directory / names[0]).read_text())
    lost = plan.num_ranks - len(outcome.ranks)
    placed = any(log.site is not None for log in logs)
    # Lines that only told of progress may be lost: tables have checksums of their own.
    if error is None and (lost or not placed):
        told = next((log.error for log in logs if log.error is not None), None)
        outcome.error = rebuild_error(told) if told is not None else _incomplete(plan, lost, logs)
    if not placed:
        outcome.ranks.clear()  # nobody knows what they ran on
    return outcome


def _incomplete(plan: Plan, lost: int, logs: list[PodLog]) -> BenchError:
    omitted = sorted(name for log in logs for name in log.omitted)
    if omitted:
        return InfrastructureError(
            f"tables of {lost} of {plan.num_ranks} ranks",
            f"do not fit into the {LOG_BUDGET_BYTES >> 20} MiB of log that a pod may send: "
            f"{', '.join(omitted[:8])}",
            "measure less with --duration or --steps, or use a larger storage.io.block_bytes",
        )
    missing = [f"pod {log.pod}: {words}" for log in logs if (words := log.missing())]
    return InfrastructureError(
        f"tables of {lost} of {plan.num_ranks} ranks",
        f"did not arrive; missing of {'; of '.join(missing)[:800] or 'nothing that was sent'}",
        "see whether nodes rotate logs below 10 MiB, or measure less with --duration",
    )


def quiet_log(logs: dict[str, PodLog], pod: str, directory: Path) -> PodLog:
    """Return the log of a pod whose progress the first pod tells."""
    return logs.setdefault(pod, PodLog(pod, directory, lambda _: None))
