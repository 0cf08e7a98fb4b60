"""What storage classes, claims and volumes say about the target."""

from __future__ import annotations

from typing import Any

from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.preflight.demand import Demand
from bench.launch.kubernetes.preflight.facts import NO_PROVISIONER, amount
from bench.launch.kubernetes.preflight.model import Facts, Note, Refusal, Unknown

__all__ = ["judge_target"]

JsonObject = dict[str, Any]


def judge_target(facts: Facts, bp: Blueprint, demand: Demand) -> tuple[list[Refusal], list[Note]]:
    """Return what stands against the storage that is to be measured."""
    refusals: list[Refusal] = []
    notes: list[Note] = []
    for (kind, name), found in facts.objects.items():
        place = f"{kind} {name}"
        if kind == "StorageClass":
            if found is None and demand.claims is not None:
                refusals.append(
                    Refusal(
                        place,
                        "does not exist",
                        "see `kubectl get storageclass`, and correct storageClassName",
                    )
                )
            elif isinstance(found, dict):
                refusals += _volumes(facts, place, found, demand)
        elif kind == "PersistentVolumeClaim":
            more, further = _claim(facts, place, found, bp)
            refusals += more
            notes += further
        elif kind == "CSIDriver" and found is None:
            notes.append(Note(place, "is not registered: version and limits stay unknown"))
    return refusals, notes


def _volumes(facts: Facts, place: str, storage_class: JsonObject, demand: Demand) -> list[Refusal]:
    """Return what is missing of a class whose volumes a person makes."""
    claims = demand.claims
    if claims is None or storage_class.get("provisioner") != NO_PROVISIONER:
        return []
    if facts.volumes is None or isinstance(facts.volumes, Unknown):
        return []
    free = [
        volume
        for volume in facts.volumes
        if volume.get("spec", {}).get("storageClassName") == claims.storage_class
        and volume.get("status", {}).get("phase") == "Available"
        and amount(volume["spec"].get("capacity", {}).get("storage")) >= claims.each_bytes
    ]
    if len(free) >= claims.count:
        return []
    return [
        Refusal(
            place,
            f"makes no volumes by itself, and {len(free)} large enough of the {claims.count} "
            "that are needed are available",
            "make local PersistentVolumes, or ask for a smaller size or fewer nodes",
        )
    ]


def _claim(
    facts: Facts, place: str, found: JsonObject | Unknown | None, bp: Blueprint
) -> tuple[list[Refusal], list[Note]]:
    if isinstance(found, Unknown):
        return [], []
    if found is None:
        if bp.creates_claim:
            return [], []
        remedy = f"create it in namespace {facts.namespace}, or correct storage.pvc.claimName"
        return [Refusal(place, "does not exist", remedy)], []
    spec, status = found.get("spec", {}), found.get("status", {})
    phase = status.get("phase")
    problem = None
    if found.get("metadata", {}).get("deletionTimestamp"):
        problem = "is being deleted"
    elif phase == "Lost":
        problem = "has lost its volume"
    elif spec.get("volumeMode") == "Block":
        problem = "is a block device without a file system"
    if problem is not None:
        return [Refusal(place, problem, "use another claim")], []
    if phase == "Bound":
        capacity = amount((status.get("capacity") or {}).get("storage"))
        needed = bp.plan.dataset.total_bytes
        if capacity < needed:
            text = f"holds {int(capacity)} bytes, and the data set has {needed}"
            return [], [Note(place, f"{text}: it must be there already, in part")]
        return [], []
    mode = _binding_mode(facts, spec.get("storageClassName"))
    if mode == "WaitForFirstConsumer":
        return [], []
    text = f"is {phase}: pods wait until it is bound; see `kubectl describe pvc`"
    return [], [Note(place, text)]


def _binding_mode(facts: Facts, storage_class: str | None) -> str | None:
    found = facts.objects.get(("StorageClass", storage_class or ""))
    return found.get("volumeBindingMode") if isinstance(found, dict) else None
