"""Events from a device's threads to the rank's main thread, with a descriptor to poll."""

from __future__ import annotations

import contextlib
import os
from collections import deque

from bench.device.base import DeviceEvent

__all__ = ["Mailbox"]


class Mailbox:
    """A queue of device events behind one eventfd.

    Any number of threads put, one thread takes. While the taker has not come, further events
    cost no system call. A descriptor may once in a while poll readable with nothing to take
    (an event was taken before its signal was sent); no event is ever left without a signal.
    """

    def __init__(self) -> None:
        self._events: deque[DeviceEvent] = deque()
        self._signalled = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the eventfd; readable while there is something to take."""
        return self._fd

    def put(self, event: DeviceEvent) -> None:
        """Add an event."""
        self._events.append(event)
        if not self._signalled:
            self.signal()

    def signal(self) -> None:
        """Make the descriptor readable, with or without an event: something wants looking at."""
        self._signalled = True
        os.eventfd_write(self._fd, 1)

    def take(self) -> list[DeviceEvent]:
        """Return all events so far, in order, without blocking."""
        if self._signalled:
            # This order matters: clearing the flag first would let a put in between raise
            # the flag, and the read below swallow its signal.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
            self._signalled = False
        taken: list[DeviceEvent] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._events.popleft())
        return taken

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
