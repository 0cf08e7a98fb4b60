"""The ring: fixed, page-aligned slots in anonymous shared memory, filled in place by readers."""

from __future__ import annotations

import mmap
import os

import numpy as np

from bench.errors import InfrastructureError
from bench.loader.wire import DESCRIPTOR, MAX_EXTENTS

__all__ = ["Ring"]

DESCRIPTOR_AREA = DESCRIPTOR.size * MAX_EXTENTS


class Ring:
    """Slots and their descriptor areas, in two memfds that vanish with their last process.

    memfds need no file system: neither the 64 MiB /dev/shm of a default pod nor its clean-up
    is involved. Pages are touched here, once, so that no read pays for first touch (7-9 times
    the cost of the read itself where it was measured).

    Args:
        num_slots: Number of slots.
        slot_bytes: Bytes of each, a multiple of the page size.

    Attributes:
        memory: The whole ring, page-aligned.
        fd: Descriptor of the ring, to pass to readers.
        descriptor_fd: Descriptor of the descriptor areas.
    """

    def __init__(self, num_slots: int, slot_bytes: int) -> None:
        self.num_slots = num_slots
        self.slot_bytes = slot_bytes
        self.fd = os.memfd_create("bench-ring")
        self.descriptor_fd = os.memfd_create("bench-descriptors")
        try:
            os.ftruncate(self.fd, num_slots * slot_bytes)
            os.posix_fallocate(self.fd, 0, num_slots * slot_bytes)
            os.ftruncate(self.descriptor_fd, num_slots * DESCRIPTOR_AREA)
            self._map = mmap.mmap(self.fd, num_slots * slot_bytes, flags=mmap.MAP_SHARED)
            self._descriptor_map = mmap.mmap(self.descriptor_fd, num_slots * DESCRIPTOR_AREA)
        except (OSError, ValueError) as error:
            os.close(self.fd)
            os.close(self.descriptor_fd)
            raise InfrastructureError(
                "plan.ring_bytes",
                f"cannot allocate a ring of {num_slots} x {slot_bytes} bytes ({error})",
                "set a smaller plan.ring_bytes or raise the memory limit",
            ) from error
        self.memory = memoryview(self._map)
        np.frombuffer(self.memory, np.uint8)[:: mmap.PAGESIZE] = 0
        self.descriptors = np.frombuffer(self._descriptor_map, "<i8").reshape(
            num_slots, MAX_EXTENTS, 4
        )
        """Shape (num_slots, MAX_EXTENTS, 4): file, offset, length, slot offset."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all slots."""
        return self.num_slots * self.slot_bytes

    def slot(self, index: int) -> memoryview:
        """Return one slot's memory."""
        start = index * self.slot_bytes
        return self.memory[start : start + self.slot_bytes]

    def close(self) -> None:
        """Unmap and free; the caller has dropped every view of `memory`."""
        self.descriptors = np.empty((0, MAX_EXTENTS, 4), "<i8")
        self.memory.release()
        self._descriptor_map.close()
        self._map.close()
        os.close(self.fd)
        os.close(self.descriptor_fd)
