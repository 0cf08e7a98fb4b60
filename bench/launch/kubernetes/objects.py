"""Create, note and remove what belongs to a run; every call can be made twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.errors import InfrastructureError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.connect import (
    API_FAULTS,
    JsonObject,
    api_error,
    exchange_json,
    request_json,
)

__all__ = [
    "LISTED",
    "create",
    "leftovers",
    "patch_state",
    "read",
    "remove_job",
    "remove_run",
    "state_data",
]

PATHS = {
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "ResourceClaimTemplate": (
        "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaimtemplates"
    ),
}

LISTED = ("Job", "Pod", "Service", "ConfigMap", "PersistentVolumeClaim")
"""What is looked for by run label; a ResourceClaimTemplate goes with its owner."""

LIST_PATHS = PATHS | {"Pod": "/api/v1/namespaces/{namespace}/pods"}

POLL_SECONDS = 0.3

PATIENCE_SECONDS = 120.0
"""For an API server that restarts in the middle of a run; pods go on measuring meanwhile."""

LONGEST_PAUSE_SECONDS = 5.0

CONFLICT, NOT_FOUND = 409, 404
REFUSALS = (401, 403)
PASSING = (429, 500, 502, 503, 504)


def _path(kind: str, namespace: str, name: str = "") -> str:
    path = LIST_PATHS[kind].format(namespace=namespace)
    return f"{path}/{name}" if name else path


def _patiently(call: Callable[[], JsonObject], *, clock: Callable[[], float]) -> JsonObject:
    """Return what a call gives, once the API server is there for it.

    A server that has just come back may refuse what it will allow a moment later, when it has
    read the roles: a refusal is believed only where it was not away right before.

    Raises:
        ApiException: The server refuses; other faults are those of API_FAULTS.
    """
    deadline, pause, was_away = clock() + PATIENCE_SECONDS, 0.5, False
    while True:
        try:
            return call()
        except API_FAULTS as error:
            status = getattr(error, "status", None)
            passing = not status or status in PASSING or (was_away and status in REFUSALS)
            if not passing or clock() > deadline:
                raise
            was_away = was_away or not status
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def create(
    api: client.ApiClient,
    value: Any,
    *,
    namespace: str,
    clock: Callable[[], float] = time.monotonic,
) -> JsonObject:
    """Create an object, or return the one that a launcher before us created.

    Args:
        api: Of a connection.
        value: A typed object.
        namespace: Of the run.
        clock: Monotonic, seconds.

    Raises:
        BenchError: The server refuses, in its own words.
    """
    body: JsonObject = api.sanitize_for_serialization(value)  # type: ignore[no-untyped-call]
    kind, name = body["kind"], body["metadata"]["name"]
    place = f"{kind} {namespace}/{name}"
    try:
        return _patiently(
            lambda: request_json(api, "POST", _path(kind, namespace), body=body), clock=clock
        )
    except API_FAULTS as error:
        if getattr(error, "status", None) != CONFLICT:
            raise api_error(error, place=place) from error
        found = read(api, kind, name, namespace=namespace)
        if found is None or "deletionTimestamp" in found["metadata"]:
            raise InfrastructureError(
                place, "is being removed by somebody else", "wait until it is gone, and run again"
            ) from error
        return found


def read(api: client.ApiClient, kind: str, name: str, *, namespace: str) -> JsonObject | None:
    """Return an object as it is; None where there is none.

    Raises:
        BenchError: The server refuses, in its own words.
    """
    try:
        return request_json(api, "GET", _path(kind, namespace, name))
    except API_FAULTS as error:
        if isinstance(error, ApiException) and error.status == NOT_FOUND:
            return None
        raise api_error(error, place=f"{kind} {namespace}/{name}") from error


def patch_state(
    api: client.ApiClient,
    name: str,
    entries: dict[str, str],
    *,
    namespace: str,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Note how far a run is, in its state ConfigMap; other keys stay.

    Raises:
        BenchError: The server refuses, in its own words.
    """
    request = api.param_serialize(
        "PATCH",
        _path("ConfigMap", namespace, name),
        header_params={
            "Accept": "application/json",
            "Content-Type": "application/merge-patch+json",
        },
        body={"data": entries},
        auth_settings=["BearerToken"],
    )

    def patch() -> JsonObject:
        answer = api.call_api(*request)
        data: bytes = answer.read() or b""  # type: ignore[no-untyped-call]
        if answer.status >= 300:
            body = data.decode("utf-8", "replace")
            raise ApiException(status=answer.status, reason=answer.reason, body=body)
        return {}

    try:
        _patiently(patch, clock=clock)
    except API_FAULTS as error:
        raise api_error(error, place=f"ConfigMap {namespace}/{name}") from error


def leftovers(api: client.ApiClient, *, namespace: str, selector: str) -> list[JsonObject]:
    """Return all objects with a label, each with its kind and metadata alone."""
    found = []
    for kind in LISTED:
        answer = request_json(
            api, "GET", _path(kind, namespace), query={"labelSelector": selector, "limit": 5000}
        )
        found += [{"kind": kind, "metadata": item["metadata"]} for item in answer.get("items", [])]
    return found


def remove_run(
    api: client.ApiClient,
    run_id: str,
    *,
    namespace: str,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Remove everything of a run and wait until it is gone.

    The preparing Job owns the rest; the others are named as well, so that nobody has to wait
    for the cluster's garbage collection. Claims that keep a data set carry no run label, and
    claims that we did not create neither: they stay.

    Returns:
        What is still there after the timeout, as "Kind name".
    """
    selector = f"{n.RUN_ID}={run_id}"
    deadline = clock() + timeout_seconds
    asked: set[str] = set()
    while True:
        try:
            left = leftovers(api, namespace=namespace, selector=selector)
            for item in left:
                metadata = item["metadata"]
                if item["kind"] == "Pod" and metadata.get("ownerReferences"):
                    continue  # its Job's
                if metadata["uid"] not in asked:
                    _delete(api, item["kind"], metadata, namespace=namespace)
                    asked.add(metadata["uid"])
        except API_FAULTS as error:
            if clock() > deadline:
                raise api_error(error, place=f"run {run_id}: clean-up") from error
            time.sleep(1.0)
            continue
        if not left or clock() > deadline:
            return [f"{item['kind']} {item['metadata']['name']}" for item in left]
        time.sleep(POLL_SECONDS)


def _delete(api: client.ApiClient, kind: str, metadata: JsonObject, *, namespace: str) -> None:
    options: JsonObject = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": "Background",
        "preconditions": {"uid": metadata["uid"]},
    }
    try:
        exchange_json(api, "DELETE", _path(kind, namespace, metadata["name"]), body=options)
    except ApiException as error:
        if error.status not in (NOT_FOUND, CONFLICT):
            raise


def remove_job(api: client.ApiClient, name: str, *, namespace: str) -> None:
    """Remove one Job and its pods, without waiting.

    Raises:
        BenchError: The server refuses, in its own words.
    """
    found = read(api, "Job", name, namespace=namespace)
    if found is None:
        return
    try:
        _delete(api, "Job", found["metadata"], namespace=namespace)
    except API_FAULTS as error:
        raise api_error(error, place=f"Job {namespace}/{name}") from error


def state_data(value: JsonObject) -> dict[str, Any]:
    """Return the state ConfigMap's entries, parsed."""
    return {key: json.loads(text) for key, text in (value.get("data") or {}).items()}
