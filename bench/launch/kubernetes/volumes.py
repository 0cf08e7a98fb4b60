"""Volumes of a pod, and where its container sees them.

A preparing pod writes to a claim, measuring pods mount it read-only. An ephemeral volume is
written and read by the same pod, so it is never read-only. Nothing is ever mounted from the
node itself: Pod Security forbids it from `baseline` up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kubernetes import client

from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.shape import quantity
from bench.spec.documents import Ephemeral

__all__ = [
    "CA_FILE",
    "CA_KEY",
    "DATA",
    "DATA_ROOT",
    "PLAN_FILE",
    "PLAN_KEY",
    "SCRATCH_ROOT",
    "TEMPORARY_ROOT",
    "Role",
    "Volumes",
    "claim_spec",
    "volumes",
]

Role = Literal["prepare", "measure"]

CONFIG_ROOT = "/etc/bench"
PLAN_KEY = "plan.json"
PLAN_FILE = f"{CONFIG_ROOT}/{PLAN_KEY}"
CA_KEY = "ca.pem"
CA_FILE = f"{CONFIG_ROOT}/{CA_KEY}"

DATA = "data"
DATA_ROOT = "/data"
SCRATCH_ROOT = "/scratch"
TEMPORARY_ROOT = "/tmp"  # noqa: S108 - a volume of the pod's own
TEMPORARY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Volumes:
    """Volumes of a pod with the mounts of its container, in the same order."""

    volumes: list[client.V1Volume]
    mounts: list[client.V1VolumeMount]


def claim_spec(
    *, storage_class: str, size_bytes: int, access_modes: tuple[str, ...]
) -> client.V1PersistentVolumeClaimSpec:
    """Return the spec of a claim of a class."""
    return client.V1PersistentVolumeClaimSpec(
        access_modes=list(access_modes),
        storage_class_name=storage_class,
        volume_mode="Filesystem",
        resources=client.V1VolumeResourceRequirements(requests={"storage": quantity(size_bytes)}),
    )


def _empty(name: str, path: str, limit_bytes: int) -> tuple[client.V1Volume, client.V1VolumeMount]:
    source = client.V1EmptyDirVolumeSource(size_limit=quantity(limit_bytes))
    return (
        client.V1Volume(name=name, empty_dir=source),
        client.V1VolumeMount(name=name, mount_path=path),
    )


def _config(name: str) -> tuple[client.V1Volume, client.V1VolumeMount]:
    source = client.V1ConfigMapVolumeSource(name=name)
    return (
        client.V1Volume(name="config", config_map=source),
        client.V1VolumeMount(name="config", mount_path=CONFIG_ROOT, read_only=True),
    )


def _ephemeral(bp: Blueprint, ephemeral: Ephemeral, role: Role) -> client.V1Volume:
    template = client.V1PersistentVolumeClaimTemplate(
        # The pod owns the claim that is made of it, and names it after itself.
        metadata=client.V1ObjectMeta(labels=bp.labels(role), annotations=bp.annotations()),
        spec=claim_spec(
            storage_class=ephemeral.storage_class_name,
            size_bytes=ephemeral.size,
            access_modes=("ReadWriteOnce",),
        ),
    )
    source = client.V1EphemeralVolumeSource(volume_claim_template=template)
    return client.V1Volume(name=DATA, ephemeral=source)


def _data(bp: Blueprint, role: Role) -> tuple[client.V1Volume, client.V1VolumeMount] | None:
    """Return the volume that is measured; None where the role has none to see."""
    storage = bp.plan.storage
    if storage.ephemeral is not None:
        if role == "prepare":
            return None
        return (
            _ephemeral(bp, storage.ephemeral, role),
            client.V1VolumeMount(name=DATA, mount_path=DATA_ROOT),
        )
    if storage.pvc is None or bp.claim_name is None:
        return None
    read_only = role == "measure" or (bp.existing is not None and bp.existing.read_only)
    source = client.V1PersistentVolumeClaimVolumeSource(
        claim_name=bp.claim_name, read_only=read_only or None
    )
    return (
        client.V1Volume(name=DATA, persistent_volume_claim=source),
        client.V1VolumeMount(
            name=DATA,
            mount_path=DATA_ROOT,
            read_only=read_only or None,
            sub_path=storage.pvc.sub_path or None,
        ),
    )


def volumes(bp: Blueprint, role: Role) -> Volumes:
    """Return the volumes of a pod: plan, scratch, temporary files, and the data.

    The ring is anonymous memory, so no volume of /dev/shm is needed.
    """
    pairs = [
        _config(bp.names.prepare if role == "prepare" else bp.names.plan),
        _empty("scratch", SCRATCH_ROOT, bp.cluster.scratch_bytes),
        _empty("temporary", TEMPORARY_ROOT, TEMPORARY_BYTES),
    ]
    data = _data(bp, role)
    if data is not None:
        pairs.append(data)
    return Volumes([volume for volume, _ in pairs], [mount for _, mount in pairs])
