"""What quotas and limit ranges of the namespace say about a run."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from bench.launch.kubernetes.preflight.demand import Demand
from bench.launch.kubernetes.preflight.facts import amount
from bench.launch.kubernetes.preflight.model import Facts, Note, Refusal, Unknown
from bench.launch.kubernetes.preflight.wording import shown

__all__ = ["judge_limit_ranges", "judge_quotas"]

JsonObject = dict[str, Any]

OBJECT_COUNTS = ("count/", "configmaps", "services", "persistentvolumeclaims", "storage")


def _in_scope(quota: JsonObject, demand: Demand) -> bool:
    """Whether a quota counts the pods of a run: Guaranteed ones, without a deadline of theirs."""
    spec = quota.get("spec", {})
    selector = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    expressions = [
        {"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or []
    ] + selector
    return all(_matches(expression, demand) for expression in expressions)


def _matches(expression: JsonObject, demand: Demand) -> bool:
    operator, values = expression.get("operator"), expression.get("values") or []
    match expression.get("scopeName"):
        case "Terminating" | "BestEffort":
            return False
        case "NotTerminating" | "NotBestEffort":
            return True
        case "PriorityClass":
            name = demand.pod.get("priorityClassName")
            if operator == "In":
                return name in values
            if operator == "NotIn":
                return name not in values
            return (name is None) == (operator == "DoesNotExist")
        case _:  # cross-namespace affinity, volume attributes: a run has neither
            return False


def judge_quotas(facts: Facts, demand: Demand) -> tuple[list[Refusal], list[Note]]:
    """Return what the quotas of the namespace say about the whole run.

    The server's own check of single objects passes where all of them together do not fit.
    """
    if isinstance(facts.quotas, Unknown):
        return [], [Note("ResourceQuota", f"unknown: {facts.quotas.reason}")]
    refusals = []
    for quota in facts.quotas:
        scoped = _in_scope(quota, demand)
        name = f"ResourceQuota {quota['metadata']['name']}"
        status = quota.get("status") or {}
        hard = status.get("hard") or quota.get("spec", {}).get("hard") or {}
        for key, text in hard.items():
            if not scoped:
                continue
            wanted = demand.of_quota(key)
            free = amount(text) - amount((status.get("used") or {}).get(key, "0"))
            if wanted is not None and wanted > free:
                amounts = f"{shown(key, max(free, Decimal(0)))} of {text} left"
                refusals.append(
                    Refusal(
                        name,
                        f"{key}: the run needs {shown(key, wanted)}, and there are {amounts}",
                        "ask for less, free what others hold, or have the quota raised",
                    )
                )
    return refusals, []


def _limits(facts: Facts) -> Iterator[tuple[str, JsonObject]]:
    if isinstance(facts.limit_ranges, Unknown):
        return
    for limit_range in facts.limit_ranges:
        for limit in limit_range.get("spec", {}).get("limits") or []:
            yield f"LimitRange {limit_range['metadata']['name']}", limit


def judge_limit_ranges(
    facts: Facts, demand: Demand, *, scratch_bytes: int
) -> tuple[list[Refusal], list[Note]]:
    """Return what the limit ranges refuse, and what they would change.

    Args:
        facts: Gathered.
        demand: Of the run.
        scratch_bytes: Most that a pod writes to volumes of its own.
    """
    if isinstance(facts.limit_ranges, Unknown):
        return [], [Note("LimitRange", f"unknown: {facts.limit_ranges.reason}")]
    refusals, notes = [], []
    for place, limit in _limits(facts):
        if limit.get("type") == "PersistentVolumeClaim":
            if demand.claims is not None:
                given = {"storage": demand.claims.each_bytes}
                refusals += _bounds(place, "claim", limit, given, given)
            continue
        what = "pod" if limit.get("type") == "Pod" else "container"
        refusals += _bounds(place, what, limit, demand.requests, demand.limits)
        for name, text in (limit.get("default") or {}).items():
            if name in demand.limits:
                continue
            notes.append(Note(place, f"gives the pods a limit of {text} {name}"))
            if name == "ephemeral-storage" and amount(text) < scratch_bytes:
                refusals.append(
                    Refusal(
                        place,
                        f"gives the pods {text} of ephemeral-storage, and their tables may take "
                        f"{shown('storage', Decimal(scratch_bytes))}",
                        f"set plan.cluster.scratch_bytes={text}iB"
                        if text[-1:] in "KMGT"
                        else f"set plan.cluster.scratch_bytes below {text}",
                    )
                )
    return refusals, notes


def _bounds(
    place: str,
    what: str,
    limit: JsonObject,
    requests: dict[str, Decimal] | Any,
    limits: dict[str, Decimal] | Any,
) -> list[Refusal]:
    found = []
    setting = {"cpu": "plan.cluster.cpu", "memory": "plan.cluster.memory_bytes"}
    for name, text in (limit.get("max") or {}).items():
        if name in limits and limits[name] > amount(text):
            found.append(
                Refusal(
                    place,
                    f"allows a {what} at most {text} {name}, and the run's have "
                    f"{shown(name, limits[name])}",
                    f"set a smaller {setting.get(name, f'amount of {name}')}",
                )
            )
    for name, text in (limit.get("min") or {}).items():
        if name in requests and requests[name] < amount(text):
            found.append(
                Refusal(
                    place,
                    f"demands of a {what} at least {text} {name}, and the run's have "
                    f"{shown(name, requests[name])}",
                    f"set a larger {setting.get(name, f'amount of {name}')}",
                )
            )
    return found
