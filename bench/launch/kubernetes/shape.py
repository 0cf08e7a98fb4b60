"""CPUs, memory and devices of a pod: requests equal to limits, CPUs in whole numbers.

That is quality of service class Guaranteed, and exclusive cores where the kubelet's CPU
manager is static: a neighbour cannot take what the measurement counts on.
"""

from __future__ import annotations

from decimal import Decimal

from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from bench.errors import UsageError
from bench.spec.cluster import ClusterSettings
from bench.spec.plan import Plan

__all__ = ["GPU_CLAIM", "parsed", "quantity", "resources", "tolerations"]

GPU_CLAIM = "gpu"
"""Name of the claim inside the pod."""

NVIDIA = "nvidia.com/gpu"
"""Taint that GPU nodes carry by custom, whatever offers their devices."""

MIB = 2**20
PROCESS_BYTES = 384 * MIB
"""Of a rank beside its ring: interpreter, numpy, tables, the emulated device's window of
64 MiB. Measured: 160 MiB without the readers."""
READER_BYTES = 128 * MIB
CUDA_BYTES = 3 * 2**30
"""Host memory of torch and a CUDA context in each rank."""
LEAST_BYTES = 2**30
"""For the generator and a manifest of a million files."""
STEP_BYTES = 256 * MIB
"""Computed memory is a multiple of it: people compare such figures with quotas."""


def quantity(num_bytes: int) -> str:
    """Return bytes as Kubernetes writes them, in the largest binary unit that divides them."""
    for unit, size in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if num_bytes % size == 0:
            return f"{num_bytes // size}{unit}"
    return str(num_bytes)


def parsed(place: str, text: str) -> Decimal:
    """Return a quantity as a number.

    Args:
        place: Where it was written, for the message.
        text: Such as "8", "500m", "64Gi".

    Raises:
        UsageError: It is none.
    """
    try:
        value: Decimal = parse_quantity(text)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UsageError(place, f"{text!r} is no quantity", "write 8, 500m, 64Gi") from error
    return value


def _declared(plan: Plan) -> dict[str, str]:
    """Return the resources that the target's document asks for, by name.

    Raises:
        UsageError: It asks for something else than requests and limits, or for unequal ones.
    """
    given = plan.storage.pod.resources
    place = "storage.pod.resources"
    for key in given:
        if key not in ("requests", "limits"):
            raise UsageError(place, f"has no key {key!r}", "use requests and limits")
    requests, limits = given.get("requests", {}), given.get("limits", {})
    for name in requests.keys() & limits.keys():
        if parsed(place, requests[name]) != parsed(place, limits[name]):
            raise UsageError(
                f"{place}.requests.{name}",
                f"{requests[name]} differs from the limit, {limits[name]}",
                "make them equal: a pod that may be throttled or evicted measures its neighbours",
            )
    return requests | limits


def _cpu(plan: Plan, cluster: ClusterSettings, declared: dict[str, str]) -> str:
    if cluster.cpu is not None:
        return str(cluster.cpu)
    if "cpu" in declared:
        value = parsed("storage.pod.resources", declared["cpu"])
        if value != int(value) or value < 1:
            raise UsageError(
                "storage.pod.resources.limits.cpu",
                f"{declared['cpu']} is no whole number of CPUs",
                "round it up: a share of a CPU is throttled in the middle of a step",
            )
        return str(int(value))
    settings = plan.settings
    return str(settings.gpus_per_node * (1 + settings.reader_processes))


def _memory(plan: Plan, cluster: ClusterSettings, declared: dict[str, str]) -> str:
    settings = plan.settings
    rings = settings.gpus_per_node * settings.ring_bytes
    if cluster.memory_bytes is None and "memory" not in declared:
        each = PROCESS_BYTES + settings.reader_processes * READER_BYTES
        each += CUDA_BYTES if cluster.gpu != "none" else 0
        needed = max(LEAST_BYTES, rings + settings.gpus_per_node * each)
        return quantity(-(-needed // STEP_BYTES) * STEP_BYTES)
    if cluster.memory_bytes is not None:
        place, given = "plan.cluster.memory_bytes", cluster.memory_bytes
    else:
        place = "storage.pod.resources.limits.memory"
        given = int(parsed("storage.pod.resources", declared["memory"]))
    if given <= rings:
        raise UsageError(
            place,
            f"{given} bytes do not hold {settings.gpus_per_node} ring(s) of "
            f"{settings.ring_bytes} bytes",
            "raise it, or set a smaller plan.ring_bytes",
        )
    return quantity(given)


def _check_device(plan: Plan, cluster: ClusterSettings, declared: dict[str, str]) -> None:
    kind = plan.settings.device.kind
    if kind == "cuda" and cluster.gpu == "none":
        raise UsageError(
            "plan.device.kind",
            "cuda needs GPUs, and the pods ask for none",
            "set plan.cluster.gpu=device-plugin or plan.cluster.gpu=dra",
        )
    if kind == "emulated" and cluster.gpu != "none":
        raise UsageError(
            "plan.cluster.gpu",
            f"{cluster.gpu} takes GPUs from others, and an emulated accelerator uses none",
            "set plan.cluster.gpu=none or plan.device.kind=cuda",
        )
    for name in {cluster.gpu_resource_name, NVIDIA} & declared.keys():
        raise UsageError(
            "storage.pod.resources",
            f"{name} is not asked for here",
            "set plan.cluster.gpu=device-plugin and --gpus-per-node",
        )


def resources(
    plan: Plan, cluster: ClusterSettings, *, with_gpus: bool
) -> client.V1ResourceRequirements:
    """Return what a pod asks for.

    Args:
        plan: Ranks, rings, readers, and what the target's document declares; plan.cluster
            comes before the document, and the document before what is worked out.
        cluster: Settings of the run.
        with_gpus: A measuring pod, or one whose volume must be where the GPUs are.

    Raises:
        UsageError: Something does not fit; names the field.
    """
    declared = _declared(plan)
    _check_device(plan, cluster, declared)
    amounts = declared | {
        "cpu": _cpu(plan, cluster, declared),
        "memory": _memory(plan, cluster, declared),
    }
    if with_gpus and cluster.gpu == "device-plugin":
        amounts[cluster.gpu_resource_name] = str(plan.settings.gpus_per_node)
    claims = [client.CoreV1ResourceClaim(name=GPU_CLAIM)] if with_gpus else []
    return client.V1ResourceRequirements(
        requests=dict(amounts),
        limits=dict(amounts),
        claims=claims if cluster.gpu == "dra" and claims else None,
    )


def tolerations(
    cluster: ClusterSettings, declared: tuple[dict[str, str | int], ...]
) -> list[client.V1Toleration]:
    """Return the tolerations of a pod: the document's, and those of GPU nodes with GPUs.

    Raises:
        UsageError: One of the document is none.
    """
    found = []
    for index, given in enumerate(declared):
        try:
            found.append(client.V1Toleration.model_validate(given))
        except ValueError as error:
            raise UsageError(
                f"storage.pod.tolerations.{index}",
                f"is no toleration: {' '.join(str(error).split())}",
                "write key, operator, value, effect, tolerationSeconds",
            ) from error
    keys: list[str] = []
    if cluster.gpu == "device-plugin":
        keys = [cluster.gpu_resource_name, NVIDIA]
    elif cluster.gpu == "dra":
        keys = [NVIDIA]
    have = {toleration.key for toleration in found}
    found += [
        client.V1Toleration(key=key, operator="Exists", effect="NoSchedule")
        for key in dict.fromkeys(keys)
        if key not in have
    ]
    return found
