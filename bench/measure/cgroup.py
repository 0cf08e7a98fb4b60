"""Limits of memory and CPU, and throttling, from control groups version 1 and 2.

Limits hold for a group and all groups above it, so the tightest on the way up to the mount
counts. A process in a container may see only its own part of the tree, mounted as the root:
then the path in /proc/self/cgroup does not exist below the mount, and the mount's root is its
own group. None always means "no such figure", which is either "no limit" or "not readable".
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.measure.mounts import parse_mountinfo

__all__ = ["cpu_limit", "memory_limit_bytes", "throttled_seconds"]

NO_LIMIT = 1 << 62
"""Version 1 says "no limit" with the largest page-aligned number; nothing real comes near."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Directories of one controller, the process's own group first, the mount's root last."""

    version: int
    directories: tuple[str, ...]


def memory_limit_bytes(*, root: str = "/") -> int | None:
    """Return the tightest memory limit of this process; None for none.

    Args:
        root: Where /proc and /sys are found; tests put a tree of their own there.
    """
    limits = []
    for groups in _groups("memory", root):
        name = "memory.limit_in_bytes" if groups.version == 1 else "memory.max"
        for directory in groups.directories:
            value = _number(_read(os.path.join(directory, name)))
            if value is not None and value < NO_LIMIT:
                limits.append(value)
    return min(limits, default=None)


def cpu_limit(*, root: str = "/") -> float | None:
    """Return the tightest CPU limit of this process in CPUs; None for none."""
    limits = []
    for groups in _groups("cpu", root):
        for directory in groups.directories:
            if groups.version == 1:
                quota = _number(_read(os.path.join(directory, "cpu.cfs_quota_us")))
                period = _number(_read(os.path.join(directory, "cpu.cfs_period_us")))
            else:
                fields = (_read(os.path.join(directory, "cpu.max")) or "").split()
                quota, period = (_number(f) for f in fields) if len(fields) == 2 else (None, None)
            if quota is not None and quota > 0 and period:
                limits.append(quota / period)
    return min(limits, default=None)


def throttled_seconds(*, root: str = "/") -> float | None:
    """Return how long this process's group, or one above it, has been held back so far.

    A counter: the difference of two readings counts. None where no group has the figure.
    """
    found = []
    for groups in _groups("cpu", root):
        key, unit = ("throttled_time", 1e-9) if groups.version == 1 else ("throttled_usec", 1e-6)
        for directory in groups.directories:
            for line in (_read(os.path.join(directory, "cpu.stat")) or "").splitlines():
                name, _, text = line.partition(" ")
                value = _number(text)
                if name == key and value is not None:
                    found.append(value * unit)
    return max(found, default=None)


def _groups(controller: str, root: str) -> list[Groups]:
    paths = _paths(root)
    mounts = parse_mountinfo(_read(os.path.join(root, "proc/self/mountinfo")) or "")
    found = []
    for mount in mounts:
        if mount.fs_type == "cgroup" and controller in mount.options:
            version, path = 1, paths.get(controller)
        elif mount.fs_type == "cgroup2":
            version, path = 2, paths.get("")
        else:
            continue
        top = os.path.join(root, mount.mount_point.lstrip("/"))
        found.append(Groups(version, _upwards(top, mount.root, path or "/")))
    return found


def _paths(root: str) -> dict[str, str]:
    """Return controller -> path of our group; "" stands for version 2."""
    paths = {}
    for line in (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _upwards(top: str, mounted: str, path: str) -> tuple[str, ...]:
    if mounted != "/" and (path == mounted or path.startswith(mounted + "/")):
        path = path[len(mounted) :]
    parts = [part for part in path.split("/") if part]
    if ".." in parts or not os.path.isdir(os.path.join(top, *parts)):
        parts = []
    return tuple(os.path.join(top, *parts[:depth]) for depth in range(len(parts), -1, -1))


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
