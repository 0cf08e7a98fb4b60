"""Settings of a run on a Kubernetes cluster: the `cluster` part of the plan's settings.

Plain values: what becomes of them is said in `bench.launch.kubernetes`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.spec.documents import Strict
from bench.spec.quantities import Bytes, Seconds

__all__ = ["ClusterSettings"]

Subdomain = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253
    ),
]
"""A DNS subdomain: what most names of Kubernetes objects are."""

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A DNS label: namespaces."""

LabelKey = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?$"),
]
"""The key of a label or of a resource, with or without a domain before it."""

Identity = Annotated[int, Field(gt=0, lt=2**31)]
"""A numeric user or group other than the superuser."""


class ClusterSettings(Strict):
    """How the pods of a run are made; `--set plan.cluster.NAME=VALUE` overrides any of them."""

    namespace: Label | None = None
    """Where everything is created; None takes the namespace of the kubeconfig."""
    image: str | None = Field(default=None, min_length=1)
    """Image of the pods. A certified run needs one that is pinned by digest."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """None leaves the choice to Kubernetes."""
    image_pull_secrets: tuple[Subdomain, ...] = ()
    """Names of Secrets with credentials for the image registry."""
    queue_name: Subdomain | None = None
    """Kueue LocalQueue that admits the Jobs; None for no queue."""
    queue_required_topology: LabelKey | None = None
    """Kueue: node label within whose one value all pods must run, such as a rack."""
    queue_preferred_topology: LabelKey | None = None
    """Kueue: node label within whose one value all pods should run."""
    priority_class_name: Subdomain | None = None
    """PriorityClass of the pods."""
    service_account_name: Subdomain = "bench-worker"
    """ServiceAccount of the pods: no token, no rights; may carry a cloud's workload identity."""
    gpu: Literal["none", "device-plugin", "dra"] = "none"
    """none: the accelerator is emulated; device-plugin: an extended resource; dra: a
    ResourceClaimTemplate of resource.k8s.io/v1."""
    gpu_resource_name: LabelKey = "nvidia.com/gpu"
    """Extended resource that a device plugin offers."""
    device_class_name: Subdomain = "gpu.nvidia.com"
    """DRA: DeviceClass of the GPUs."""
    device_selector: str | None = Field(default=None, min_length=1)
    """DRA: CEL expression that a device must satisfy."""
    cpu: int | None = Field(default=None, gt=0, le=4096)
    """Whole CPUs of each pod, requested and limited alike; None for one for each rank and
    each of its reader processes."""
    memory_bytes: Bytes | None = Field(default=None, gt=0)
    """Memory of each pod, requested and limited alike; None for what rings and processes
    need."""
    run_as_user: Identity = 65532
    """Numeric user and group of the processes; never the superuser."""
    supplemental_groups: tuple[Identity, ...] = ()
    """Further groups, for existing volumes that belong to one of them."""
    scratch_bytes: Bytes = Field(default=2 * 2**30, ge=2**20)
    """Limit of each pod's scratch directory, which holds its tables until they are sent."""
    topology_spread_key: LabelKey | None = None
    """Node label over whose values the pods are spread evenly, such as a zone. Pods of one
    run never share a node, with or without it."""
    start_timeout_seconds: Seconds = Field(default=600.0, gt=0)
    """Longest time from admission to a running pod: schedule, attach volumes, pull the image."""
    queue_timeout_seconds: Seconds = Field(default=3600.0, ge=0)
    """Longest time that each Job may wait for the queue to admit it; without queue_name there
    is no queue to wait for."""
    deadline_seconds: Seconds | None = Field(default=None, ge=1)
    """Longest life of a measuring Job; None for one worked out from the plan."""
    prepare_deadline_seconds: Seconds | None = Field(default=None, ge=1)
    """Longest life of the preparing Job; None for one worked out from the data set."""
    ttl_seconds_after_finished: int = Field(default=3600, ge=0, le=30 * 86400)
    """How long finished Jobs stay for a launcher that lost them; then the cluster removes
    them and all that they own."""
    keep_dataset: Literal["keep", "delete"] = "delete"
    """What becomes of a claim that the run creates. delete: it goes with the run. keep: it
    stays for later runs, belongs to none, and only a person deletes it. A claim that existed
    before is never deleted."""
    exclusive: bool = True
    """Wait for, and hold, a Lease on the storage, so that two runs do not measure it at once."""
    lease_namespace: Label | None = None
    """Where that Lease lies; None for the run's namespace. One for the whole cluster keeps
    runs of different namespaces apart."""
