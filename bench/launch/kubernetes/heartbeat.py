"""A launcher's sign of life in the state of its run, for `bench clean` and `bench attach`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Self

from bench.errors import BenchError

__all__ = ["HEARTBEAT_SECONDS", "Heartbeat"]

HEARTBEAT_SECONDS = 60.0
"""How often a launcher says that it is alive."""


class Heartbeat(threading.Thread):
    """Notes now and then that the launcher lives, for `bench clean` and `bench attach`."""

    def __init__(self, note: Callable[..., None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._note = note
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Note it until told to stop."""
        while not self._stop_event.wait(HEARTBEAT_SECONDS):
            # The API server may be away; the watch knows how long to wait for it.
            with contextlib.suppress(BenchError):
                self._note(alive=time.time())

    def __enter__(self) -> Self:
        self._note(alive=time.time())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
