"""What the API server says about a run that is to be: reads only, and dry runs.

The number of requests does not depend on the number of ranks; lists of nodes and pods come
in pages and are reduced on the way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from urllib.parse import quote

from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from bench.launch.kubernetes.blueprint import Blueprint, ExistingClaim
from bench.launch.kubernetes.connect import API_FAULTS, Connection, JsonObject, api_error
from bench.launch.kubernetes.manifests import Manifests
from bench.launch.kubernetes.preflight.dryrun import attempts
from bench.launch.kubernetes.preflight.model import Facts, Found, Unknown
from bench.launch.kubernetes.preflight.reading import find, find_all, pages
from bench.launch.kubernetes.preflight.rights import missing_rights, needed_rights

__all__ = ["NO_PROVISIONER", "amount", "existing_claim", "gather", "pod_requests"]

NO_PROVISIONER = "kubernetes.io/no-provisioner"
"""Of a class whose volumes a person makes, as for local disks."""

KUEUE = "kueue.x-k8s.io"

PATHS = {
    "Namespace": "/api/v1/namespaces/{name}",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses/{name}",
    "CSIDriver": "/apis/storage.k8s.io/v1/csidrivers/{name}",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts/{name}",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses/{name}",
    "DeviceClass": "/apis/resource.k8s.io/v1/deviceclasses/{name}",
}


def amount(text: object) -> Decimal:
    """Return a quantity of the API as a number; 0 for what is none."""
    try:
        value: Decimal = parse_quantity(text)  # type: ignore[no-untyped-call]
    except (ValueError, InvalidOperation):
        return Decimal(0)
    return value


def existing_claim(
    connection: Connection, *, claim_name: str | None, namespace: str
) -> ExistingClaim | None:
    """Return what the builders of manifests must know of the claim that a target names.

    Args:
        connection: To the cluster.
        claim_name: storage.pvc.claimName; None for other targets.
        namespace: Of the run.

    Returns:
        None where there is no such claim or it may not be read: preflight says which.
    """
    if claim_name is None:
        return None
    path = PATHS["PersistentVolumeClaim"].format(namespace=namespace, name=quote(claim_name))
    found = find(connection.api_client, path)
    if found is None or isinstance(found, Unknown):
        return None
    spec, status = found.get("spec", {}), found.get("status", {})
    modes = status.get("accessModes") or spec.get("accessModes") or []
    return ExistingClaim(spec.get("storageClassName") or None, tuple(modes))


def _named(bp: Blueprint, namespace: str) -> list[tuple[str, str]]:
    """Return kind and name of everything that the plan refers to."""
    cluster = bp.cluster
    wanted: list[tuple[str, str | None]] = [
        ("Namespace", namespace),
        ("StorageClass", bp.storage_class),
        (
            "PersistentVolumeClaim",
            bp.claim_name if bp.keeps_claim or not bp.creates_claim else None,
        ),
        ("ServiceAccount", cluster.service_account_name),
        ("PriorityClass", cluster.priority_class_name),
        ("DeviceClass", cluster.device_class_name if cluster.gpu == "dra" else None),
    ]
    return [(kind, name) for kind, name in wanted if name is not None]


def _local_queue(api: client.ApiClient, name: str, namespace: str) -> Found:
    """Return a LocalQueue in whichever version the cluster prefers."""
    group = find(api, f"/apis/{KUEUE}")
    if group is None or isinstance(group, Unknown):
        return group
    version = group.get("preferredVersion", {}).get("version", "v1beta1")
    return find(api, f"/apis/{KUEUE}/{version}/namespaces/{namespace}/localqueues/{name}")


def _objects(api: client.ApiClient, bp: Blueprint, namespace: str) -> dict[tuple[str, str], Found]:
    found = {
        (kind, name): find(api, PATHS[kind].format(namespace=namespace, name=quote(name)))
        for kind, name in _named(bp, namespace)
    }
    if bp.cluster.queue_name is not None:
        queue = bp.cluster.queue_name
        found["LocalQueue", queue] = _local_queue(api, queue, namespace)
    storage_class = found.get(("StorageClass", bp.storage_class or ""))
    if isinstance(storage_class, dict):
        provisioner = str(storage_class.get("provisioner", ""))
        if provisioner != NO_PROVISIONER:
            path = PATHS["CSIDriver"].format(name=quote(provisioner, safe=""))
            found["CSIDriver", provisioner] = find(api, path)
    return found


def _reduced_node(node: JsonObject) -> JsonObject:
    metadata, spec, status = node.get("metadata", {}), node.get("spec", {}), node.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return {
        "name": metadata.get("name"),
        "labels": metadata.get("labels") or {},
        "taints": spec.get("taints") or [],
        "unschedulable": bool(spec.get("unschedulable")),
        "ready": conditions.get("Ready") == "True",
        "allocatable": status.get("allocatable") or {},
    }


def pod_requests(pod: JsonObject) -> dict[str, Decimal]:
    """Return what the scheduler counts of a pod, by resource.

    The larger of its containers together and of any that only starts it, and its overhead.
    """
    spec = pod.get("spec", {})
    together: dict[str, Decimal] = defaultdict(Decimal)
    starting: dict[str, Decimal] = defaultdict(Decimal)
    for container in spec.get("containers") or []:
        for name, text in ((container.get("resources") or {}).get("requests") or {}).items():
            together[name] += amount(text)
    for container in spec.get("initContainers") or []:
        stays = container.get("restartPolicy") == "Always"  # a sidecar
        for name, text in ((container.get("resources") or {}).get("requests") or {}).items():
            if stays:
                together[name] += amount(text)
            else:
                starting[name] = max(starting[name], amount(text))
    found = {
        name: max(together.get(name, Decimal(0)), starting.get(name, Decimal(0)))
        for name in together.keys() | starting.keys()
    }
    for name, text in (spec.get("overhead") or {}).items():
        found[name] = found.get(name, Decimal(0)) + amount(text)
    return found


def _used(api: client.ApiClient) -> Mapping[str, Mapping[str, Decimal]] | Unknown:
    """Return what pods of all namespaces request, by node."""
    used: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    query = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!="}
    try:
        for page in pages(api, "/api/v1/pods", query=query):
            for pod in page:
                node = used[pod["spec"]["nodeName"]]
                node["pods"] += 1
                for name, value in pod_requests(pod).items():
                    node[name] += value
    except API_FAULTS as error:
        return Unknown(str(api_error(error, place="pods of all namespaces")))
    return used


def _volumes(
    api: client.ApiClient, storage_class: Found
) -> tuple[JsonObject, ...] | Unknown | None:
    if not isinstance(storage_class, dict):
        return None
    if storage_class.get("provisioner") != NO_PROVISIONER:
        return None
    return find_all(api, "/api/v1/persistentvolumes")


def gather(connection: Connection, manifests: Manifests, *, namespace: str) -> Facts:
    """Ask the API server everything that decides whether a run can be.

    Args:
        connection: To the cluster.
        manifests: Of the run, without owner references.
        namespace: Where it is to be.
    """
    api, bp = connection.api_client, manifests.blueprint
    objects = _objects(api, bp, namespace)
    place = f"/api/v1/namespaces/{namespace}"
    return Facts(
        namespace=namespace,
        user=connection.user,
        objects=objects,
        quotas=find_all(api, f"{place}/resourcequotas"),
        limit_ranges=find_all(api, f"{place}/limitranges"),
        nodes=find_all(api, "/api/v1/nodes", keep=_reduced_node),
        used=_used(api),
        volumes=_volumes(api, objects.get(("StorageClass", bp.storage_class or ""))),
        missing=missing_rights(api, needed_rights(bp, namespace=namespace)),
        attempts=attempts(api, manifests, namespace=namespace),
    )
