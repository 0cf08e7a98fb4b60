"""What a run reads, and what is refused before anything is made or read."""

from __future__ import annotations

import pytest

from bench.dataset.manifest import Manifest
from bench.errors import UsageError
from bench.launch.resolve import MIN_STEPS, build_plan, effective_dataset, resolve_cell
from bench.spec.load import load_storage, load_workload
from bench.spec.plan import MAX_PLAN_BYTES, PlanSettings

GIB = 2**30


def cell(workload="unet3d", *, settings=None, memory=64 * GIB, cacheable=0, **overrides):
    sets = [f"{key}={value}" for key, value in overrides.items()]
    return resolve_cell(
        load_workload(workload, overrides=sets),
        load_storage("local-dir", overrides=sets),
        settings or PlanSettings(),
        memory_bytes=memory,
        cacheable_bytes=cacheable,
    )


def test_declared_samples_are_a_minimum_for_thirty_steps_on_every_rank():
    workload = load_workload("unet3d")
    many = effective_dataset(workload, PlanSettings(), num_ranks=64, cacheable_bytes=0)
    assert many.samples == MIN_STEPS * 7 * 64 // 5
    few = effective_dataset(workload, PlanSettings(), num_ranks=1, cacheable_bytes=0)
    assert few.samples == workload.spec.dataset.samples


def test_what_memory_could_cache_is_exceeded_five_times():
    workload = load_workload("unet3d")
    dataset = effective_dataset(workload, PlanSettings(), num_ranks=1, cacheable_bytes=16 * GIB)
    assert dataset.samples * dataset.sample_bytes.mean >= 80 * GIB


def test_a_given_size_wins():
    workload = load_workload("unet3d")
    settings = PlanSettings(dataset_bytes=2 * GIB)
    dataset = effective_dataset(workload, settings, num_ranks=1, cacheable_bytes=16 * GIB)
    assert dataset.samples == 15


def test_threads_come_from_the_workload_unless_the_target_says():
    assert cell().target.spec.io.threads == 4
    assert cell(**{"storage.io.threads": 9}).target.spec.io.threads == 9


@pytest.mark.parametrize(
    ("settings", "memory", "words"),
    [
        ({"ring_bytes": 8 * 2**20}, GIB, "fewer than the 4 reader threads"),
        ({"ring_bytes": 2 * GIB}, GIB, "exceed the memory"),
        ({"ring_bytes": GIB, "gpus_per_node": 8}, 4 * GIB, "8 ring"),
        ({"accelerator": "b300"}, GIB, "no step time"),
    ],
)
def test_what_does_not_fit_is_refused(settings, memory, words):
    with pytest.raises(UsageError, match=words):
        cell(settings=PlanSettings(**settings), memory=memory)


def test_a_plan_is_a_pure_function_and_small_however_many_files_there_are():
    huge = cell("retinanet", settings=PlanSettings(accelerator="b200"))
    manifest = Manifest.synthetic("retinanet", huge.workload.spec.dataset)
    plans = [
        build_plan(huge, manifest, run_id="r", division="certified", overrides=()) for _ in range(2)
    ]
    assert plans[0].canonical_json() == plans[1].canonical_json()
    assert plans[0].dataset.num_files > 1_000_000
    assert len(plans[0].canonical_json()) < MAX_PLAN_BYTES


def test_a_run_that_could_read_more_than_its_budget_is_refused():
    for budget, allowed in (("1TB", True), ("100GB", False)):
        made = cell(settings=PlanSettings.model_validate({"bytes_budget": budget}))
        manifest = Manifest.synthetic("unet3d", made.workload.spec.dataset)
        given = {"run_id": "r", "division": "certified", "overrides": ()}
        if allowed:
            build_plan(made, manifest, **given)
        else:
            with pytest.raises(UsageError, match=r"plan\.bytes_budget: the run reads up to"):
                build_plan(made, manifest, **given)
