"""The pod template of preparing and measuring Jobs: one shape for both, `restricted`."""

from __future__ import annotations

from collections.abc import Sequence

from kubernetes import client

from bench.errors import UsageError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.shape import GPU_CLAIM, resources, tolerations
from bench.launch.kubernetes.volumes import (
    CA_FILE,
    DATA,
    DATA_ROOT,
    PLAN_FILE,
    SCRATCH_ROOT,
    TEMPORARY_ROOT,
    Role,
    Volumes,
    volumes,
)

__all__ = ["CONTAINER", "container_security", "pod_security", "pod_template"]

CONTAINER = "bench"
"""Name of the one container; a Job's failure policy refers to it."""

MODULE = "bench.agent.pod"

HOSTNAME_LABEL = "kubernetes.io/hostname"

GRACE_SECONDS = 30
"""For ranks to end the step under way and to say what was measured."""

SECRET_KEYS = (
    ("AWS_ACCESS_KEY_ID", None),
    ("AWS_SECRET_ACCESS_KEY", None),
    ("AWS_SESSION_TOKEN", True),
)
"""Environment of an object client, each a key of the Secret of the same name; True where it
may be missing."""

MESH_LABELS = {"sidecar.istio.io/inject": "false"}
MESH_ANNOTATIONS = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
"""A mesh's sidecar keeps a Job from completing, and puts object traffic through a proxy."""

STAY_ANNOTATIONS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""A node that is drained to save cost in the middle of a repeat costs the repeat."""


def pod_security(
    user: int, *, groups: Sequence[int] = (), owns_volume: bool = False
) -> client.V1PodSecurityContext:
    """Return the security context of a pod.

    Args:
        user: Numeric user and group.
        groups: Further groups.
        owns_volume: Its volume is new and belongs to the superuser: Kubernetes hands it to
            the group. Never for a volume that others fill: changing the owner of a million
            files takes hours and warms the metadata caches that are to be measured.
    """
    return client.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        supplemental_groups=list(groups) or None,
        fs_group=user if owns_volume else None,
        fs_group_change_policy="OnRootMismatch" if owns_volume else None,
        seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> client.V1SecurityContext:
    """Return the security context of a container: no capability, no writable root."""
    return client.V1SecurityContext(
        allow_privilege_escalation=False,
        capabilities=client.V1Capabilities(drop=["ALL"]),
        read_only_root_filesystem=True,
    )


def _from_field(name: str, path: str) -> client.V1EnvVar:
    field = client.V1ObjectFieldSelector(field_path=path)
    return client.V1EnvVar(name=name, value_from=client.V1EnvVarSource(field_ref=field))


def _from_secret(name: str, secret: str, *, optional: bool | None) -> client.V1EnvVar:
    key = client.V1SecretKeySelector(name=secret, key=name, optional=optional)
    return client.V1EnvVar(name=name, value_from=client.V1EnvVarSource(secret_key_ref=key))


def _environment(bp: Blueprint, mounted: Volumes, coordinator: str | None) -> list[client.V1EnvVar]:
    """Return the environment; Kubernetes adds JOB_COMPLETION_INDEX to Indexed Jobs."""
    plain = {
        "BENCH_PLAN": PLAN_FILE,
        "BENCH_SCRATCH": SCRATCH_ROOT,
        "HOME": TEMPORARY_ROOT,
        "TMPDIR": TEMPORARY_ROOT,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if any(volume.name == DATA for volume in mounted.volumes):
        plain["BENCH_DATA_ROOT"] = DATA_ROOT
    if coordinator is not None:
        plain["BENCH_COORDINATOR"] = coordinator
    if bp.ca_bundle is not None:
        plain["AWS_CA_BUNDLE"] = CA_FILE
    found = [client.V1EnvVar(name=name, value=value) for name, value in sorted(plain.items())]
    found += [
        _from_field("BENCH_NODE_NAME", "spec.nodeName"),
        _from_field("BENCH_POD_NAME", "metadata.name"),
        _from_field("BENCH_POD_UID", "metadata.uid"),
    ]
    target = bp.plan.storage.object
    secret = target.credentials.secret_name if target is not None else None
    if secret is not None:
        found += [_from_secret(key, secret, optional=may_lack) for key, may_lack in SECRET_KEYS]
    return found


def _anti_affinity(bp: Blueprint) -> client.V1PodAntiAffinity:
    """Keep pods of one run on different nodes: two of them would share what is measured."""
    labels = {n.RUN_ID: bp.names.run_id, n.COMPONENT: "measure"}
    term = client.V1PodAffinityTerm(
        label_selector=client.V1LabelSelector(match_labels=labels), topology_key=HOSTNAME_LABEL
    )
    return client.V1PodAntiAffinity(required_during_scheduling_ignored_during_execution=[term])


def _pinned(nodes: Sequence[str]) -> client.V1NodeAffinity:
    """Allow the named nodes alone: terms are alternatives, a field takes one value only."""
    terms = [
        client.V1NodeSelectorTerm(
            match_fields=[
                client.V1NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])
            ]
        )
        for node in nodes
    ]
    required = client.V1NodeSelector(node_selector_terms=terms)
    return client.V1NodeAffinity(required_during_scheduling_ignored_during_execution=required)


def _affinity(bp: Blueprint, role: Role) -> client.V1Affinity | None:
    apart = role == "measure" and bp.plan.settings.nodes > 1
    if not apart and not bp.nodes:
        return None
    if bp.nodes and len(set(bp.nodes)) < bp.plan.settings.nodes:
        raise UsageError(
            "--nodes",
            f"{bp.plan.settings.nodes} pods cannot run apart on {len(set(bp.nodes))} named nodes",
            "name as many nodes",
        )
    return client.V1Affinity(
        node_affinity=_pinned(bp.nodes) if bp.nodes else None,
        pod_anti_affinity=_anti_affinity(bp) if apart else None,
    )


def _spread(bp: Blueprint, role: Role) -> list[client.V1TopologySpreadConstraint] | None:
    key = bp.cluster.topology_spread_key
    if key is None or role == "prepare":
        return None
    labels = {n.RUN_ID: bp.names.run_id, n.COMPONENT: role}
    return [
        client.V1TopologySpreadConstraint(
            label_selector=client.V1LabelSelector(match_labels=labels),
            max_skew=1,
            topology_key=key,
            when_unsatisfiable="DoNotSchedule",
        )
    ]


def _pod_annotations(bp: Blueprint) -> dict[str, str]:
    topology = {
        "kueue.x-k8s.io/podset-required-topology": bp.cluster.queue_required_topology,
        "kueue.x-k8s.io/podset-preferred-topology": bp.cluster.queue_preferred_topology,
    }
    chosen = {key: value for key, value in topology.items() if value is not None}
    return bp.annotations() | MESH_ANNOTATIONS | STAY_ANNOTATIONS | chosen


def _container(
    bp: Blueprint,
    mounted: Volumes,
    *,
    arguments: list[str],
    with_gpus: bool,
    coordinator: str | None,
) -> client.V1Container:
    return client.V1Container(
        name=CONTAINER,
        image=bp.image,
        image_pull_policy=bp.cluster.image_pull_policy,
        command=["python3", "-m", MODULE, *arguments],
        env=_environment(bp, mounted, coordinator),
        resources=resources(bp.plan, bp.cluster, with_gpus=with_gpus),
        security_context=container_security(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=mounted.mounts,
    )


def pod_template(
    bp: Blueprint,
    role: Role,
    *,
    arguments: list[str],
    coordinator: str | None = None,
) -> client.V1PodTemplateSpec:
    """Return the template of the pods of a Job.

    Args:
        bp: What is run.
        role: prepare writes the data, measure reads it.
        arguments: Of the agent.
        coordinator: Host and port of the first pod.

    Raises:
        UsageError: The plan asks for a pod that cannot be.
    """
    cluster, pod = bp.cluster, bp.plan.storage.pod
    # A claim that is tied to the node of its first pod must come to be where the GPUs are.
    with_gpus = role == "measure" or bp.bound_to_a_node
    claims = None
    if with_gpus and cluster.gpu == "dra":
        claims = [
            client.V1PodResourceClaim(name=GPU_CLAIM, resource_claim_template_name=bp.names.gpu)
        ]
    mounted = volumes(bp, role)
    owns_volume = bp.creates_claim or (role == "measure" and bp.plan.storage.ephemeral is not None)
    spec = client.V1PodSpec(
        affinity=_affinity(bp, role),
        automount_service_account_token=False,
        containers=[
            _container(
                bp, mounted, arguments=arguments, with_gpus=with_gpus, coordinator=coordinator
            )
        ],
        enable_service_links=False,
        image_pull_secrets=[
            client.V1LocalObjectReference(name=name) for name in cluster.image_pull_secrets
        ]
        or None,
        node_selector=dict(pod.node_selector) or None,
        priority_class_name=cluster.priority_class_name,
        resource_claims=claims,
        restart_policy="Never",
        security_context=pod_security(
            cluster.run_as_user, groups=cluster.supplemental_groups, owns_volume=owns_volume
        ),
        service_account_name=cluster.service_account_name,
        subdomain=bp.names.base if role == "measure" else None,
        termination_grace_period_seconds=GRACE_SECONDS,
        tolerations=tolerations(cluster, pod.tolerations) or None,
        topology_spread_constraints=_spread(bp, role),
        volumes=mounted.volumes,
    )
    return client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(
            labels=bp.labels(role) | MESH_LABELS, annotations=_pod_annotations(bp)
        ),
        spec=spec,
    )
