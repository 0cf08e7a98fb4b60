"""Facts about the machine that a result is read against; "unknown" or None where not readable."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass

from bench.measure.cgroup import cpu_limit, memory_limit_bytes
from bench.measure.mounts import mount_facts
from bench.measure.process import ProcessMeter, ProcessReading

__all__ = [
    "BlockDevice",
    "HostFacts",
    "ProcessMeter",
    "ProcessReading",
    "block_device",
    "harness_commit",
    "host_facts",
    "unknown_host",
]

UNKNOWN = "unknown"
GIT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One node."""

    kernel: str
    architecture: str
    cpu_model: str
    num_cpus: int
    """CPUs of the machine."""
    num_cpus_allowed: int
    """CPUs that this process may run on."""
    cpu_limit: float | None
    """CPUs by control group quota; None for no limit."""
    num_numa_nodes: int | None
    memory_total_bytes: int | None
    memory_limit_bytes: int | None
    """By control group; None for no limit."""
    clock_source: str
    clock_resolution_seconds: float
    python: str

    @property
    def usable_memory_bytes(self) -> int | None:
        """What a page cache of this process could grow to: the limit, else the machine's."""
        known = [b for b in (self.memory_limit_bytes, self.memory_total_bytes) if b is not None]
        return min(known, default=None)

    @property
    def usable_cpus(self) -> float:
        """CPUs that this process can use at once."""
        limit = self.cpu_limit if self.cpu_limit is not None else float(self.num_cpus_allowed)
        return min(limit, float(self.num_cpus_allowed))


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """The disk below a path, as the kernel calls it."""

    name: str
    model: str
    rotational: bool | None
    scheduler: str
    size_bytes: int | None


def unknown_host() -> HostFacts:
    """Return the facts of a node that never came to say them."""
    return HostFacts(
        kernel=UNKNOWN,
        architecture=UNKNOWN,
        cpu_model=UNKNOWN,
        num_cpus=0,
        num_cpus_allowed=0,
        cpu_limit=None,
        num_numa_nodes=None,
        memory_total_bytes=None,
        memory_limit_bytes=None,
        clock_source=UNKNOWN,
        clock_resolution_seconds=0.0,
        python=UNKNOWN,
    )


def host_facts(*, root: str = "/") -> HostFacts:
    """Collect the facts of this machine.

    Args:
        root: Where /proc and /sys are found; tests put a tree of their own there.
    """
    clock_source = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    return HostFacts(
        kernel=platform.release(),
        architecture=platform.machine(),
        cpu_model=_match(_read(root, "proc/cpuinfo"), r"model name\s*:\s*(.+)") or UNKNOWN,
        num_cpus=os.cpu_count() or 1,
        num_cpus_allowed=len(os.sched_getaffinity(0)),
        cpu_limit=cpu_limit(root=root),
        num_numa_nodes=_num_numa_nodes(root),
        memory_total_bytes=_memory_total_bytes(root),
        memory_limit_bytes=memory_limit_bytes(root=root),
        clock_source=_read(root, clock_source).strip() or UNKNOWN,
        clock_resolution_seconds=time.get_clock_info("perf_counter").resolution,
        python=platform.python_version(),
    )


def block_device(path: str, *, root: str = "/") -> BlockDevice | None:
    """Return the disk that holds `path`; None where there is none or it is not visible.

    Follows a partition to its disk, and a device-mapper volume to its first disk.

    Args:
        path: An existing path.
        root: Where /proc and /sys are found.
    """
    mount = mount_facts(path, root=root)
    if mount is None:
        return None
    number = mount.device
    if number.startswith("0:"):  # btrfs and others have a device number of their own
        if not mount.source.startswith("/dev/"):
            return None
        try:
            device = os.stat(mount.source).st_rdev
        except OSError:
            return None
        number = f"{os.major(device)}:{os.minor(device)}"
    directory = os.path.realpath(os.path.join(root, "sys/dev/block", number))
    if not os.path.isdir(directory):
        return None
    return _describe(_disk(directory))


def _disk(directory: str) -> str:
    if os.path.exists(os.path.join(directory, "partition")):
        return os.path.dirname(directory)
    slaves = os.path.join(directory, "slaves")
    names = sorted(os.listdir(slaves)) if os.path.isdir(slaves) else []
    return _disk(os.path.realpath(os.path.join(slaves, names[0]))) if names else directory


def _describe(directory: str) -> BlockDevice:
    rotational = _read(directory, "queue/rotational").strip()
    scheduler = _read(directory, "queue/scheduler").strip()
    sectors = _read(directory, "size").strip()
    return BlockDevice(
        name=os.path.basename(directory),
        model=_read(directory, "device/model").strip() or UNKNOWN,
        rotational={"0": False, "1": True}.get(rotational),
        scheduler=_match(scheduler, r"\[(.+?)\]") or scheduler or UNKNOWN,
        size_bytes=int(sectors) * 512 if sectors.isdigit() else None,  # always 512 in sysfs
    )


def harness_commit() -> str:
    """Return the commit of the checkout that this package runs from, else "unknown".

    "-dirty" is appended when tracked files differ from that commit.
    """
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not os.path.exists(os.path.join(checkout, ".git")):
        return UNKNOWN
    commit = _git(checkout, "rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return commit if changed == "" else f"{commit}-dirty"


def _git(checkout: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", checkout, *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _num_numa_nodes(root: str) -> int | None:
    try:
        names = os.listdir(os.path.join(root, "sys/devices/system/node"))
    except OSError:
        return None
    return sum(bool(re.fullmatch(r"node\d+", name)) for name in names) or None


def _memory_total_bytes(root: str) -> int | None:
    kilobytes = _match(_read(root, "proc/meminfo"), r"MemTotal:\s+(\d+) kB")
    return int(kilobytes) * 1024 if kilobytes else None


def _match(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1).strip() if found else None


def _read(root: str, name: str) -> str:
    try:
        with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
