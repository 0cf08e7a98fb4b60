"""What admission made of a pod: the applied spec against the intended one.

Limit ranges, webhooks and the service account's controller change pods on their way in. What
the API server fills in for everybody is left out; quantities are compared by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import InvalidOperation
from typing import Any

from kubernetes.utils.quantity import parse_quantity

__all__ = ["Change", "changes"]

MISSING = object()

DEFAULTS: dict[str, object] = {
    "dnsPolicy": "ClusterFirst",
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "serviceAccountName": "default",
    "terminationGracePeriodSeconds": 30,
    "containers[].imagePullPolicy": ("IfNotPresent", "Always"),
    "containers[].terminationMessagePath": "/dev/termination-log",
    "containers[].terminationMessagePolicy": "File",
    "containers[].env[].valueFrom.fieldRef.apiVersion": "v1",
    "containers[].volumeMounts[].recursiveReadOnly": "Disabled",
    "volumes[].configMap.defaultMode": 420,
    "volumes[].ephemeral.volumeClaimTemplate.spec.volumeMode": "Filesystem",
    "volumes[].ephemeral.volumeClaimTemplate.metadata.creationTimestamp": None,
    "securityContext.supplementalGroupsPolicy": "Merge",
}
"""What the API server writes where nothing was given; several values where it chooses."""

ASSIGNED = frozenset({"nodeName", "hostname", "serviceAccount", "priority"})
"""What scheduler, Job controller and priority class write into every pod."""

JOB_ENVIRONMENT = frozenset({"JOB_COMPLETION_INDEX"})

NODE_TAINTS = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
"""Tolerations of these for five minutes are everybody's."""

NAME_KEYS = {"tolerations": "key", "env": "name"}

AMOUNTS = ("resources.requests.", "resources.limits.", "sizeLimit")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        path: Such as "containers[bench].resources.limits.cpu".
        intended: None where nothing was.
        applied: None where it was taken away.
    """

    path: str
    intended: Any
    applied: Any

    def __str__(self) -> str:
        if self.intended is None:
            return f"{self.path} added: {self.applied}"
        if self.applied is None:
            return f"{self.path} removed: {self.intended}"
        return f"{self.path}: {self.intended} became {self.applied}"


def changes(intended: dict[str, Any], applied: dict[str, Any]) -> list[Change]:
    """Return how an applied pod spec differs from the intended one.

    Args:
        intended: Plain form of the spec that was sent.
        applied: Plain form of what the server has.
    """
    return list(_walk(intended, applied, path="", pattern=""))


def _walk(intended: Any, applied: Any, *, path: str, pattern: str) -> Iterator[Change]:
    if isinstance(intended, dict) and isinstance(applied, dict):
        for key in dict.fromkeys([*intended, *applied]):
            yield from _pair(
                intended.get(key, MISSING),
                applied.get(key, MISSING),
                path=f"{path}.{key}".lstrip("."),
                pattern=f"{pattern}.{key}".lstrip("."),
            )
    elif isinstance(intended, list) and isinstance(applied, list):
        yield from _lists(intended, applied, path=path, pattern=pattern)
    elif not _equal(intended, applied, pattern):
        yield Change(path, intended, applied)


def _pair(intended: Any, applied: Any, *, path: str, pattern: str) -> Iterator[Change]:
    if intended is MISSING:
        if not _expected(pattern, applied):
            # Something empty where nothing was is the same; a part of it may be a default.
            if isinstance(applied, dict):
                yield from _walk({}, applied, path=path, pattern=pattern)
            elif isinstance(applied, list):
                yield from _walk([], applied, path=path, pattern=pattern)
            else:
                yield Change(path, None, applied)
    elif applied is MISSING:
        if intended not in (None, {}, [], "", False):
            yield Change(path, intended, None)
    else:
        yield from _walk(intended, applied, path=path, pattern=pattern)


def _expected(pattern: str, value: Any) -> bool:
    if pattern in ASSIGNED:
        return True
    if pattern not in DEFAULTS:
        return False
    default = DEFAULTS[pattern]
    return value in default if isinstance(default, tuple) else bool(value == default)


def _equal(intended: Any, applied: Any, pattern: str) -> bool:
    if intended == applied:
        return True
    if not any(part in pattern for part in AMOUNTS):
        return False
    try:
        return bool(parse_quantity(intended) == parse_quantity(applied))  # type: ignore[no-untyped-call]
    except (ValueError, InvalidOperation):
        return False


def _identity(item: Any, index: int) -> str:
    if isinstance(item, dict):
        for key in ("name", "mountPath", "key"):
            if item.get(key):
                return str(item[key])
    return str(index)


def _is_everybodys(pattern: str, name: str, item: Any) -> bool:
    """Whether an added entry of a list is in every pod, or in every pod of a Job."""
    if pattern == "tolerations":
        return name in NODE_TAINTS and item.get("effect") == "NoExecute"
    return pattern.endswith("containers[].env") and name in JOB_ENVIRONMENT


def _lists(intended: list[Any], applied: list[Any], *, path: str, pattern: str) -> Iterator[Change]:
    """Compare by name where entries have one: webhooks put theirs anywhere."""
    wanted = {_identity(item, i): item for i, item in enumerate(intended)}
    found = {_identity(item, i): item for i, item in enumerate(applied)}
    for name in dict.fromkeys([*wanted, *found]):
        here = f"{path}[{name}]"
        if name not in wanted:
            if not _is_everybodys(pattern, name, found[name]):
                yield Change(here, None, found[name])
        elif name not in found:
            yield Change(here, wanted[name], None)
        else:
            yield from _walk(wanted[name], found[name], path=here, pattern=f"{pattern}[]")
