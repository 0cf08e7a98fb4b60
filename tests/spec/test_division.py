"""A run is certified while its workload and target are as declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.spec.division import deviations, division
from bench.spec.load import load_storage, load_workload
from bench.spec.overrides import plan_settings


def found(*overrides: str, target: str = "local-dir", **values: object) -> list[str]:
    arguments = {
        "declared_workload": load_workload("smoke"),
        "workload": load_workload("smoke", overrides=overrides),
        "declared_storage": load_storage(target),
        "storage": load_storage(target, overrides=overrides),
        "settings": plan_settings(overrides, **values),
    }
    result = deviations(**arguments)  # type: ignore[arg-type]
    name = division(**arguments)  # type: ignore[arg-type]
    assert name == ("exploratory" if result else "certified")
    return result


CERTIFIED: list[tuple[tuple[str, ...], dict[str, object]]] = [
    ((), {}),
    (("storage.directory.path=/mnt/x",), {}),
    (("workload.batch_size=4", "workload.dataset.sample_bytes.mean=4MiB"), {}),
    (("storage.io.threads=16", "storage.io.mode=buffered", "workload.reader_threads=9"), {}),
    (("plan.sync=none", "plan.ring_bytes=1GiB", "plan.device.copy=none"), {}),
    ((), {"accelerator": "none", "repeats": 9, "gpus_per_node": 4}),
    ((), {"dataset_bytes": "2GiB"}),
    ((), {"dataset_bytes": "9GiB"}),
    (("workload.accelerators.b200.step_seconds=1",), {}),
    (("storage.pod.nodeSelector.disk=nvme",), {}),
]


@pytest.mark.parametrize(("overrides", "values"), CERTIFIED)
def test_what_defines_the_cell_does_not_matter(
    overrides: tuple[str, ...], values: dict[str, object]
) -> None:
    assert found(*overrides, **values) == []


EXPLORATORY: list[tuple[tuple[str, ...], dict[str, object], list[str]]] = [
    (("workload.batch_size=1",), {}, ["workload.batch_size"]),
    (("workload.dataset.samples=9",), {}, ["workload.dataset.samples"]),
    (
        ("workload.dataset.sample_bytes.mean=1MiB",),
        {},
        ["workload.dataset.sample_bytes.mean"],
    ),
    (("workload.access.epochs=1",), {}, ["workload.access.epochs"]),
    (
        ("workload.decode={kind: emulated, seconds_per_sample: 1ms}",),
        {},
        ["workload.decode.kind", "workload.decode.seconds_per_sample"],
    ),
    (
        ("workload.accelerators.h100.step_seconds=1",),
        {},
        ["workload.accelerators.h100.step_seconds"],
    ),
    (
        ("workload.accelerators.custom.step_seconds=1",),
        {"accelerator": "custom"},
        ["workload.accelerators.custom.step_seconds"],
    ),
    ((), {"dataset_bytes": "1GiB"}, ["plan.dataset_bytes"]),
    (("plan.dataset_bytes=1GiB",), {}, ["plan.dataset_bytes"]),
    ((), {"max_steps": 1000}, ["plan.max_steps"]),
    ((), {"max_seconds": "8"}, ["plan.max_seconds"]),
    ((), {"bytes_per_second_limit": "1GB/s"}, ["plan.bytes_per_second_limit"]),
    (
        ("storage.cache_tiers=[{name: OSS, capacity_bytes: 1GB}]",),
        {},
        ["storage.cache_tiers"],
    ),
]


@pytest.mark.parametrize(("overrides", "values", "expected"), EXPLORATORY)
def test_what_changes_the_job_or_shrinks_it_is_named(
    overrides: tuple[str, ...], values: dict[str, object], expected: list[str]
) -> None:
    assert found(*overrides, **values) == expected


def test_the_speed_of_a_simulated_target_is_what_it_is() -> None:
    override = "storage.simulated.bandwidth_bytes_per_second=9GB/s"
    expected = ["storage.simulated.bandwidth_bytes_per_second"]
    assert found(override, target="simulated") == expected


def test_a_claim_is_a_location_and_its_class_is_not(here: Path) -> None:
    (here / "claim.yaml").write_text(
        "apiVersion: bench/v1alpha1\nkind: StorageTarget\nmetadata: {name: c}\n"
        "spec:\n  pvc: {claimName: a}\n"
    )
    (here / "class.yaml").write_text(
        "apiVersion: bench/v1alpha1\nkind: StorageTarget\nmetadata: {name: c}\n"
        "spec:\n  pvc: {storageClassName: a, size: 1TiB}\n"
    )
    assert found("storage.pvc.claimName=b", target="claim.yaml") == []
    expected = ["storage.pvc.storage_class_name"]
    assert found("storage.pvc.storageClassName=b", target="class.yaml") == expected
