"""Real runs on storage of known speed: no change is no change, 10 % less is a regression.

Simulated storage moves no bytes and keeps its bandwidth by deadlines, so what it delivers is
known beforehand; loader, documents and comparison are the real ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GB = 1e9


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with five repeats each: `before`, `same`, and `throttled` by 10 %."""
    folder = tmp_path_factory.mktemp("real")
    for name, rate in (("before", 0.40), ("same", 0.40), ("throttled", 0.36)):
        done = bench(
            *("run", "smoke", "-s", "simulated", "-a", "none", "--repeats", "5"),
            *("--set", f"storage.simulated.bandwidth_bytes_per_second={int(rate * GB)}"),
            *("--set", "storage.simulated.jitter_seconds=0.0005"),
            *("--duration", "0.5", "--results", name),
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("candidate", "status", "verdict"), [("same", 0, "equivalent"), ("throttled", 1, "regressed")]
)
def test_a_throttle_of_10_percent_is_found_and_no_change_is_not(
    measured: Path, candidate: str, status: int, verdict: str
) -> None:
    flags = ("--across", "storage", "--gate", "ci", "--json")
    done = bench("compare", "before", candidate, *flags, cwd=measured)
    assert done.returncode == status, done.stdout + done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["verdict"] == verdict
    assert (cell["baseline"]["n"], cell["candidate"]["n"]) == (5, 5)
    throughput = cell["metrics"][0]
    assert throughput["effect"] == pytest.approx(-0.1 if status else 0.0, abs=0.03)


@pytest.mark.slow
def test_the_throttle_is_a_difference_that_has_to_be_named(measured: Path) -> None:
    done = bench("compare", "before", "throttled", cwd=measured)
    assert done.returncode == 2
    assert "storage.simulated.bandwidth_bytes_per_second" in done.stderr
    assert "--across storage" in done.stderr
