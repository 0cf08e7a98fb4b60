"""The media that the cluster's storage classes are made of.

| class | medium | what it is for |
|---|---|---|
| bench-disk | a directory of the machine's disk | a local disk as it is |
| bench-ram | ext4 on a loop device over memory | a fast class, no disk noise; O_DIRECT works |
| bench-slow | ext4 on a loop device over the disk | reads limited by the kernel, a known truth |

All belong to one node each and are bound to where the first pod that uses them is placed. The
file systems are sparse: memory and disk are taken as data is written and given back when a
volume is deleted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.processes import Processes
from tests.cluster.settings import SLOW_READ_BYTES_PER_SECOND, Layout, Node

PROVISIONER = "cluster.bench.invalid/local"

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Medium:
    """What one storage class keeps its volumes on.

    Args:
        name: Of the medium; the class is `bench-NAME`.
        loop_bytes: Size of a loop device with a file system of its own; 0 for a directory.
        in_memory: Whether the loop device lies in memory.
        read_bytes_per_second: What each container may read from the device; 0: no limit.
    """

    name: str
    loop_bytes: int = 0
    in_memory: bool = False
    read_bytes_per_second: int = 0

    @property
    def storage_class(self) -> str:
        return f"bench-{self.name}"


MEDIA = (
    Medium(name="disk"),
    Medium(name="ram", loop_bytes=4 * GIB, in_memory=True),
    Medium(name="slow", loop_bytes=16 * GIB, read_bytes_per_second=SLOW_READ_BYTES_PER_SECOND),
)


class Media:
    """Makes and finds each node's media."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self.layout = layout
        self.processes = processes

    def path(self, medium: str, node: Node) -> Path:
        """Return where a node's volumes of a medium lie; nodes and provisioner see it there."""
        return self.layout.volumes / node.name / medium

    def up(self, node: Node) -> None:
        """Make the media of one node that are not there."""
        for medium in MEDIA:
            path = self.path(medium.name, node)
            path.mkdir(parents=True, exist_ok=True)
            if medium.loop_bytes and not self.is_mounted(path):
                self.mount_loop(medium, node=node, path=path)

    def is_mounted(self, path: Path) -> bool:
        """Whether a file system is mounted there, in the cluster's mounts."""
        pid = self.processes.required_init().pid
        table = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")
        return any(line.split()[4] == str(path) for line in table.splitlines())

    def mount_loop(self, medium: Medium, *, node: Node, path: Path) -> None:
        """Put a file system on a loop device of its own; it goes with the mount."""
        backing = self.layout.volumes / "backing" / medium.name
        backing.mkdir(parents=True, exist_ok=True)
        run = self.processes.run
        if medium.in_memory and not self.is_mounted(backing):
            run(["mount", "-t", "tmpfs", "-o", "size=90%", "tmpfs", backing])
        image = backing / f"{node.name}.img"
        run(["truncate", f"--size={medium.loop_bytes}", image])
        # Nothing writes in the background of a measurement: the tables are left as they are.
        run(["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", image])
        run(["mount", "-o", "loop,discard,noinit_itable", image, path])
        if not medium.in_memory:
            device = run(["findmnt", "--noheadings", "--output", "SOURCE", path]).strip()
            run(["losetup", "--direct-io=on", device])

    def read_limits(self, node: Node) -> dict[str, int]:
        """Return device (major:minor) -> bytes a second that a container may read."""
        limits = {}
        for medium in MEDIA:
            if medium.read_bytes_per_second:
                path = self.path(medium.name, node)
                options = ["--noheadings", "--output", "MAJ:MIN"]
                device = self.processes.run(["findmnt", *options, path]).strip()
                limits[device] = medium.read_bytes_per_second
        return limits


def storage_class(medium: str, *, binding: str = "WaitForFirstConsumer") -> dict[str, Any]:
    """Return the storage class of a medium."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": f"bench-{medium}"},
        "provisioner": PROVISIONER,
        "parameters": {"medium": medium},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": binding,
    }


def create_classes(api: Api) -> None:
    """Create the storage classes that are not there."""
    for medium in MEDIA:
        api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class(medium.name))


def free_bytes(path: Path) -> int:
    """Return what an unprivileged writer could still write below a directory."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize
