"""What must match for two runs to be comparable.

A pure function of what was run and where: themes of plain values, then a hash over them.
Places (paths, mount points, URLs, device numbers) and ids (run, seed of the repeats, time)
are left out on purpose: the same cell elsewhere or later is the same cell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.results.schema import Tool
from bench.spec.plan import Plan

__all__ = ["THEMES", "Unlike", "differences", "fingerprint", "unlike"]

THEMES = ("workload", "dataset", "node", "device", "kernel", "storage", "loader", "tool")

PLACES_AND_IDS = frozenset(
    (
        *("path", "directory", "root", "mount_point", "source", "device", "device_number", "name"),
        *("url", "endpoint_url", "claimName", "sub_path", "subPath", "uid", "uuid", "serial"),
        *("addresses", "credentials", "tuning"),
        *("free_bytes", "used_bytes", "available_bytes", "num_used", "pv_name", "pvc_name"),
        *("fill_ratio", "free_inodes"),
    )
)
"""Keys of storage facts that say where or how full, not what."""

ADDRESS_OPTIONS = frozenset(
    (
        *("addr", "clientaddr", "mountaddr", "mountport", "port", "lowerdir", "upperdir"),
        *("workdir", "subvol", "subvolid", "fd", "user_id", "group_id"),
    )
)

NODE_FACTS = (
    *("architecture", "cpu_model", "num_cpus", "num_cpus_allowed", "cpu_limit"),
    *("num_numa_nodes", "memory_limit_bytes", "clock_source"),
)
GIB = 2**30

DEVICE_FACTS = ("kind", "name", "copy", "link_bytes_per_second", "details")
DEVICE_IDS = frozenset(("uuid", "serial", "pci_bus_id", "bus_id", "numa_node", "index"))


def fingerprint(
    plan: Plan,
    *,
    host: Mapping[str, Any],
    device: Mapping[str, Any],
    storage: Mapping[str, Any],
    tool: Tool,
) -> dict[str, Any]:
    """Return plain values by theme (THEMES), and `hash`, the sha256 over all of them.

    Args:
        plan: What was run, resolved.
        host: Facts of the node, by the names of `bench.measure.host.HostFacts`.
        device: Facts of the accelerator, by the names of `bench.device.base.DeviceFacts`.
        storage: Facts of the target: file system, mount options, disk, CSI driver ...;
            entries that are places or ids are left out at any depth.
        tool: What measured.
    """
    themes = {
        "workload": _workload(plan),
        "dataset": {
            "format": plan.dataset.format,
            "files": plan.dataset.num_files,
            "samples": plan.dataset.num_samples,
            "bytes": plan.dataset.total_bytes,
            "manifest_digest": plan.dataset.manifest_digest,
        },
        "node": _node(host),
        "device": _device(device),
        "kernel": {"release": host.get("kernel")},
        "storage": {
            "name": plan.storage_name,
            "kind": plan.storage.kind,
            "simulated": _plain(plan.storage.simulated),
            "cache_tiers": [_plain(tier) for tier in plan.storage.cache_tiers],
            "facts": _without(storage, PLACES_AND_IDS),
        },
        "loader": _loader(plan),
        "tool": {
            "version": tool.version,
            "commit": tool.commit,
            "image_digest": tool.image_digest,
            "python": tool.python,
        },
    }
    plain: dict[str, Any] = json.loads(_canonical(themes))
    return plain | {"hash": hashlib.sha256(_canonical(themes)).hexdigest()}


@dataclass(frozen=True, slots=True)
class Unlike:
    """One place at which two fingerprints differ.

    Attributes:
        path: Keys from the theme down; names of drivers have dots, so they are kept apart.
        one: Value there in the first; None where there is none.
        other: In the second.
    """

    path: tuple[str, ...]
    one: Any
    other: Any

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join(self.path)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths at which two fingerprints differ, hashes left aside."""
    return [found.name for found in unlike(one, other)]


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Unlike]:
    """Return where two fingerprints differ, with both values, by path; hashes left aside."""
    if one == other:
        return []
    found = [u for u in _differ(one, other, ()) if u.path != ("hash",)]
    return sorted(found, key=lambda u: u.path)


def _workload(plan: Plan) -> dict[str, Any]:
    spec = plan.workload.model_dump(mode="json", by_alias=True)
    settings = plan.settings
    return {
        "name": plan.workload_name,
        "sample_bytes": spec["dataset"]["sample_bytes"],
        "samples_per_file": spec["dataset"]["samples_per_file"],
        "access": {k: v for k, v in spec["access"].items() if k != "shuffle_seed"},
        "batch_size": plan.workload.batch_size,
        "decode": spec["decode"],
        "accelerator": settings.accelerator,
        "step_seconds": plan.step_seconds,
        "nodes": settings.nodes,
        "gpus_per_node": settings.gpus_per_node,
        "division": plan.division,
        "max_steps": settings.max_steps,
        "max_seconds": settings.max_seconds,
    }


def _node(host: Mapping[str, Any]) -> dict[str, Any]:
    node = {name: host.get(name) for name in NODE_FACTS}
    total = host.get("memory_total_bytes")
    # what the firmware and the kernel keep for themselves changes by some MB at each boot
    node["memory_total_gib"] = None if total is None else round(total / GIB)
    return node


def _device(device: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: device.get(name) for name in DEVICE_FACTS}
    # An emulated device's details are figures of the run (slot release lag, CPU), not facts.
    details = {} if device.get("kind") == "emulated" else device.get("details") or {}
    return kept | {"details": _without(details, DEVICE_IDS)}


def _loader(plan: Plan) -> dict[str, Any]:
    settings = plan.settings
    return {
        "engine": plan.storage.io.engine,
        "mode": plan.storage.io.mode,
        "block_bytes": plan.storage.io.block_bytes,
        "threads": plan.num_threads,
        "reader_processes": settings.reader_processes,
        "ring_bytes": settings.ring_bytes,
        "cache": settings.cache,
        "sync": settings.sync,
    }


def _plain(model: Any) -> Any:
    return None if model is None else model.model_dump(mode="json", by_alias=True)


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without(item, names)
            for key, item in value.items()
            if key not in names or isinstance(item, Mapping)  # "device" may be a group of facts
        }
    if isinstance(value, list | tuple):
        return [_without(item, names) for item in value if not _is_address(item)]
    return value


def _is_address(option: Any) -> bool:
    """Say whether a mount option names a place: NFS addresses, directories of an overlay."""
    return isinstance(option, str) and option.partition("=")[0] in ADDRESS_OPTIONS


def _canonical(themes: Mapping[str, Any]) -> bytes:
    return json.dumps(themes, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _differ(one: Any, other: Any, path: tuple[str, ...]) -> Iterator[Unlike]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one.keys() | other.keys():
            yield from _differ(one.get(key), other.get(key), (*path, key))
    elif one != other:
        yield Unlike(path, one, other)
