"""What the readers of a rank read from, as their configuration says it."""

from __future__ import annotations

from pathlib import Path

from bench.dataset.manifest import Manifest
from bench.loader.pool import SourceConfig, make_file_table
from bench.spec.documents import StorageSpec
from bench.storage.object.access import Access
from bench.storage.object.source import ObjectSource

__all__ = ["object_source", "open_source"]


def open_source(
    storage: StorageSpec,
    *,
    directory: Path | None,
    manifest: Manifest,
    align_bytes: int,
    simulated_fd: int,
) -> SourceConfig:
    """Return the readers' source for a storage target.

    Args:
        storage: Resolved target.
        directory: Data set directory of a file target.
        manifest: Its manifest.
        align_bytes: O_DIRECT alignment of that directory.
        simulated_fd: Shared state of a simulated server.
    """
    if storage.simulated is not None:
        settings = {"state_fd": simulated_fd, **storage.simulated.model_dump()}
        return SourceConfig("simulated", settings, (simulated_fd,))
    table_fd, sizes_at, width = make_file_table(manifest.names, manifest.size_bytes)
    return SourceConfig(
        "posix",
        {
            "root": str(directory),
            "table_fd": table_fd,
            "sizes_at": sizes_at,
            "name_width": width,
            "mode": storage.io.mode,
            "align_bytes": align_bytes,
        },
        (table_fd,),
    )


def object_source(
    storage: StorageSpec, access: Access, *, directory: str, manifest: Manifest, seed: int
) -> ObjectSource:
    """Return the objects of a data set as readers get them; the caller closes it.

    Args:
        storage: Resolved target.
        access: To its bucket.
        directory: Name of the data set below the target's prefix.
        manifest: Of the data set.
        seed: Of the jitter of retries.
    """
    return ObjectSource(
        access,
        storage.io,
        prefix=access.place.key(directory) + "/",
        names=manifest.names,
        sizes=manifest.size_bytes,
        etags=manifest.etags,
        seed=seed,
    )
