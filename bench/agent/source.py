"""What the readers of a rank read from, as their configuration says it."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.dataset.manifest import Manifest
from bench.loader.pool import SourceConfig, make_file_table
from bench.spec.documents import StorageSpec
from bench.storage.object.access import Access, Renewal
from bench.storage.object.location import encode_key

__all__ = ["ObjectSource", "open_source"]

PLAIN_NAMES = re.compile(rb"[A-Za-z0-9/_.~\0-]*")
"""Names of these characters need no encoding; so are all that bench makes."""


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


class ObjectSource:
    """The objects of a data set as readers get them, and the renewal of their credentials.

    Args:
        storage: Resolved target.
        access: To its bucket.
        directory: Name of the data set below the target's prefix.
        manifest: Of the data set.
        seed: Of the jitter of retries.
    """

    def __init__(
        self,
        storage: StorageSpec,
        access: Access,
        *,
        directory: str,
        manifest: Manifest,
        seed: int,
    ) -> None:
        self._renewal = Renewal(access)
        self._fd, settings = _object_table(manifest)
        prefix = access.place.key(directory) + "/"
        settings |= {
            "engine": storage.io.engine,
            "prefix": encode_key(prefix),
            "bucket": access.place.bucket,
            "location": list(access.location),
            "endpoint_url": access.client.meta.endpoint_url,
            "anonymous": access.target.credentials.source == "anonymous",
            "ca_bundle": access.ca_bundle,
            "timeout_seconds": storage.io.timeout_seconds,
            "max_attempts": storage.io.max_attempts,
            "seed": seed,
            "credentials_fd": self._renewal.fd,
        }
        self.config = SourceConfig("object", settings, (self._fd, self._renewal.fd))

    def close(self) -> None:
        """Stop renewing."""
        self._renewal.close()
        with contextlib.suppress(OSError):
            os.close(self._fd)


def _object_table(manifest: Manifest) -> tuple[int, dict[str, Any]]:
    """Put encoded names, sizes and ETags into memory that all readers share."""
    names = manifest.names
    if PLAIN_NAMES.fullmatch(names.tobytes()) is None:
        names = np.array([encode_key(name.decode()).encode() for name in names.tolist()])
    fd, sizes_at, width = make_file_table(names, manifest.size_bytes)
    etags = manifest.etags if manifest.etags is not None else np.zeros(len(names), "S1")
    etags_at = sizes_at + 8 * len(names)
    os.ftruncate(fd, etags_at + etags.nbytes)
    with mmap.mmap(fd, 0) as table:
        table[etags_at:] = etags.tobytes()
    return fd, {
        "table_fd": fd,
        "sizes_at": sizes_at,
        "name_width": width,
        "etags_at": etags_at,
        "etag_width": etags.dtype.itemsize,
        "num_objects": len(names),
    }
