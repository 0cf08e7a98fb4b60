"""What readers are told of a data set's objects: where they are, and shared memory with the rest.

Keys, sizes, ETags and credentials lie in memory that all readers map; the configuration that
goes through a pipe names descriptors only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.spec.documents import Io
from bench.storage.object.access import Access, Renewal
from bench.storage.object.location import encode_key

__all__ = ["ObjectSource"]

PLAIN_NAMES = re.compile(rb"[A-Za-z0-9/_.~\0-]*")
"""Names of these characters need no encoding; so are all that bench makes."""


class ObjectSource:
    """The readers' source, and the renewal of their credentials while it is open.

    Args:
        access: To the bucket.
        io: How objects are read.
        prefix: From the bucket's root to the data set, with a slash at its end.
        names: Shape (N,), fixed-width bytes: keys below the prefix.
        sizes: Shape (N,), bytes.
        etags: Shape (N,), fixed-width bytes; None where they are not known.
        seed: Of the jitter of retries.
    """

    def __init__(
        self,
        access: Access,
        io: Io,
        *,
        prefix: str,
        names: npt.NDArray[np.bytes_],
        sizes: npt.NDArray[np.int64],
        etags: npt.NDArray[np.bytes_] | None,
        seed: int,
    ) -> None:
        self._renewal = Renewal(access)
        self._fd, settings = _table(names, sizes, etags)
        self.settings: dict[str, Any] = settings | {
            "engine": io.engine,
            "target": access.target.model_dump(mode="json", by_alias=True),
            "prefix": encode_key(prefix),
            "bucket": access.place.bucket,
            "location": list(access.location),
            "endpoint_url": access.client.meta.endpoint_url,
            "anonymous": access.target.credentials.source == "anonymous",
            "ca_bundle": access.ca_bundle,
            "timeout_seconds": io.timeout_seconds,
            "max_attempts": io.max_attempts,
            "seed": seed,
            "credentials_fd": self._renewal.fd,
        }
        self.fds = (self._fd, self._renewal.fd)

    def close(self) -> None:
        """Stop renewing, give memory back."""
        self._renewal.close()
        with contextlib.suppress(OSError):
            os.close(self._fd)


def _table(
    names: npt.NDArray[np.bytes_],
    sizes: npt.NDArray[np.int64],
    etags: npt.NDArray[np.bytes_] | None,
) -> tuple[int, dict[str, Any]]:
    """Put encoded names, sizes and ETags into memory; return it and where they lie."""
    if PLAIN_NAMES.fullmatch(names.tobytes()) is None:
        names = np.array([encode_key(name.decode()).encode() for name in names.tolist()])
    if etags is None:
        etags = np.zeros(len(names), "S1")
    sizes_at = -(-names.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    etags_at = sizes_at + 8 * len(names)
    fd = os.memfd_create("bench-objects")
    os.ftruncate(fd, etags_at + etags.nbytes)
    with mmap.mmap(fd, 0) as table:
        table[: names.nbytes] = names.tobytes()
        table[sizes_at:etags_at] = sizes.astype("<i8").tobytes()
        table[etags_at:] = etags.tobytes()
    return fd, {
        "table_fd": fd,
        "sizes_at": sizes_at,
        "name_width": names.dtype.itemsize,
        "etags_at": etags_at,
        "etag_width": etags.dtype.itemsize,
        "num_objects": len(names),
    }
