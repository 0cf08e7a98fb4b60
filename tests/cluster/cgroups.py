"""The control groups below which the nodes keep their pods'."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tests.cluster.settings import ClusterError

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Return the root of each hierarchy: one for version 2, one a controller for version 1."""
    if (ROOT / "cgroup.controllers").is_file():
        return [ROOT]
    # A symbolic link names several controllers of one hierarchy.
    found = [p for p in ROOT.iterdir() if p.is_dir() and not p.is_symlink()]
    return [p for p in found if (p / "cgroup.procs").is_file()]


def create(path: str) -> None:
    """Make a group in every hierarchy, usable as a kubelet's `cgroupRoot`.

    Args:
        path: Relative to each root; its parents are made too.
    """
    for root in hierarchies():
        group = root
        for part in path.split("/"):
            parent, group = group, group / part
            if (parent / "cgroup.subtree_control").is_file():
                controllers = (parent / "cgroup.controllers").read_text().split()
                for controller in controllers:
                    with contextlib.suppress(OSError):  # some only work in the root
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # Empty in a new group of version 1: nothing could run there.
                if (group / name).is_file() and not (group / name).read_text().strip():
                    with contextlib.suppress(OSError):
                        (group / name).write_text((parent / name).read_text().strip())


def remove(path: str, *, seconds: float = 10) -> None:
    """Remove a group with all below it from every hierarchy; none is fine.

    Raises:
        ClusterError: If a process still lives in one of them.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            for root in hierarchies():
                for folder, _, _ in os.walk(root / path, topdown=False):
                    Path(folder).rmdir()
            return
        except OSError as error:
            # The kernel frees the groups of processes that have just ended a little later.
            if time.monotonic() > deadline:
                raise ClusterError(f"control group {path} stays: {error}") from error
            time.sleep(0.05)
