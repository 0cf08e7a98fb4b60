"""Simulated storage of exactly known speed: the stall and its cause are what must come out.

The truth is computed here, from the definition, by code that the harness does not share.
"""

from __future__ import annotations

import pytest

TOLERANCE = 0.01
MOST_TRIES = 4
HOST_GUARDS = {"noise", "emulation_fidelity"}


def storage_bound(num_steps, *, batch_bytes, bandwidth, step_seconds, latency=0.0):
    """Stall ratio of one rank on a pipe: batch i is there at (i + 1) transfers."""
    end = stall = 0.0
    for step in range(num_steps):
        start = max(latency + (step + 1) * batch_bytes / bandwidth, end)
        stall += start - end
        end = start + step_seconds
    return stall / end


def measure(bench, *words):
    """Return the repeat of a run that the harness itself believes.

    On a busy host a guard (noise, emulation_fidelity) may declare a run invalid; then it is
    no evidence either way and is made again, as its user would have to.
    """
    for _ in range(MOST_TRIES):
        done = bench("run", "smoke", "-s", "simulated", "-a", "h100", "--json", *words)
        assert done.code in (0, 4), done.stderr
        (repeat,) = done.run["repeats"]
        failed = {g["name"] for g in repeat["guards"] if g["status"] == "fail"}
        assert failed <= HOST_GUARDS, done.stderr
        if done.code == 0:
            return repeat
    raise AssertionError(f"the host is too busy to measure: {done.stderr}")


def group(causes, *names):
    total = sum(causes.values())
    return sum(causes[name] for name in names) / total


@pytest.mark.parametrize("bandwidth", [200e6, 500e6, 3e9])
def test_stall_on_a_pipe_of_known_bandwidth(bench, bandwidth):
    repeat = measure(
        bench, "--steps", "80",
        "--set", f"storage.simulated.bandwidth_bytes_per_second={bandwidth}",
        "--set", "storage.simulated.latency_seconds=0", "--set", "plan.device.copy=none",
    )  # fmt: skip
    truth = storage_bound(80, batch_bytes=2**24, bandwidth=bandwidth, step_seconds=0.02)
    assert repeat["stall"]["ratio"] == pytest.approx(truth, abs=TOLERANCE)
    assert repeat["bytes_consumed"] == 80 * 2**24
    if truth > 0.02:
        assert group(repeat["stall"]["causes"], "storage_read") >= 0.9
    assert sum(repeat["stall"]["causes"].values()) + repeat["stall"][
        "unattributed_seconds"
    ] == pytest.approx(repeat["stall"]["total_seconds"], abs=1e-6)
    assert repeat["ranks"][0]["identity_error_ratio"] < 0.005


def test_latency_with_too_few_readers_is_first_byte(bench):
    repeat = measure(
        bench, "--steps", "60",
        "--set", "storage.simulated.bandwidth_bytes_per_second=100GB/s",
        "--set", "storage.simulated.latency_seconds=60ms", "--set", "storage.io.threads=4",
        "--set", "plan.device.copy=none",
    )  # fmt: skip
    # Four requests of 4 MiB at a time, one batch, every 60 ms.
    truth = storage_bound(60, batch_bytes=2**24, bandwidth=2**24 / 0.06, step_seconds=0.02)
    assert repeat["stall"]["ratio"] == pytest.approx(truth, abs=TOLERANCE)
    assert group(repeat["stall"]["causes"], "storage_first_byte") >= 0.9


def test_slow_decoding_is_named(bench):
    repeat = measure(
        bench, "--steps", "40",
        "--set", "storage.simulated.bandwidth_bytes_per_second=100GB/s",
        "--set", "storage.simulated.latency_seconds=0", "--set", "storage.io.threads=1",
        "--set", "workload.decode.kind=emulated",
        "--set", "workload.decode.seconds_per_sample=10ms",
        "--set", "plan.device.copy=none",
    )  # fmt: skip
    assert group(repeat["stall"]["causes"], "decode", "run_delay") >= 0.9
    assert repeat["stall"]["ratio"] > 0.4


def test_a_slow_link_is_named(bench):
    repeat = measure(
        bench, "--steps", "60",
        "--set", "storage.simulated.bandwidth_bytes_per_second=100GB/s",
        "--set", "storage.simulated.latency_seconds=0",
        "--set", "plan.device.link_bytes_per_second=400MB/s", "--set", "plan.device.copy=none",
    )  # fmt: skip
    truth = storage_bound(60, batch_bytes=2**24, bandwidth=400e6, step_seconds=0.02)
    assert repeat["stall"]["ratio"] == pytest.approx(truth, abs=TOLERANCE)
    assert group(repeat["stall"]["causes"], "h2d") >= 0.9


def test_two_ranks_share_the_pipe_in_lock_step(bench):
    repeat = measure(
        bench, "--steps", "40",
        "--gpus-per-node", "2", "--set", "plan.device.copy=none",
        "--set", "storage.simulated.bandwidth_bytes_per_second=500MB/s",
        "--set", "storage.simulated.latency_seconds=0",
    )  # fmt: skip
    truth = storage_bound(40, batch_bytes=2**25, bandwidth=500e6, step_seconds=0.02)
    assert repeat["stall"]["ratio"] == pytest.approx(truth, abs=TOLERANCE)
    causes = repeat["stall"]["causes"]
    assert group(causes, "storage_read") >= 0.9, causes
    first, second = repeat["ranks"]
    assert first["steps"] == second["steps"] == 40
    assert repeat["bytes_consumed"] == first["bytes_consumed"] + second["bytes_consumed"]
