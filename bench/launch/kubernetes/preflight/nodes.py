"""Whether the cluster has nodes that could take the pods, and which of them have room now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bench.launch.kubernetes.preflight.demand import Demand
from bench.launch.kubernetes.preflight.facts import amount
from bench.launch.kubernetes.preflight.model import Facts, Note, Refusal, Unknown
from bench.launch.kubernetes.preflight.wording import shown

__all__ = ["judge_nodes"]

JsonObject = dict[str, Any]

MAY_GROW = (
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)
"""Labels of nodes that an autoscaler may add more of: what is not there may still come."""

NAMED = 4
"""Reasons that are written out."""


def _tolerates(toleration: JsonObject, taint: JsonObject) -> bool:
    """Whether a toleration covers a taint, as the scheduler has it."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (
        taint.get("value") or ""
    )


def _pinned(pod: JsonObject) -> set[str] | None:
    """Return the names of the nodes that alone may take the pod; None for any."""
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return None
    return {
        value
        for term in required["nodeSelectorTerms"]
        for field in term.get("matchFields") or []
        for value in field["values"]
    }


def _unfit(node: JsonObject, pod: JsonObject) -> str | None:
    """Return why a node never takes the pod; None where it may."""
    pinned = _pinned(pod)
    if pinned is not None and node["name"] not in pinned:
        return "are not among the named ones"
    for key, value in (pod.get("nodeSelector") or {}).items():
        if node["labels"].get(key) != value:
            return f"lack the label {key}={value}"
    for taint in node["taints"]:
        if taint.get("effect") == "PreferNoSchedule":
            continue
        if not any(_tolerates(one, taint) for one in pod.get("tolerations") or []):
            written = f"{taint['key']}={taint.get('value') or ''}:{taint.get('effect')}"
            return f"have the taint {written.replace('=:', ':')}, which is not tolerated"
    if not node["ready"]:
        return "are not ready"
    return "are cordoned" if node["unschedulable"] else None


def _short(
    node: JsonObject, requests: Mapping[str, Decimal], used: Mapping[str, Decimal]
) -> tuple[str, bool] | None:
    """Return what a node has too little of, and whether it would do when empty; None: enough."""
    for name, wanted in {**requests, "pods": Decimal(1)}.items():
        has = amount(node["allocatable"].get(name, "0"))
        free = has - used.get(name, Decimal(0))
        if has < wanted:
            return f"have {shown(name, has)} of {shown(name, wanted)} {name}", False
        if free < wanted:
            return f"have {shown(name, free)} of {shown(name, wanted)} {name} free now", True
    return None


def judge_nodes(facts: Facts, demand: Demand, *, queued: bool) -> tuple[list[Refusal], list[Note]]:
    """Return what the nodes say.

    Args:
        facts: Gathered.
        demand: Of the run.
        queued: A queue admits the pods, so nodes that are busy now do not matter.
    """
    if isinstance(facts.nodes, Unknown):
        text = f"unknown whether any can take the pods: {facts.nodes.reason}"
        return [], [Note("nodes", text)]
    notes = []
    used: Mapping[str, Mapping[str, Decimal]] = {}
    if isinstance(facts.used, Unknown):
        text = f"unknown how much of them is taken already: {facts.used.reason}"
        notes.append(Note("nodes", text))
    else:
        used = facts.used
    why: Counter[str] = Counter()
    num_fit = num_busy = 0
    for node in facts.nodes:
        reason = _unfit(node, demand.pod)
        if reason is None:
            short = _short(node, demand.requests, used.get(node["name"], {}))
            if short is None:
                num_fit += 1
                continue
            reason, busy = short
            num_busy += busy
        why[reason] += 1
    if num_fit >= demand.num_pods:
        return [], notes
    reasons = ", ".join(f"{count} {reason}" for reason, count in why.most_common(NAMED))
    problem = (
        f"{demand.num_pods} needed, a pod on each, and {num_fit} of {len(facts.nodes)} can take one"
        + (f": {reasons}" if reasons else "")
    )
    if queued and num_fit + num_busy >= demand.num_pods:
        notes.append(Note("nodes", f"{problem}; the queue waits for them"))
        return [], notes
    if any(not set(MAY_GROW).isdisjoint(node["labels"]) for node in facts.nodes):
        notes.append(Note("nodes", f"{problem}; this cluster may add some"))
        return [], notes
    remedy = "use fewer --nodes or --gpus-per-node, or correct storage.pod.nodeSelector, "
    remedy += "tolerations and resources"
    if num_fit + num_busy >= demand.num_pods:
        remedy = "wait for the nodes that are busy, use fewer, or set plan.cluster.queue_name"
    return [Refusal("nodes", problem, remedy)], notes
