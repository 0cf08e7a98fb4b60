"""A fingerprint holds what shapes the figures, and no places or ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.results.fingerprint import THEMES, differences, fingerprint
from bench.results.schema import Tool
from bench.spec.plan import Plan

PLAN: dict[str, Any] = {
    "run_id": "01m3250vz8040g2081040g2081",
    "tool_version": "0.1.0",
    "division": "certified",
    "workload_name": "unet3d",
    "workload": {
        "dataset": {"format": "npz", "samples": 168, "sample_bytes": {"mean": 146600628}},
        "batch_size": 7,
        "accelerators": {"h100": {"step_seconds": 0.323}, "a100": {"step_seconds": 0.636}},
    },
    "storage_name": "local-dir",
    "storage": {"directory": {"path": "/data"}, "io": {"threads": 16}},
    "settings": {"accelerator": "h100"},
    "dataset": {
        "directory": "bench-unet3d-0123456789ab",
        "format": "npz",
        "num_files": 168,
        "num_samples": 168,
        "total_bytes": 24628905504,
        "manifest_digest": "e" * 64,
    },
}
HOST = {
    "kernel": "6.12.0",
    "architecture": "x86_64",
    "cpu_model": "some CPU",
    "num_cpus": 2,
    "memory_total_bytes": 8 * 2**30 - 12345678,
}
DEVICE = {"kind": "cuda", "name": "GPU", "copy": "bytes", "details": {"driver": "1", "uuid": "u"}}
STORAGE = {
    "file_system": "nfs4",
    "mount_options": ["rw", "vers=4.2", "addr=10.0.0.1"],
    "mount_point": "/mnt/a",
    "path": "/mnt/a/x",
    "free_bytes": 1,
    "block_device": {"name": "vda", "model": "disk", "rotational": False},
}
TOOL = Tool(version="0.1.0", commit="c" * 40, python="3.11.7")


def made(path: str = "", value: Any = None) -> dict[str, Any]:
    """Return a fingerprint with one leaf of its inputs changed."""
    inputs: dict[str, Any] = json.loads(
        json.dumps({"plan": PLAN, "host": HOST, "device": DEVICE, "storage": STORAGE})
    )
    if path:
        *parents, last = path.split(".")
        place = inputs
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    plan = Plan.model_validate(inputs.pop("plan"))
    return fingerprint(plan, **inputs, tool=TOOL)


def test_all_themes_and_a_hash() -> None:
    found = made()
    assert set(found) == {*THEMES, "hash"}
    assert len(found["hash"]) == 64
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("plan.workload.batch_size", 8, "workload.batch_size"),
        ("plan.settings.accelerator", "a100", "workload.accelerator"),
        ("plan.dataset.manifest_digest", "f" * 64, "dataset.manifest_digest"),
        ("plan.storage.io.block_bytes", 8 * 2**20, "loader.block_bytes"),
        ("plan.storage.io.mode", "buffered", "loader.mode"),
        ("plan.settings.ring_bytes", 2**20, "loader.ring_bytes"),
        ("plan.settings.cache", "hot", "loader.cache"),
        ("host.kernel", "6.13.0", "kernel.release"),
        ("host.num_cpus", 4, "node.num_cpus"),
        ("device.details.driver", "2", "device.details.driver"),
        ("storage.mount_options", ["ro", "vers=4.2"], "storage.facts.mount_options"),
        ("storage.block_device.model", "other", "storage.facts.block_device.model"),
        ("plan.storage_name", "nfs", "storage.name"),
    ],
)
def test_what_shapes_the_figures_changes_it(path: str, value: Any, where: str) -> None:
    changed = made(path, value)
    assert where in differences(made(), changed)
    assert changed["hash"] != made()["hash"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("plan.run_id", "other"),
        ("plan.storage.directory.path", "/elsewhere"),
        ("plan.dataset.directory", "renamed"),
        ("plan.settings.seed", 7),
        ("plan.settings.repeats", 9),
        ("plan.workload.accelerators.a100.step_seconds", 9.0),
        ("host.memory_total_bytes", 8 * 2**30 - 22345678),
        ("device.details.uuid", "other"),
        ("storage.mount_point", "/mnt/b"),
        ("storage.path", "/mnt/b/x"),
        ("storage.free_bytes", 2),
        ("storage.block_device.name", "vdb"),
        ("storage.mount_options", ["rw", "vers=4.2", "addr=10.0.0.2"]),
    ],
)
def test_places_ids_and_free_space_do_not(path: str, value: Any) -> None:
    assert differences(made(), made(path, value)) == []
    assert made()["hash"] == made(path, value)["hash"]
