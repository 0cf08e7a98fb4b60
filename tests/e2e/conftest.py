"""Runs of the real command, in processes of their own, on real files or simulated storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "bench"]


@dataclass
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def run(self):
        return json.loads(self.stdout)


class Bench:
    """The command with its own working directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.results = directory / "bench-results"
        self.children = children
        self.command_line = command_line
        self.is_gone = is_gone
        self.wait_for = wait_for

    def arguments(self, *words: str) -> list[str]:
        return [*COMMAND, *(str(word) for word in words)]

    def __call__(self, *words: str, timeout: float = 120) -> Outcome:
        done = subprocess.run(
            self.arguments(*words), cwd=self.directory, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.arguments(*words), cwd=self.directory, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def local(self, *words: str) -> list[str]:
        """Options of a run on a directory of its own, small enough for a test."""
        return [
            "-s", "local-dir", "--set", f"storage.directory.path={self.data}",
            "--set", "storage.io.mode=buffered", *words,
        ]  # fmt: skip


def children(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for(condition, *, seconds: float = 30):
    """Poll until the condition gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except (OSError, ValueError):
            found = None
        if found:
            return found
        os.sched_yield()
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
