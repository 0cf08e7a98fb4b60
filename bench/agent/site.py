"""Where an agent runs: the machine, the data on it, and what both are known to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.measure.host import HostFacts, host_facts
from bench.measure.mounts import MountFacts, mount_facts
from bench.measure.volume import volume_facts
from bench.spec.documents import StorageSpec
from bench.storage.object.access import open_access
from bench.storage.object.engines.target import engine_version
from bench.storage.object.preflight import object_facts
from bench.storage.object.store import ObjectStore
from bench.storage.probe import check_mode

__all__ = ["LocalSite", "Site", "open_site", "open_store", "storage_facts"]


@dataclass(frozen=True, slots=True)
class LocalSite:
    """Where things are on this machine.

    Attributes:
        data_root: Directory that holds data sets; empty for simulated targets.
        align_bytes: O_DIRECT alignment there.
    """

    data_root: str
    align_bytes: int


@dataclass(frozen=True, slots=True)
class Site:
    """What is known of the machine and the target before anything runs."""

    host: HostFacts
    mount: MountFacts | None
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` takes."""
        mount = asdict(self.mount) if self.mount is not None else None
        return {"host": asdict(self.host), "mount": mount, "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Site:
        """Return a site as another process wrote it."""
        mount = value["mount"]
        if mount is not None:
            mount = MountFacts(**mount | {"options": tuple(mount["options"])})
        return cls(HostFacts(**value["host"]), mount, value["facts"])


def storage_facts(root: Path | None) -> tuple[MountFacts | None, dict[str, Any]]:
    """Return the mount of a directory and the facts of it that a result carries."""
    if root is None:
        return None, {"file_system": "none", "note": "simulated: no bytes are moved"}
    return mount_facts(str(root)), volume_facts(str(root))


def open_store(storage: StorageSpec) -> ObjectStore | None:
    """Return the objects of an object target; None for another one.

    Raises:
        TargetError: There are no credentials for it, or the configuration is wrong.
        UsageError: Its engine is not installed.
    """
    if storage.object is None:
        return None
    io = storage.io
    if io.engine not in ("posix", "http") and engine_version(io.engine) is None:
        raise UsageError(
            "storage.io.engine",
            f"{io.engine} is not installed",
            "install the extra `engines` (pip install 'bench[engines]'), or use http",
        )
    return ObjectStore(
        open_access(
            storage.object, timeout_seconds=io.timeout_seconds, max_attempts=io.max_attempts
        )
    )


def open_site(
    storage: StorageSpec,
    root: Path | None,
    store: ObjectStore | None = None,
    *,
    sample: Path | None = None,
) -> tuple[LocalSite, Site]:
    """Try the target and gather facts of the machine.

    Args:
        storage: The target.
        root: Directory for data sets; None for targets without one.
        store: Of an object target, from `open_store`; opened here where it is None.
        sample: A file of the data set, to try the read mode on where `root` is read-only.

    Raises:
        TargetError: The target refuses how it is to be read.
    """
    align = 1
    store = store or open_store(storage)
    if store is not None:
        io = storage.io
        found = object_facts(
            store.access, timeout_seconds=io.timeout_seconds, max_attempts=io.max_attempts
        )
        found["engine_version"] = engine_version(io.engine) or "bench"
        return LocalSite("", align), Site(host_facts(), None, found)
    if root is not None:
        mount = mount_facts(str(root))
        fs_type = mount.fs_type if mount is not None else "unknown"
        align = check_mode(root, storage.io.mode, fs_type=fs_type, sample=sample).offset_bytes
    mount, facts = storage_facts(root)
    return LocalSite(str(root or ""), align), Site(host_facts(), mount, facts)
