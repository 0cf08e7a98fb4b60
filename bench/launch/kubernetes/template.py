"""Metadata of objects that a platform team applies once, and that outlast every run."""

from __future__ import annotations

from collections.abc import Mapping

from kubernetes import client

from bench import __version__
from bench.launch.kubernetes import names as n

__all__ = ["LAUNCHER", "WORKER", "metadata"]

LAUNCHER = "bench-launcher"
"""ServiceAccount and Role of whatever runs `bench run --launcher kubernetes`."""

WORKER = "bench-worker"
"""ServiceAccount of measuring pods; the default of plan.cluster.service_account_name."""


def metadata(
    name: str,
    *,
    namespace: str | None,
    component: str,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> client.V1ObjectMeta:
    """Return the metadata of an object that belongs to no run.

    Args:
        name: Of the object.
        namespace: Of the object; None for objects of the whole cluster.
        component: What it is part of.
        labels: Further ones.
        annotations: Further ones.
    """
    return client.V1ObjectMeta(
        name=name,
        namespace=namespace,
        labels=n.MANAGED | {n.COMPONENT: component} | dict(labels or {}),
        annotations={n.TOOL_VERSION: __version__} | dict(annotations or {}),
    )
