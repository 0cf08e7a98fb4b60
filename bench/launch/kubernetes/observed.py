"""What a repeat really ran on, read from the API after its pods ran: facts for the document.

Plain values, and the word `unknown` for what may not be read or is gone; never blank. Nothing
here decides anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kubernetes import client

from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.connect import API_FAULTS, Connection, JsonObject
from bench.launch.kubernetes.observed_spec import changes
from bench.launch.kubernetes.pods import CONTAINER
from bench.launch.kubernetes.preflight.model import Unknown
from bench.launch.kubernetes.preflight.reading import find, find_all, pages

__all__ = ["UNKNOWN", "observe"]

UNKNOWN = "unknown"

PRODUCT_LABELS = {
    "instance_type": "node.kubernetes.io/instance-type",
    "zone": "topology.kubernetes.io/zone",
    "gpu_product": "nvidia.com/gpu.product",
    "gpu_driver": "nvidia.com/cuda.driver-version.full",
}

DISRUPTION = "DisruptionTarget"

KNOWN_CLASS = ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode", "mountOptions")

SECRETIVE = ("secret", "password", "token", "key")
"""Parameters of a class that name Secrets, or worse; they are no facts of storage."""


def _or_unknown(value: Any) -> Any:
    return UNKNOWN if value in (None, "", []) else value


def observe(
    connection: Connection,
    bp: Blueprint,
    *,
    namespace: str,
    intended: Mapping[str, JsonObject],
) -> dict[str, Any]:
    """Return what the cluster says of a run's pods and of what they ran on.

    Args:
        connection: To the cluster.
        bp: The run.
        namespace: Where it is.
        intended: Spec of the pods of each Job as it was sent, by the Job's name, plain.

    Returns:
        `pods`, `nodes`, `storage`, `evictions`; see docs/preflight.md.
    """
    api = connection.api_client
    selector = {"labelSelector": f"{n.RUN_ID}={bp.names.run_id}"}
    pods = find_all(api, f"/api/v1/namespaces/{namespace}/pods", query=selector)
    if isinstance(pods, Unknown):
        return {
            "pods": UNKNOWN,
            "nodes": UNKNOWN,
            "storage": _storage(api, bp, _claims(api, bp, (), namespace), node=None),
            "evictions": UNKNOWN,
        }
    nodes = sorted({str(p["spec"]["nodeName"]) for p in pods if p["spec"].get("nodeName")})
    return {
        "pods": [_pod(pod, intended) for pod in pods],
        "nodes": _nodes(api, nodes, run_id=bp.names.run_id),
        "storage": _storage(
            api, bp, _claims(api, bp, pods, namespace), node=nodes[0] if nodes else None
        ),
        "evictions": _evictions(pods),
    }


# Pods


def _job_of(pod: JsonObject) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(one["name"]) for one in owners if one.get("kind") == "Job"), "")


def _pod(pod: JsonObject, intended: Mapping[str, JsonObject]) -> dict[str, Any]:
    job, status = _job_of(pod), pod.get("status", {})
    statuses = {one["name"]: one for one in status.get("containerStatuses") or []}
    own = statuses.get(CONTAINER, {})
    wanted = intended.get(job)
    return {
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "job": _or_unknown(job),
        "component": (pod["metadata"].get("labels") or {}).get(n.COMPONENT, UNKNOWN),
        "node": _or_unknown(pod["spec"].get("nodeName")),
        "image": _or_unknown(own.get("image")),
        "image_digest": _digest(own.get("imageID")),
        "qos_class": _or_unknown(status.get("qosClass")),
        "restarts": own.get("restartCount", UNKNOWN),
        "other_containers": sorted(
            one["name"] for one in pod["spec"]["containers"] if one["name"] != CONTAINER
        ),
        "resources": _resources(pod),
        "changes": UNKNOWN
        if wanted is None
        else [str(change) for change in changes(wanted, pod["spec"])],
    }


def _digest(image_id: str | None) -> str:
    """Return the digest in a container's imageID: "docker-pullable://x@sha256:..." and others."""
    text = image_id or ""
    start = text.rfind("sha256:")
    return text[start:] if start >= 0 else _or_unknown(text)


def _resources(pod: JsonObject) -> dict[str, Any]:
    for container in pod["spec"]["containers"]:
        if container["name"] == CONTAINER:
            return dict(container.get("resources") or {})
    return {}


def _evictions(pods: Iterable[JsonObject]) -> list[dict[str, str]]:
    """Return the pods that the cluster took away, with its own words."""
    found = []
    for pod in pods:
        status = pod.get("status", {})
        name = pod["metadata"]["name"]
        disrupted = [
            {
                "pod": name,
                "reason": str(one.get("reason") or UNKNOWN),
                "message": str(one.get("message") or ""),
            }
            for one in status.get("conditions") or []
            if one.get("type") == DISRUPTION and one.get("status") == "True"
        ]
        if not disrupted and status.get("reason") in ("Evicted", "Preempting", "NodeShutdown"):
            disrupted = [
                {"pod": name, "reason": status["reason"], "message": status.get("message", "")}
            ]
        found += disrupted
    return found


# Nodes


def _nodes(api: client.ApiClient, names: Sequence[str], *, run_id: str) -> dict[str, Any]:
    return {name: _node(api, name) | _tenants(api, name, run_id=run_id) for name in names}


def _node(api: client.ApiClient, name: str) -> dict[str, Any]:
    found = find(api, f"/api/v1/nodes/{quote(name)}")
    if not isinstance(found, dict):
        return {"facts": UNKNOWN}
    labels, status = found["metadata"].get("labels") or {}, found.get("status", {})
    info = status.get("nodeInfo") or {}
    pressure = [
        one["type"]
        for one in status.get("conditions") or []
        if one["type"].endswith("Pressure") and one.get("status") == "True"
    ]
    return {
        "facts": {
            "kernel": _or_unknown(info.get("kernelVersion")),
            "os_image": _or_unknown(info.get("osImage")),
            "runtime": _or_unknown(info.get("containerRuntimeVersion")),
            "kubelet": _or_unknown(info.get("kubeletVersion")),
            "architecture": _or_unknown(info.get("architecture")),
            "capacity": status.get("capacity") or UNKNOWN,
            "allocatable": status.get("allocatable") or UNKNOWN,
            "pressure": pressure,
            **{key: labels.get(label, UNKNOWN) for key, label in PRODUCT_LABELS.items()},
        }
    }


def _tenants(api: client.ApiClient, node: str, *, run_id: str) -> dict[str, Any]:
    """Return how many pods of others run on a node now, and who the daemons are."""
    query = {"fieldSelector": f"spec.nodeName={node},status.phase=Running"}
    daemons = others = 0
    namespaces: Counter[str] = Counter()
    try:
        for page in pages(api, "/api/v1/pods", query=query):
            for pod in page:
                metadata = pod["metadata"]
                if (metadata.get("labels") or {}).get(n.RUN_ID) == run_id:
                    continue
                owners = metadata.get("ownerReferences") or []
                if any(one.get("kind") in ("DaemonSet", "Node") for one in owners):
                    daemons += 1
                else:
                    others += 1
                    namespaces[metadata["namespace"]] += 1
    except API_FAULTS:
        return {"co_tenants": UNKNOWN, "daemons": UNKNOWN, "co_tenant_namespaces": UNKNOWN}
    return {
        "co_tenants": others,
        "daemons": daemons,
        "co_tenant_namespaces": dict(sorted(namespaces.items())),
    }


# Storage


def _claims(
    api: client.ApiClient, bp: Blueprint, pods: Iterable[JsonObject], namespace: str
) -> list[JsonObject]:
    """Return the claims that were read: the target's, or those that the pods made."""
    names = [bp.claim_name] if bp.claim_name is not None else []
    if bp.plan.storage.ephemeral is not None:
        names = [f"{pod['metadata']['name']}-data" for pod in pods]
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    found = (find(api, f"{path}/{quote(name)}") for name in names)
    return [claim for claim in found if isinstance(claim, dict)]


def _storage(
    api: client.ApiClient, bp: Blueprint, claims: list[JsonObject], *, node: str | None
) -> dict[str, Any]:
    if bp.plan.storage.pvc is None and bp.plan.storage.ephemeral is None:
        return {"kind": bp.plan.storage.kind}
    class_name = bp.storage_class or next(
        (claim["spec"].get("storageClassName") for claim in claims), None
    )
    storage_class = (
        find(api, f"/apis/storage.k8s.io/v1/storageclasses/{quote(class_name)}")
        if class_name
        else None
    )
    volumes = [_volume(api, claim) for claim in claims]
    drivers = {v["csi_driver"] for v in volumes if v.get("csi_driver") not in (None, UNKNOWN, "")}
    if not drivers and isinstance(storage_class, dict):
        drivers = {storage_class.get("provisioner", "")}
    return {
        "kind": bp.plan.storage.kind,
        "storage_class": _class(class_name, storage_class),
        "volumes": volumes or UNKNOWN,
        "csi_drivers": {name: _driver(api, name, node=node) for name in sorted(drivers) if name},
    }


def _class(name: str | None, found: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": _or_unknown(name)}
    if not isinstance(found, dict):
        return facts | dict.fromkeys(KNOWN_CLASS, UNKNOWN)
    for key in KNOWN_CLASS:
        facts[key] = found.get(key, [] if key == "mountOptions" else UNKNOWN)
    facts["parameters"] = _open(found.get("parameters"))
    return facts


def _open(values: Mapping[str, str] | None) -> dict[str, str]:
    """Return the parameters that are facts of storage and nobody's secret."""
    return {
        key: value
        for key, value in (values or {}).items()
        if not any(word in key.lower() for word in SECRETIVE)
    }


def _volume(api: client.ApiClient, claim: JsonObject) -> dict[str, Any]:
    name = claim["spec"].get("volumeName")
    facts: dict[str, Any] = {
        "claim": claim["metadata"]["name"],
        "name": _or_unknown(name),
        "access_modes": claim.get("status", {}).get("accessModes") or UNKNOWN,
        "capacity": (claim.get("status", {}).get("capacity") or {}).get("storage", UNKNOWN),
    }
    found = find(api, f"/api/v1/persistentvolumes/{quote(name)}") if name else None
    if not isinstance(found, dict):
        return facts | {"csi_driver": UNKNOWN, "source": UNKNOWN, "mount_options": UNKNOWN}
    spec = found.get("spec", {})
    csi = spec.get("csi") or {}
    sources = [
        key for key in ("csi", "local", "hostPath", "nfs", "iscsi", "fc", "rbd") if key in spec
    ]
    return facts | {
        "csi_driver": csi.get("driver", "none"),
        "attributes": _open(csi.get("volumeAttributes")),
        "fs_type": _or_unknown(csi.get("fsType") or (spec.get("local") or {}).get("fsType")),
        "source": _or_unknown(sources[0] if sources else None),
        "mount_options": spec.get("mountOptions") or [],
    }


def _driver(api: client.ApiClient, name: str, *, node: str | None) -> dict[str, Any]:
    """Return what a cluster says of a CSI driver; its version is in its pods' images alone."""
    found = find(api, f"/apis/storage.k8s.io/v1/csidrivers/{quote(name, safe='')}")
    if not isinstance(found, dict):
        return {"registered": False if found is None else UNKNOWN, "images": UNKNOWN}
    spec = found.get("spec", {})
    return {
        "registered": True,
        "attach_required": spec.get("attachRequired", UNKNOWN),
        "fs_group_policy": _or_unknown(spec.get("fsGroupPolicy")),
        "images": _driver_images(api, name, node),
    }


def _driver_images(api: client.ApiClient, driver: str, node: str | None) -> Any:
    """Return the images of the driver's node plugin, by container; `unknown` where refused.

    The registrar beside every node plugin is given the path of its socket, which holds the
    driver's name by the conventions of kubelet plugins.
    """
    if node is None:
        return UNKNOWN
    needle = f"/{driver}/"
    try:
        for page in pages(api, "/api/v1/pods", query={"fieldSelector": f"spec.nodeName={node}"}):
            for pod in page:
                spec = pod["spec"]
                if needle in str(spec.get("volumes")) or needle in str(spec["containers"]):
                    return {one["name"]: one["image"] for one in spec["containers"]}
    except API_FAULTS:
        return UNKNOWN
    return UNKNOWN
