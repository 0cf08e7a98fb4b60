"""Plans and cluster settings to build manifests of."""

from __future__ import annotations

from typing import Any

from bench.dataset.shape import directory_name
from bench.spec.cluster import ClusterSettings
from bench.spec.load import load_workload
from bench.spec.plan import DatasetRef, Plan, PlanSettings

RUN_ID = "01m842dnah10sf12jzz42x5v1q"
IMAGE = "registry.example/bench@sha256:" + "5" * 64
UID = "6f1c1f0e-2f4e-4c6b-9a60-0a8d6f1d2c3b"

NEW_CLAIM: dict[str, Any] = {"pvc": {"storageClassName": "lustre-fast", "size": "200GiB"}}
LOCAL_CLAIM: dict[str, Any] = {
    "pvc": {"storageClassName": "local", "size": "200GiB", "accessModes": ["ReadWriteOnce"]}
}
OLD_CLAIM: dict[str, Any] = {"pvc": {"claimName": "imagenet", "subPath": "teams/vision"}}
EPHEMERAL: dict[str, Any] = {"ephemeral": {"storageClassName": "local-nvme", "size": "200GiB"}}
OBJECT: dict[str, Any] = {
    "object": {
        "url": "s3://bucket/prefix",
        "endpoint_url": "https://s3.example:9000",
        "credentials": {"source": "secret", "secretName": "s3-reader"},
    }
}
SIMULATED: dict[str, Any] = {"simulated": {"bandwidth_bytes_per_second": "1GB/s"}}
DIRECTORY: dict[str, Any] = {"directory": {"path": "/mnt/disk"}}


def settings(**given: Any) -> ClusterSettings:
    return ClusterSettings.model_validate({"image": IMAGE} | given)


def plan(
    storage: dict[str, Any],
    *,
    run_id: str = RUN_ID,
    workload: str = "unet3d",
    pod: dict[str, Any] | None = None,
    **given: Any,
) -> Plan:
    """Return a plan without making a manifest first; `given` are plan settings."""
    spec = load_workload(workload).spec
    dataset = spec.dataset
    return Plan.model_validate(
        {
            "run_id": run_id,
            "tool_version": "0.1.0",
            "division": "certified",
            "workload_name": workload,
            "workload": spec,
            "storage_name": "target",
            "storage": storage | ({"pod": pod} if pod is not None else {}),
            "settings": PlanSettings.model_validate(given),
            "dataset": DatasetRef(
                directory=directory_name(workload, dataset),
                format=dataset.format,
                num_files=dataset.samples // dataset.samples_per_file,
                num_samples=dataset.samples,
                total_bytes=dataset.samples * dataset.sample_bytes.mean,
                manifest_digest="d" * 64,
            ),
        }
    )
