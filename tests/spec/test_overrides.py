"""--set options: typed, in both spellings, refused with the option's own name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import DocumentError
from bench.spec.load import load_storage, load_workload
from bench.spec.overrides import parse_overrides, plan_settings


@pytest.fixture(autouse=True)
def _elsewhere(here: Path) -> None:
    """Names are looked up in the package: the test runs in an empty directory."""


def refused(*overrides: str, load: str = "workload") -> list[str]:
    loaders: dict[str, Callable[[], object]] = {
        "plan": lambda: plan_settings(overrides),
        "storage": lambda: load_storage("local-dir", overrides=overrides),
        "workload": lambda: load_workload("smoke", overrides=overrides),
    }
    with pytest.raises(DocumentError) as caught:
        loaders[load]()
    return caught.value.problems


def test_each_document_takes_its_own_options_and_leaves_the_others() -> None:
    overrides = (
        "workload.batch_size=1",
        "workload.accelerators.custom.step_seconds=0.5",
        "workload.dataset.sampleBytes.mean=8MiB",
        "storage.directory.path=/mnt/x=y",
        "storage.io.block_bytes=8MiB",
        "plan.sync=none",
        "plan.device.copy=none",
        "plan.repeats=7",
    )
    workload = load_workload("smoke", overrides=overrides).spec
    storage = load_storage("local-dir", overrides=overrides).spec
    settings = plan_settings(overrides, repeats=3, accelerator="a100", max_seconds=None)
    assert workload.batch_size == 1
    assert workload.accelerators["custom"].step_seconds == 0.5
    assert workload.accelerators["h100"].step_seconds == 0.02
    assert workload.dataset.sample_bytes.mean == 8 * 2**20
    assert storage.directory is not None
    assert storage.directory.path == "/mnt/x=y"
    assert storage.io.block_bytes == 8 * 2**20
    assert storage.io.mode == "direct"
    assert (settings.sync, settings.device.copy_mode) == ("none", "none")
    assert (settings.repeats, settings.accelerator) == (7, "a100")


def test_the_last_of_two_options_for_a_path_wins() -> None:
    given_twice = ("workload.batch_size=1", "workload.batchSize=9")
    assert load_workload("smoke", overrides=given_twice).spec.batch_size == 9


def test_lists_grow_item_by_item_and_keys_with_dots_stand_in_quotes() -> None:
    storage = load_storage(
        "local-dir",
        overrides=(
            "storage.cacheTiers.0.name=OSS",
            "storage.cache_tiers.0.capacity_bytes=1TiB",
            'storage.pod.nodeSelector."example.com/disk"=nvme',
        ),
    ).spec
    assert storage.cache_tiers[0].capacity_bytes == 2**40
    assert storage.pod.node_selector == {"example.com/disk": "nvme"}


def test_an_empty_value_unsets() -> None:
    overrides = ("plan.max_steps=", "storage.io.threads=")
    assert plan_settings(overrides, max_steps=3).max_steps is None
    assert load_storage("local-dir", overrides=overrides).spec.io.threads is None


MALFORMED = {
    "workload": "--set workload: must be PATH=VALUE, such as workload.batch_size=4",
    "=3": "--set =3: must be PATH=VALUE, such as workload.batch_size=4",
    "plan=3": "--set plan: must name a setting below plan",
    "foo.x=1": "--set foo.x: must start with workload., storage. or plan.",
    "wrkload.x=1": (
        "--set wrkload.x: must start with workload., storage. or plan.; did you mean workload?"
    ),
    "workload..x=1": "--set workload..x: is no path of keys with dots between them",
    "workload.x.=1": "--set workload.x.: is no path of keys with dots between them",
    "workload.bach_size=1": (
        "--set workload.bach_size: unknown key bach_size; did you mean batch_size?"
    ),
    "storage.io.thread=1": "--set storage.io.thread: unknown key thread; did you mean threads?",
    "plan.reapeats=1": "--set plan.reapeats: unknown key reapeats; did you mean repeats?",
    "workload.batch_size.x=1": (
        "--set workload.batch_size.x: batch_size holds one value and has no key x"
    ),
    "storage.cache_tiers.x=1": (
        "--set storage.cache_tiers.x: cache_tiers is a list; x is no position in it, such as 0"
    ),
    "workload.batch_size=[1": (
        "--set workload.batch_size: not valid YAML: expected ',' or ']', but got "
        "'<stream end>' (got '[1')"
    ),
}


@pytest.mark.parametrize("option", MALFORMED)
def test_a_malformed_option_is_refused_whatever_document_is_loaded(option: str) -> None:
    for load in ("workload", "storage", "plan"):
        assert refused(option, load=load) == [MALFORMED[option]]


def test_every_malformed_option_is_told_at_once() -> None:
    assert refused(*MALFORMED) == list(MALFORMED.values())


WRONG = [
    ("workload", "workload.batch_size=-1", "must be greater than 0 (got -1)"),
    ("workload", "workload.batch_size=two", "must be a whole number (got 'two')"),
    ("workload", "workload.dataset={format: raw, samples: 3}", ".sample_bytes: is missing"),
    ("storage", "storage.io.block_bytes=8QB", "(got '8QB')"),
    ("storage", "storage.io.mode=odirect", "must be direct, buffered or dontcache (got 'odirect')"),
    (
        "storage",
        "storage.cache_tiers.3.name=x",
        "the list has 0 items, so there is no item 3",
    ),
    (
        "storage",
        "storage.simulated.bandwidth_bytes_per_second=1GB/s",
        "storage target local-dir is of kind directory; choose a target of kind simulated with -s",
    ),
    ("plan", "plan.sync=nne", "must be step or none (got 'nne')"),
    ("plan", "plan.ring_bytes=1", "must be at least 8192 (got 1)"),
    ("plan", "plan.gpus_per_node=100000", "must be at most 256 (got 100000)"),
]


@pytest.mark.parametrize(("load", "option", "problem"), WRONG)
def test_a_wrong_value_names_the_option(load: str, option: str, problem: str) -> None:
    (line,) = refused(option, load=load)
    name = option.partition("=")[0]
    assert line.startswith(f"--set {name}")
    assert line.endswith(problem)


def test_keys_inside_a_value_are_checked_too() -> None:
    assert refused("workload.dataset.sample_bytes={mean: 4KiB, stdv: 1}") == [
        "--set workload.dataset.sample_bytes.stdv: unknown key; did you mean stdev?"
    ]


def test_problems_of_file_and_options_come_together(here: Path) -> None:
    (here / "x.yaml").write_text(
        "apiVersion: bench/v1alpha1\nkind: StorageTarget\nmetadata: {name: s}\n"
        "spec:\n  directory: {path: x}\n  io: {threads: 0}\n"
    )
    with pytest.raises(DocumentError) as caught:
        load_storage("x.yaml", overrides=("storage.io.block_bytes=1",))
    assert caught.value.problems == [
        "--set storage.io.block_bytes: must be at least 4096 (got 1)",
        "x.yaml:6: spec.io.threads: must be greater than 0 (got 0)",
    ]


OPTIONS: list[tuple[str, object, str]] = [
    ("repeats", 0, "--repeats: must be greater than 0 (got 0)"),
    ("max_steps", -1, "--steps: must be greater than 0 (got -1)"),
    (
        "max_seconds",
        "soon",
        "--duration: must be a duration, such as 350ms or 5m (got 'soon')",
    ),
    (
        "dataset_bytes",
        "big",
        "--dataset-size: must be a size, such as 2GiB or 500MB (got 'big')",
    ),
    ("gpus_per_node", 0, "--gpus-per-node: must be greater than 0 (got 0)"),
]


@pytest.mark.parametrize(("field", "value", "problem"), OPTIONS)
def test_a_wrong_option_of_the_command_line_is_named_as_typed(
    field: str, value: object, problem: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        plan_settings((), **{field: value})
    assert caught.value.problems == [problem]


@given(st.text(max_size=40), st.sampled_from(["", "workload.", "storage.io.", "plan."]))
def test_any_option_is_parsed_or_refused_in_one_line_each(text: str, start: str) -> None:
    try:
        parse_overrides([start + text])
    except DocumentError as error:
        problems = error.problems
    else:
        problems = []
    assert len(problems) <= 1
    assert all(line.startswith("--set ") for line in problems)
