"""Every creation of a run, tried on the real API server without effect.

Admission is the only judge that knows all rules: Pod Security, quotas, policies, webhooks.
Jobs are accepted whatever their pods look like, so bare pods are made of their templates.
"""

from __future__ import annotations

from http import HTTPStatus

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.launch.kubernetes.connect import (
    API_FAULTS,
    JsonObject,
    api_error,
    request_json,
    server_message,
)
from bench.launch.kubernetes.manifests import Manifests
from bench.launch.kubernetes.preflight.model import Attempt
from bench.launch.kubernetes.yaml import plain

__all__ = ["attempts", "bare_pod"]

COLLECTIONS = {
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceClaimTemplate": "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaimtemplates",
}


def bare_pod(job: JsonObject) -> JsonObject:
    """Return a pod as the Job's controller would make it.

    Args:
        job: Plain form of a Job.
    """
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "name": f"{job['metadata']['name']}-check"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _candidates(manifests: Manifests) -> list[JsonObject]:
    """Return all that is created, but one measuring Job for all: they differ in a number."""
    prepare: JsonObject = plain(manifests.anchor)
    measure: JsonObject = plain(manifests.measure(0))
    others = (
        manifests.state,
        manifests.prepare_config,
        manifests.plan_config,
        manifests.service,
        manifests.claim,
        manifests.claim_template,
    )
    made: list[JsonObject] = [plain(one) for one in others if one is not None]
    return [prepare, *made, measure, bare_pod(prepare), bare_pod(measure)]


def _try(api: client.ApiClient, body: JsonObject, namespace: str) -> Attempt:
    kind, name = body["kind"], body["metadata"]["name"]
    path = COLLECTIONS[kind].format(namespace)
    body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    try:
        applied = request_json(api, "POST", path, query={"dryRun": "All"}, body=body)
    except ApiException as error:
        return Attempt(kind, name, error.status or 0, server_message(error), body, None)
    except API_FAULTS as error:
        return Attempt(kind, name, 0, str(api_error(error, place=path)), body, None)
    return Attempt(kind, name, HTTPStatus.CREATED, "", body, applied)


def attempts(api: client.ApiClient, manifests: Manifests, *, namespace: str) -> tuple[Attempt, ...]:
    """Try to create all objects of a run, and the pods of its Jobs.

    Args:
        api: Of a connection.
        manifests: Without owner references.
        namespace: Where.
    """
    return tuple(_try(api, body, namespace) for body in _candidates(manifests))
