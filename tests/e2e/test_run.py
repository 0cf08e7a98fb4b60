"""`bench run` on real files: bytes agree, every format and mode works, documents are kept."""

from __future__ import annotations

import json

import pandas as pd
import pytest

SMALL = ["--set", "plan.ring_bytes=64MiB", "--dataset-size", "96MiB", "--steps", "12"]


@pytest.mark.parametrize("workload", ["smoke", "unet3d", "resnet50", "retinanet", "cosmoflow"])
def test_every_workload_runs_and_its_bytes_agree(bench, workload):
    size = {"unet3d": "300MB", "resnet50": "300MB"}.get(workload, "40MB")
    batch = {"unet3d": "1", "resnet50": "100"}.get(workload, "4")
    done = bench(
        "run", workload, *bench.local("-a", "b200" if workload == "retinanet" else "h100"),
        "--dataset-size", size, "--set", f"workload.batch_size={batch}", "--json",
        "--set", "plan.device.copy=none",
    )  # fmt: skip
    run = done.run
    assert done.code in (0, 4), done.stderr
    (repeat,) = run["repeats"]
    epochs = run["workload"]["access"]["epochs"]
    assert repeat["bytes_read"] == repeat["bytes_requested"] == repeat["bytes_consumed"]
    assert repeat["bytes_read"] == epochs * run["dataset"]["total_bytes"]
    assert repeat["samples"] == epochs * run["dataset"]["num_samples"]
    stored = sum(f.stat().st_size for f in bench.data.rglob("data/*/*") if f.is_file())
    assert stored == run["dataset"]["total_bytes"]
    assert run["division"] == "exploratory"


@pytest.mark.parametrize("mode", ["direct", "buffered", "dontcache"])
def test_each_mode_reads_the_same_bytes(bench, mode):
    done = bench("run", "smoke", *bench.local("--json"), *SMALL,
                 "--set", f"storage.io.mode={mode}")  # fmt: skip
    if done.code == 2 and "has no" in done.stderr:
        pytest.skip(f"this file system or kernel has no {mode}: {done.stderr.strip()}")
    assert done.code in (0, 4), done.stderr
    (repeat,) = done.run["repeats"]
    assert repeat["bytes_consumed"] == 12 * 2**24
    assert repeat["bytes_transferred"] >= repeat["bytes_read"]
    on_disk = repeat["cache"]["evidence"]["file_system"] in ("ext4", "xfs")
    if mode == "direct" and on_disk:
        assert repeat["kernel_read_bytes"] == pytest.approx(repeat["bytes_transferred"], rel=0.01)
        assert repeat["cache"]["verdict"] == "cold-verified"


def test_unthrottled_mode_has_no_stall(bench):
    done = bench("run", "smoke", *bench.local("-a", "none", "--json"), *SMALL)
    assert done.code in (0, 4), done.stderr
    (repeat,) = done.run["repeats"]
    assert repeat["stall"] is None
    assert repeat["throughput"]["bytes_per_second"] > 0


def test_what_is_stored_can_be_recomputed_and_listed(bench):
    done = bench("run", "smoke", *bench.local("--json", "--repeats", "2"), *SMALL)
    assert done.code in (0, 4), done.stderr
    run = done.run
    (document,) = bench.results.glob("*/*/*/run.json")
    assert json.loads(document.read_text()) == run
    for repeat in run["repeats"]:
        steps = pd.read_parquet(document.parent / f"steps/{repeat['index']}-0.parquet")
        pieces = pd.read_parquet(document.parent / f"steps/{repeat['index']}-0.pieces.parquet")
        assert len(steps) == repeat["steps"]
        assert steps["stall_seconds"].sum() == pytest.approx(repeat["stall"]["total_seconds"])
        assert pieces["payload_bytes"].sum() == repeat["bytes_read"]
        for cause, seconds in repeat["stall"]["causes"].items():
            assert steps[f"cause_{cause}_seconds"].sum() == pytest.approx(seconds, abs=1e-9)
    page = (document.parent / "report.html").read_text()
    assert run["id"] in page
    listed = bench("ls", "--json")
    assert run["id"] in listed.stdout
    assert not list(bench.results.glob(".scratch*/*"))


def test_repeats_read_in_different_orders(bench):
    done = bench("run", "smoke", *bench.local("--json", "--repeats", "2"), *SMALL)
    (document,) = bench.results.glob("*/*/*/run.json")
    orders = [
        pd.read_parquet(document.parent / f"steps/{index}-0.pieces.parquet")["piece"].tolist()
        for index in (0, 1)
    ]
    assert done.run["plan"]["seed"] is not None
    assert len(orders[0]) == len(orders[1])


def test_dry_run_prints_the_plan_and_makes_nothing(bench):
    done = bench("run", "unet3d", *bench.local("--dry-run", "--dataset-size", "1GB"))
    assert done.code == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["dataset"]["samples"] == 7
    assert not bench.results.exists()
    assert not any(bench.data.iterdir())


def test_prepare_then_verify_finds_a_flipped_byte(bench):
    options = ["smoke", *bench.local("--dataset-size", "32MiB")]
    made = bench("prepare", *options)
    assert made.code == 0, made.stderr
    assert "8 files" in made.stdout
    assert bench("prepare", *options, "--verify").code == 0
    victim = sorted(bench.data.rglob("part-*"))[3]
    with victim.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    found = bench("prepare", *options, "--verify")
    assert found.code == 2
    assert victim.name in found.stderr
    assert "byte 1000000" in found.stderr
    assert bench("prepare", *options, "--remake").code == 0
    assert bench("prepare", *options, "--verify").code == 0


def test_without_a_choice_an_accelerator_of_the_workload_is_taken(bench):
    done = bench("run", "retinanet", *bench.local("--dry-run", "--dataset-size", "10MB"))
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["plan"]["accelerator"] == "b200"
