"""A thread that waits for things in the order in which they were enqueued."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from bench.device.mailbox import Mailbox

__all__ = ["Completions"]


class Completions:
    """Runs callbacks one after the other on a thread of its own; each may block.

    After a callback has raised, no other is run: the error is kept in `failure`, and the
    mailbox is signalled so that the host looks.

    Args:
        name: Of the thread.
        prepare: Run first on the thread.
        mailbox: Signalled after a failure.
    """

    def __init__(self, name: str, *, prepare: Callable[[], None], mailbox: Mailbox) -> None:
        self.failure: BaseException | None = None
        self._mailbox = mailbox
        self._queue: SimpleQueue[Callable[[], None] | threading.Event | None] = SimpleQueue()
        self._stopping = False
        self._queue.put(prepare)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, wait: Callable[[], None]) -> None:
        """Enqueue a callback."""
        self._queue.put(wait)

    def drain(self) -> None:
        """Block until all callbacks so far have returned or been dropped."""
        fence = threading.Event()
        self._queue.put(fence)
        fence.wait()

    def close(self) -> None:
        """End the thread after the callback that it is in."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif self.failure is None and not self._stopping:
                self._call(item)

    def _call(self, wait: Callable[[], None]) -> None:
        try:
            wait()
        except Exception as error:  # noqa: BLE001 - a thread's edge: the host's call raises it
            self.failure = error
            self._mailbox.signal()
