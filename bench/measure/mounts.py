"""What a path is mounted from, and what its file system lets us prove about caches.

From /proc/self/mountinfo (proc_pid_mountinfo(5)). Only the client's page cache is meant here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = [
    "KNOWN_TYPES",
    "MountFacts",
    "Proof",
    "best_verdict",
    "mount_facts",
    "parse_mountinfo",
    "proof_of",
    "verdict_table",
]

Mode = Literal["direct", "buffered", "dontcache"]
Verdict = Literal["cold-verified", "cold-requested", "warm", "unknown"]

OCTAL = re.compile(r"\\([0-7]{3})")


class Proof(Enum):
    """How much the kernel tells about the origin of bytes read from a file system."""

    METERED = "metered"
    """A local block file system: read_bytes of /proc/PID/io counts what the device delivered."""
    METERED_ONE_WAY = "metered one way"
    """Device reads prove cold; their absence proves nothing (layers over any file system)."""
    MEMORY = "memory"
    """The file system is memory: warm by nature."""
    ASKED = "asked"
    """O_DIRECT asks for a way around the cache, and no meter confirms it."""
    OPAQUE = "opaque"
    """Nothing that the client sees tells a cache from the medium."""


KNOWN_TYPES: dict[str, Proof] = {
    **dict.fromkeys(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"), Proof.METERED),
    "overlay": Proof.METERED_ONE_WAY,
    **dict.fromkeys(("tmpfs", "ramfs", "hugetlbfs"), Proof.MEMORY),
    **dict.fromkeys(("lustre", "gpfs"), Proof.ASKED),
    **dict.fromkeys(
        ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "fuse", "zfs"), Proof.OPAQUE
    ),
}
"""File system types by what can be proved; a type that is not named is OPAQUE, as is every
fuse.* type, until somebody has calibrated its meters."""


@dataclass(frozen=True, slots=True)
class MountFacts:
    """One mount."""

    mount_point: str
    root: str
    """Directory of the file system that is mounted there."""
    fs_type: str
    source: str
    device: str
    """major:minor"""
    options: tuple[str, ...]
    """Mount options, then those of the file system itself, each once."""


def parse_mountinfo(text: str) -> list[MountFacts]:
    """Parse /proc/self/mountinfo; lines of another shape are left out."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 3:
            continue
        options = dict.fromkeys(fields[5].split(",") + tail[2].split(","))
        mounts.append(
            MountFacts(
                mount_point=_unescape(fields[4]),
                root=_unescape(fields[3]),
                fs_type=tail[0],
                source=_unescape(tail[1]),
                device=fields[2],
                options=tuple(options),
            )
        )
    return mounts


def _unescape(text: str) -> str:
    return OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def mount_facts(path: str, *, root: str = "/") -> MountFacts | None:
    """Return the mount that holds `path`; None where /proc does not say.

    Args:
        path: An existing path; symbolic links are followed.
        root: Where /proc is found; tests put a tree of their own there.
    """
    try:
        with open(os.path.join(root, "proc/self/mountinfo"), encoding="utf-8") as file:
            mounts = parse_mountinfo(file.read())
    except OSError:
        return None
    real = os.path.realpath(path)
    best = None
    for mount in mounts:
        inside = real == mount.mount_point or real.startswith(mount.mount_point.rstrip("/") + "/")
        # A later line of the same mount point lies over the earlier one.
        if inside and (best is None or len(mount.mount_point) >= len(best.mount_point)):
            best = mount
    return best


def proof_of(fs_type: str, options: tuple[str, ...] = ()) -> Proof:
    """Return what can be proved on a file system type."""
    if "dax" in options or "dax=always" in options:
        return Proof.OPAQUE  # reads pass by the block layer, so its meter stands still
    return KNOWN_TYPES.get(fs_type, Proof.OPAQUE)


def best_verdict(proof: Proof, mode: Mode) -> Verdict:
    """Return the best verdict on the client's tier that is within reach."""
    if proof in {Proof.METERED, Proof.METERED_ONE_WAY}:
        return "cold-verified"
    if proof is Proof.MEMORY:
        return "warm"
    if proof is Proof.ASKED and mode == "direct":
        return "cold-requested"
    return "unknown"


def verdict_table() -> list[tuple[str, Mode, Verdict]]:
    """Return (file system type, mode, best verdict within reach), for the documentation."""
    modes: tuple[Mode, ...] = ("direct", "buffered", "dontcache")
    return [(fs, mode, best_verdict(KNOWN_TYPES[fs], mode)) for fs in KNOWN_TYPES for mode in modes]
