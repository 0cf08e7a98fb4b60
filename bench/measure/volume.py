"""Facts of a volume that any process in a pod can read: no privilege, no tool.

What does not apply to a kind of volume is left out; what applies and cannot be read is the
word `unknown`. Nothing here is blank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bench.measure.host import block_device
from bench.measure.lustre import layout_of
from bench.measure.mounts import MountFacts, Proof, mount_facts, proof_of

__all__ = ["UNKNOWN", "fuse_facts", "nfs_facts", "nvme_facts", "read_ahead_bytes", "volume_facts"]

UNKNOWN = "unknown"

NFS_NUMBERS = ("rsize", "wsize", "nconnect", "timeo", "retrans", "acregmax")
NFS_WORDS = ("vers", "proto", "sec", "lookupcache", "local_lock")

FUSE_DAEMONS = {
    "s3fs": "s3fs-fuse",
    "mountpoint-s3": "Mountpoint for Amazon S3",
    "gcsfuse": "Cloud Storage FUSE",
    "blobfuse2": "BlobFuse2",
    "geesefs": "GeeseFS",
    "goofys": "Goofys",
    "juicefs": "JuiceFS",
    "rclone": "rclone mount",
    "sshfs": "sshfs",
    "mfs": "MooseFS client",
    "glusterfs": "GlusterFS client",
    "ceph": "ceph-fuse",
    "alluxio": "Alluxio",
    "seaweedfs": "SeaweedFS",
    "lxcfs": "LXCFS",
}
"""By the subtype of the mount, `fuse.SUBTYPE`, or the name of its source."""

DATA_SET = "bench-"
MAX_LOOKED_AT = 1000


def volume_facts(root: str, *, system_root: str = "/") -> dict[str, Any]:
    """Return what is known of the volume that holds a directory.

    Args:
        root: An existing directory.
        system_root: Where /proc and /sys are found; tests put a tree of their own there.
    """
    mount = mount_facts(root, root=system_root)
    device = block_device(root, root=system_root)
    facts: dict[str, Any] = {
        "file_system": mount.fs_type if mount is not None else UNKNOWN,
        "mount_options": list(mount.options) if mount is not None else UNKNOWN,
        "mount_point": mount.mount_point if mount is not None else UNKNOWN,
        "block_device": asdict(device) if device is not None else UNKNOWN,
        "path": root,
        **space_facts(root),
    }
    if mount is None:
        return facts
    kind = mount.fs_type
    if proof_of(kind) is not Proof.MEMORY:
        facts["read_ahead_bytes"] = read_ahead_bytes(mount, system_root=system_root)
    if kind in {"nfs", "nfs4"}:
        facts["nfs"] = nfs_facts(mount)
    elif kind == "lustre":
        facts["lustre"] = _lustre(root)
    elif kind == "fuse" or kind.startswith("fuse."):
        facts["fuse"] = fuse_facts(mount, system_root=system_root)
    if device is not None and device.name.startswith("nvme"):
        facts["nvme"] = nvme_facts(device.name, system_root=system_root)
    return facts


def space_facts(root: str) -> dict[str, Any]:
    """Return size and fill of a file system: drives and servers slow down as they fill up.

    `free_bytes` is what this user may still write; file systems that keep no count say 0
    inodes.
    """
    try:
        found = os.statvfs(root)
    except OSError:
        names = ("total_bytes", "free_bytes", "fill_ratio", "total_inodes", "free_inodes")
        return dict.fromkeys(names, UNKNOWN)
    total = found.f_blocks * found.f_frsize
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return {
        "total_bytes": total,
        "free_bytes": found.f_bavail * found.f_frsize,
        "fill_ratio": round(used / total, 4) if total else UNKNOWN,
        "total_inodes": found.f_files or UNKNOWN,
        "free_inodes": found.f_ffree if found.f_files else UNKNOWN,
    }


def read_ahead_bytes(mount: MountFacts, *, system_root: str = "/") -> int | str:
    """Return how far the kernel reads ahead on a mount (/sys/class/bdi/*/read_ahead_kb)."""
    text = _read(system_root, f"sys/class/bdi/{mount.device}/read_ahead_kb")
    return int(text) * 1024 if text.isdigit() else UNKNOWN


def _options(mount: MountFacts) -> dict[str, str]:
    pairs = (option.partition("=") for option in mount.options)
    return {name: value for name, _, value in pairs}


def nfs_facts(mount: MountFacts) -> dict[str, Any]:
    """Return what a mount of NFS was given, as the kernel shows it (nfs(5)).

    The kernel shows nconnect only where there are several connections.
    """
    options = _options(mount)
    facts: dict[str, Any] = {
        name: int(options[name]) if options.get(name, "").isdigit() else UNKNOWN
        for name in NFS_NUMBERS
    }
    if "nconnect" not in options:
        facts["nconnect"] = 1
    if "acregmax" not in options:  # shown where it differs from the default
        facts["acregmax"] = 0 if "noac" in options else 60
    facts |= {name: options.get(name) or UNKNOWN for name in NFS_WORDS if name in options}
    facts.setdefault("vers", UNKNOWN)
    facts["hard"] = "soft" not in options and "softerr" not in options
    return facts


def _first_file(root: str) -> str | None:
    """Return some file of a data set of ours below a directory."""
    pending = [root]
    for _ in range(MAX_LOOKED_AT):
        if not pending:
            return None
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if directory != root or entry.name.startswith(DATA_SET):
                            pending.append(entry.path)
                    elif directory != root and entry.is_file(follow_symlinks=False):
                        return entry.path
        except OSError:
            continue
    return None


def _lustre(root: str) -> dict[str, Any]:
    file = _first_file(root)
    return {
        "default_layout": layout_of(root) or UNKNOWN,
        "file_layout": (layout_of(file) if file is not None else None) or UNKNOWN,
    }


def fuse_facts(mount: MountFacts, *, system_root: str = "/") -> dict[str, Any]:
    """Return which daemon serves a FUSE mount, and what the kernel grants it.

    The limits belong to the superuser on most systems, and are unknown then.
    """
    options = _options(mount)
    subtype = mount.fs_type.partition(".")[2]
    source = mount.source.lower()
    daemon = FUSE_DAEMONS.get(subtype.lower())
    if daemon is None:
        named = (words for name, words in FUSE_DAEMONS.items() if name in source)
        daemon = next(named, subtype or UNKNOWN)
    minor = mount.device.partition(":")[2]
    facts: dict[str, Any] = {
        "daemon": daemon,
        "subtype": subtype or UNKNOWN,
        "max_read_bytes": int(options["max_read"])
        if options.get("max_read", "").isdigit()
        else UNKNOWN,
    }
    for name in ("max_background", "congestion_threshold"):
        text = _read(system_root, f"sys/fs/fuse/connections/{minor}/{name}")
        facts[name] = int(text) if text.isdigit() else UNKNOWN
    return facts


def _controllers(name: str, system_root: str) -> Iterator[str]:
    """Yield the directories of the controllers of an NVMe disk; several with multipath."""
    device = os.path.realpath(os.path.join(system_root, "sys/class/block", name, "device"))
    if os.path.isfile(os.path.join(device, "transport")):
        yield device
        return
    try:
        entries = sorted(os.listdir(device))
    except OSError:
        return
    for entry in entries:  # a subsystem, with a link to each of its controllers
        path = os.path.realpath(os.path.join(device, entry))
        if entry.startswith("nvme") and os.path.isfile(os.path.join(path, "transport")):
            yield path


def nvme_facts(name: str, *, system_root: str = "/") -> dict[str, Any]:
    """Return model, firmware and link of an NVMe disk, of its first controller.

    A link that came up narrower or slower than it can is a common reason for a slow disk:
    both are given.

    Args:
        name: Such as "nvme0n1".
        system_root: Where /sys is found.
    """
    controller = next(_controllers(name, system_root), None)
    names = ("model", "firmware", "transport", "numa_node", "link")
    if controller is None:
        return dict.fromkeys(names, UNKNOWN)
    transport = _read(controller, "transport") or UNKNOWN
    node = _read(controller, "numa_node") or _read(controller, "device/numa_node")
    facts: dict[str, Any] = {
        "model": _read(controller, "model") or UNKNOWN,
        "firmware": _read(controller, "firmware_rev") or UNKNOWN,
        "transport": transport,
        "numa_node": int(node) if node.lstrip("-").isdigit() and int(node) >= 0 else UNKNOWN,
    }
    if transport != "pcie":
        return facts
    parts = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
    link = {part: _read(controller, f"device/{part}") or UNKNOWN for part in parts}
    return facts | {"link": link}


def _read(root: str, name: str) -> str:
    try:
        with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
