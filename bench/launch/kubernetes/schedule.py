"""The launcher itself as a Job or CronJob in the cluster, for GitOps.

Its account is the launcher's, with the rights of `bench.launch.kubernetes.rbac`. The documents
travel in a ConfigMap, so that what is measured is what was reviewed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from bench.errors import UsageError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.pods import (
    CONTAINER,
    MESH_ANNOTATIONS,
    MESH_LABELS,
    container_security,
    pod_security,
)
from bench.launch.kubernetes.template import LAUNCHER, metadata

__all__ = ["Schedule", "schedule"]

DOCUMENTS_ROOT = "/etc/bench/documents"
RESULTS_ROOT = "/results"
TEMPORARY_ROOT = "/tmp"  # noqa: S108 - a volume of the pod's own
WORKLOAD_FILE = "workload.yaml"
STORAGE_FILE = "storage.yaml"

AMOUNTS = {"cpu": "1", "memory": "2Gi"}
"""Of the launcher: it follows one log, and makes a report of tables at the end."""

TEMPORARY_SIZE = "1Gi"
USER = 65532
LATE_SECONDS = 3600
"""A start that was missed by more, as while the controller was down, is left out."""
MAX_CRON_NAME = n.MAX_NAME
"""The CronJob controller adds eleven characters to make the name of a Job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is run, when, and where results go.

    Attributes:
        namespace: Of the launcher and of its runs.
        image: Of the launcher and of the measuring pods.
        workload_name: For the name of the Job.
        workload_text: The YAML document.
        storage_name: For the name of the Job.
        storage_text: The YAML document.
        results: URL of a results store, or None for a claim.
        results_claim: Existing claim for results, or None for a URL.
        arguments: Further arguments of `bench run`.
        cron: When, in the five fields of cron; None for once.
        time_zone: Of the cron fields; None for the controller's own.
        deadline_seconds: Longest life of one launcher.
    """

    namespace: str
    image: str
    workload_name: str
    workload_text: str
    storage_name: str
    storage_text: str
    results: str | None
    results_claim: str | None
    arguments: Sequence[str]
    cron: str | None
    time_zone: str | None
    deadline_seconds: int


def _name(request: Schedule) -> str:
    name = f"bench-{request.workload_name}-{request.storage_name}"
    if len(name) <= MAX_CRON_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_CRON_NAME - 9].rstrip('-')}-{digest}"


def _command(request: Schedule) -> list[str]:
    return [
        *("python3", "-m", "bench", "run", f"{DOCUMENTS_ROOT}/{WORKLOAD_FILE}"),
        *("-s", f"{DOCUMENTS_ROOT}/{STORAGE_FILE}"),
        *("--launcher", "kubernetes"),
        *("--results", request.results if request.results is not None else RESULTS_ROOT),
        *("--set", f"plan.cluster.namespace={request.namespace}"),
        *("--set", f"plan.cluster.image={request.image}"),
        *request.arguments,
    ]


def _container(request: Schedule) -> client.V1Container:
    mounts = [
        client.V1VolumeMount(name="documents", mount_path=DOCUMENTS_ROOT, read_only=True),
        client.V1VolumeMount(name="temporary", mount_path=TEMPORARY_ROOT),
    ]
    if request.results_claim is not None:
        mounts.append(client.V1VolumeMount(name="results", mount_path=RESULTS_ROOT))
    return client.V1Container(
        name=CONTAINER,
        image=request.image,
        command=_command(request),
        env=[
            client.V1EnvVar(name="HOME", value=TEMPORARY_ROOT),
            client.V1EnvVar(name="PYTHONUNBUFFERED", value="1"),
        ],
        resources=client.V1ResourceRequirements(requests=dict(AMOUNTS), limits=dict(AMOUNTS)),
        security_context=container_security(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=mounts,
        working_dir=TEMPORARY_ROOT,
    )


def _template(request: Schedule, name: str) -> client.V1PodTemplateSpec:
    documents = client.V1ConfigMapVolumeSource(name=name)
    temporary = client.V1EmptyDirVolumeSource(size_limit=TEMPORARY_SIZE)
    volumes = [
        client.V1Volume(name="documents", config_map=documents),
        client.V1Volume(name="temporary", empty_dir=temporary),
    ]
    if request.results_claim is not None:
        claim = client.V1PersistentVolumeClaimVolumeSource(claim_name=request.results_claim)
        volumes.append(client.V1Volume(name="results", persistent_volume_claim=claim))
    spec = client.V1PodSpec(
        automount_service_account_token=True,  # the one pod that talks to the API server
        containers=[_container(request)],
        enable_service_links=False,
        restart_policy="Never",
        # Results are few files, so handing their volume to the group costs nothing.
        security_context=pod_security(USER, owns_volume=request.results_claim is not None),
        service_account_name=LAUNCHER,
        termination_grace_period_seconds=120,  # to remove what the run has created
        volumes=volumes,
    )
    labels = n.MANAGED | {n.COMPONENT: "launcher"} | MESH_LABELS
    return client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels, annotations=dict(MESH_ANNOTATIONS)), spec=spec
    )


def _job_spec(request: Schedule, name: str) -> client.V1JobSpec:
    return client.V1JobSpec(
        active_deadline_seconds=request.deadline_seconds,
        backoff_limit=0,  # a launcher that failed has said why; the next start is scheduled
        completions=1,
        parallelism=1,
        template=_template(request, name),
        ttl_seconds_after_finished=7 * 86400 if request.cron is None else None,
    )


def schedule(request: Schedule) -> list[Any]:
    """Return the ConfigMap with the documents, and the CronJob or Job of the launcher.

    Raises:
        UsageError: Results would go nowhere, or to two places, or it is not said when.
    """
    if (request.results is None) == (request.results_claim is None):
        raise UsageError(
            "--results",
            "give either a URL of a results store, or --results-claim",
            "what is written inside the pod goes with it",
        )
    if request.cron is not None and len(request.cron.split()) != 5 and request.cron[:1] != "@":
        raise UsageError("--cron", f"{request.cron!r} has not five fields", 'write "0 3 * * 1"')
    if request.time_zone is not None and request.cron is None:
        raise UsageError("--time-zone", "means nothing without --cron", "give both, or neither")
    name = _name(request)
    about = metadata(name, namespace=request.namespace, component="launcher")
    documents = client.V1ConfigMap(
        api_version="v1",
        kind="ConfigMap",
        metadata=about,
        data={WORKLOAD_FILE: request.workload_text, STORAGE_FILE: request.storage_text},
    )
    spec = _job_spec(request, name)
    if request.cron is None:
        return [
            documents,
            client.V1Job(api_version="batch/v1", kind="Job", metadata=about, spec=spec),
        ]
    cron = client.V1CronJob(
        api_version="batch/v1",
        kind="CronJob",
        metadata=about,
        spec=client.V1CronJobSpec(
            concurrency_policy="Forbid",
            failed_jobs_history_limit=3,
            job_template=client.V1JobTemplateSpec(
                metadata=client.V1ObjectMeta(labels=n.MANAGED | {n.COMPONENT: "launcher"}),
                spec=spec,
            ),
            schedule=request.cron,
            starting_deadline_seconds=LATE_SECONDS,
            successful_jobs_history_limit=3,
            time_zone=request.time_zone,
        ),
    )
    return [documents, cron]
