"""Every document that ships with bench loads, and asks for what its source says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.spec.load import load_storage, load_workload

GIB = 2**30

DEMAND = {
    # GiB/s of one accelerator at full utilisation, as published (two or three digits)
    ("unet3d", "v100"): 0.40,
    ("unet3d", "a100"): 1.50,
    ("unet3d", "h100"): 2.96,
    ("unet3d", "b200"): 5.90,
    ("resnet50", "a100"): 0.098,
    ("resnet50", "h100"): 0.191,
    ("cosmoflow", "a100"): 0.478,
    ("cosmoflow", "h100"): 0.753,
    ("retinanet", "b200"): 0.152,
    ("retinanet", "mi355"): 0.152,
}


def names(folder: str) -> list[str]:
    return sorted(p.stem for p in (Path(__file__).parents[2] / folder).glob("*.yaml"))


@pytest.mark.parametrize("name", names("workloads"))
def test_a_workload_loads_under_its_own_name_and_cites_its_source(name: str) -> None:
    workload = load_workload(name)
    assert workload.metadata.name == name
    assert workload.metadata.description
    assert workload.spec.source


@pytest.mark.parametrize("name", names("storageclasses"))
def test_a_target_loads_under_its_own_name(name: str) -> None:
    target = load_storage(name)
    assert target.metadata.name == name
    assert target.metadata.description


@pytest.mark.parametrize(("name", "accelerator"), DEMAND)
def test_a_workload_demands_the_published_rate(name: str, accelerator: str) -> None:
    spec = load_workload(name).spec
    rate = spec.batch_size * spec.dataset.sample_bytes.mean
    rate /= spec.accelerators[accelerator].step_seconds * GIB
    assert rate == pytest.approx(DEMAND[name, accelerator], rel=0.006)


def test_every_published_pair_is_in_a_workload() -> None:
    pairs = {(n, a) for n in names("workloads") for a in load_workload(n).spec.accelerators}
    assert {p for p in pairs if p[0] != "smoke"} == set(DEMAND)


def test_smoke_is_two_gib_and_long_enough_to_mean_something() -> None:
    spec = load_workload("smoke").spec
    total = spec.dataset.samples * spec.dataset.sample_bytes.mean
    steps = spec.access.epochs * spec.dataset.samples // spec.batch_size
    default_ring_bytes = 256 * 2**20
    assert total == 2 * GIB
    assert steps >= 30
    assert total * spec.access.epochs >= 20 * default_ring_bytes
