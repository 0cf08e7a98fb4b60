"""The Jobs of a run: one that prepares and owns all else, one for each repeat."""

from __future__ import annotations

from kubernetes import client

from bench.agent.pod.codes import BAD_INPUT_CODE
from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.deadlines import (
    anchor_ttl_seconds,
    measure_deadline_seconds,
    prepare_deadline_seconds,
)
from bench.launch.kubernetes.pods import CONTAINER, pod_template

__all__ = ["measure_job", "prepare_job"]

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def _failure_policy(*, disrupted: str) -> client.V1PodFailurePolicy:
    """Return what a Job does about a failed pod.

    Args:
        disrupted: FailJob or Ignore, for a pod that the cluster took away.
    """
    codes = client.V1PodFailurePolicyOnExitCodesRequirement(
        container_name=CONTAINER, operator="In", values=[BAD_INPUT_CODE]
    )
    condition = client.V1PodFailurePolicyOnPodConditionsPattern(
        type="DisruptionTarget", status="True"
    )
    return client.V1PodFailurePolicy(
        rules=[
            client.V1PodFailurePolicyRule(action="FailJob", on_exit_codes=codes),
            client.V1PodFailurePolicyRule(action=disrupted, on_pod_conditions=[condition]),
        ]
    )


def _metadata(bp: Blueprint, name: str, component: str, *, owned: bool) -> client.V1ObjectMeta:
    metadata = bp.metadata(name, component=component, owned=owned)
    if bp.cluster.queue_name is not None and metadata.labels is not None:
        metadata.labels[QUEUE_LABEL] = bp.cluster.queue_name
    return metadata


def prepare_job(bp: Blueprint) -> client.V1Job:
    """Return the preparing Job, the anchor of the run.

    It is created first and owns everything else, so that its removal, by the launcher or by
    its own time to live, removes the run. On targets that need no preparation from outside
    (ephemeral and simulated ones) its pod ends at once.

    A pod that is taken away is replaced: whole files are kept, and making goes on.
    """
    cluster = bp.cluster
    return client.V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=_metadata(bp, bp.names.prepare, "prepare", owned=False),
        spec=client.V1JobSpec(
            active_deadline_seconds=prepare_deadline_seconds(bp.plan, cluster),
            backoff_limit=0,
            completions=1,
            parallelism=1,
            pod_failure_policy=_failure_policy(disrupted="Ignore"),
            pod_replacement_policy="Failed",
            template=pod_template(bp, "prepare", arguments=["prepare"]),
            ttl_seconds_after_finished=anchor_ttl_seconds(bp.plan, cluster),
        ),
    )


def measure_job(bp: Blueprint, repeat: int) -> client.V1Job:
    """Return the Job that measures one repeat, a pod for each node.

    A failed pod is never started again: a silent second try is another measurement. Without
    its peers a pod has nothing to do, so losing one ends the Job; a single one that the
    cluster took away before it could count is replaced.

    Args:
        bp: What is run.
        repeat: 0-based.
    """
    num_nodes, cluster = bp.plan.settings.nodes, bp.cluster
    names, attempt = bp.names, bp.attempt
    return client.V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=_metadata(bp, names.measure(repeat, attempt=attempt), "measure", owned=True),
        spec=client.V1JobSpec(
            active_deadline_seconds=measure_deadline_seconds(bp.plan, cluster),
            backoff_limit=0,
            completion_mode="Indexed",
            completions=num_nodes,
            parallelism=num_nodes,
            pod_failure_policy=_failure_policy(disrupted="FailJob" if num_nodes > 1 else "Ignore"),
            pod_replacement_policy="Failed",
            template=pod_template(
                bp,
                "measure",
                arguments=["measure", "--repeat", str(repeat)],
                coordinator=names.coordinator(repeat, attempt=attempt),
            ),
            ttl_seconds_after_finished=cluster.ttl_seconds_after_finished,
        ),
    )
