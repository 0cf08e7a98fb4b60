"""Whatever is wrong ends in one line that names the place and the remedy, and exit status 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SMALL = ["--dataset-size", "32MiB", "--steps", "2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "workload.batchsize=4"], ["batchsize", "batch_size"]),
        (["--set", "workload.batch_size=four"], ["workload.batch_size"]),
        (["--set", "storage.io.block_bytes=4XB"], ["block_bytes", "XB"]),
        (["--set", "workload.dataset.sample_bytes.mean=-5"], ["sample_bytes.mean"]),
        (["--set", "storage.io.block_bytes=5000"], ["block_bytes", "4096"]),
        (["--set", "plan.ring_bytes=900TB"], ["ring_bytes", "memory"]),
        (["--set", "plan.ring_bytes=8MiB"], ["ring_bytes", "threads"]),
        (["-a", "gb300"], ["gb300", "h100"]),
        (["--set", "workload.batch_size=9000"], ["batch_size", "9000"]),
        (["--gpus-per-node", "64"], ["ranks", "8"]),
        (["--nodes", "2"], ["--nodes"]),
        (["--repeats", "0"], ["repeats"]),
        (["--dataset-size", "2XB"], ["dataset", "XB"]),
    ],
)
def test_a_wrong_option_is_named(bench, options, words):
    done = bench("run", "smoke", *bench.local(*SMALL), *options)
    assert done.code == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bench: error: ")
    for word in words:
        assert word in last, last
    assert not list(bench.results.glob("*/*/*/run.json"))


def test_unknown_names_are_answered_with_the_nearest(bench):
    done = bench("run", "unet3", *bench.local())
    assert done.code == 2
    assert "unet3d" in done.stderr
    done = bench("run", "smoke", "-s", "localdir")
    assert done.code == 2
    assert "local-dir" in done.stderr


def damage(bench, action):
    made = bench("prepare", "smoke", *bench.local(*SMALL[:2]))
    assert made.code == 0, made.stderr
    victim = sorted(bench.data.rglob("part-*"))[5]
    action(victim)
    done = bench("run", "smoke", *bench.local(*SMALL))
    assert done.code == 2, done.stderr
    return victim, done.stderr


def test_a_truncated_file(bench):
    victim, said = damage(bench, lambda f: os.truncate(f, 1000))
    assert victim.name in said
    assert "1000 bytes" in said


def test_a_missing_file(bench):
    victim, said = damage(bench, Path.unlink)
    assert f"{victim.name} is missing" in said


def test_a_sparse_file(bench):
    def hollow(file):
        os.truncate(file, 0)
        os.truncate(file, 4 * 2**20)

    victim, said = damage(bench, hollow)
    assert f"{victim.name} is sparse" in said


def test_foreign_files_in_the_data_set_directory(bench):
    planned = bench("run", "smoke", *bench.local("--dry-run", *SMALL))
    import json

    directory = bench.data / json.loads(planned.stdout)["dataset"]["directory"]
    directory.mkdir(parents=True)
    (directory / "thesis.tex").write_text("precious")
    done = bench("run", "smoke", *bench.local(*SMALL))
    assert done.code == 2
    assert "thesis.tex" in done.stderr
    assert [f.name for f in directory.iterdir()] == ["thesis.tex"]


def test_a_results_directory_that_cannot_be_written(bench):
    bench.results.write_text("a file in the way")
    done = bench("run", "smoke", *bench.local(*SMALL))
    assert done.code == 2
    assert "bench-results" in done.stderr
    assert not list(bench.data.rglob("part-*"))


def test_a_data_directory_that_cannot_be_made(bench):
    bench.data.write_text("a file in the way")
    done = bench("run", "smoke", *bench.local(*SMALL))
    assert done.code == 2
    assert str(bench.data) in done.stderr


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs tmpfs at /dev/shm")
def test_o_direct_on_memory_is_refused(bench, tmp_path_factory):
    target = f"/dev/shm/bench-test-{os.getpid()}"
    try:
        done = bench("run", "smoke", "-s", "local-dir", "--set",
                     f"storage.directory.path={target}", *SMALL)  # fmt: skip
    finally:
        os.rmdir(target)
    assert done.code == 2
    assert "no O_DIRECT" in done.stderr
    assert "storage.io.mode=buffered" in done.stderr
