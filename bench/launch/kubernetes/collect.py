"""From the logs of a Job's pods to how its repeat ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from bench.agent.group import RepeatOutcome, rebuild_error
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
    missing = [f"pod {log.pod}: {words}" for log in logs if (words := log.missing())]
    for rank in range(plan.num_ranks):
        names = [f"rank-{rank}.json", f"steps-{rank}", f"pieces-{rank}", f"replay-{rank}"]
        if all((directory / one).exists() for one in names):
            outcome.ranks[rank] = json.loads((directory / names[0]).read_text())
    lost = plan.num_ranks - len(outcome.ranks)
    if error is None and (missing or lost):
        told = next((log.error for log in logs if log.error is not None), None)
        outcome.error = (
            rebuild_error(told)
            if told is not None
            else InfrastructureError(
                f"logs of {len(missing) or lost} pods",
                f"tables of {lost} of {plan.num_ranks} ranks did not arrive"
                + (f": {'; '.join(missing)[:800]}" if missing else ""),
                "see whether nodes rotate logs below 10 MiB, or measure less with --duration",
            )
        )
    return outcome


def quiet_log(logs: dict[str, PodLog], pod: str, directory: Path) -> PodLog:
    """Return the log of a pod whose progress the first pod tells."""
    return logs.setdefault(pod, PodLog(pod, directory, lambda _: None))
