"""Credentials in memory that a rank shares with its readers: written by one, read by all.

They never stand on a command line, in a configuration or in a file. The rank renews them
before they expire; readers notice by a counter that is odd while a new version is written.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time

from bench.storage.object.sigv4 import Credentials

__all__ = ["CELL_BYTES", "CredentialReader", "CredentialWriter"]

CELL_BYTES = 64 * 1024
"""Session tokens of web identities take some KB."""

HEAD = struct.Struct("<QI")


class CredentialWriter:
    """The rank's side; `fd` is inherited by the readers."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("bench-credentials")
        os.ftruncate(self.fd, CELL_BYTES)
        self._memory = mmap.mmap(self.fd, CELL_BYTES)
        self._version = 0

    def write(self, credentials: Credentials | None) -> None:
        """Publish credentials; None for anonymous access.

        Raises:
            ValueError: They are longer than any known kind.
        """
        data = json.dumps(list(credentials) if credentials else None).encode()
        if HEAD.size + len(data) > CELL_BYTES:
            raise ValueError("credentials are too long")
        HEAD.pack_into(self._memory, 0, self._version + 1, 0)
        self._memory[HEAD.size : HEAD.size + len(data)] = data
        self._version += 2
        HEAD.pack_into(self._memory, 0, self._version, len(data))

    def close(self) -> None:
        """Forget them."""
        self._memory[:] = bytes(CELL_BYTES)
        self._memory.close()
        os.close(self.fd)


class CredentialReader:
    """A reader's side.

    Args:
        fd: Of the writer.
    """

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, CELL_BYTES, prot=mmap.PROT_READ)

    @property
    def version(self) -> int:
        """Grows with each renewal."""
        return int(HEAD.unpack_from(self._memory, 0)[0])

    def read(self) -> tuple[int, Credentials | None]:
        """Return the version and what it holds; None for anonymous access."""
        while True:
            version, length = HEAD.unpack_from(self._memory, 0)
            data = self._memory[HEAD.size : HEAD.size + length]
            if version % 2 == 0 and self.version == version:
                found = json.loads(data)
                return version, Credentials(*found) if found is not None else None
            time.sleep(0)

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()
