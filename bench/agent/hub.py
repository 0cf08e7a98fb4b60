"""Where ranks meet: the start barrier, and lock-step of every training step.

The hub runs beside the measurement, not in a rank's process. Ranks exchange *elapsed* times
since their own start, never clock readings, so nodes need no common clock. Messages are
fixed-size records on stream sockets (socket pairs on one machine).
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time

from bench.errors import InfrastructureError
from bench.loader.phase import RUN_AHEAD_STEPS, Release

__all__ = ["Hub", "HubClient"]

UP = struct.Struct("<BiqqB")
"""kind, rank, number (barrier or step), elapsed nanoseconds, wants to stop."""

DOWN = struct.Struct("<Biqqq")
"""kind, root rank, number, value (start instant or elapsed nanoseconds), last step."""

BARRIER, READY = 1, 2
GO, RELEASE = 11, 12


class _Meeting:
    """Ranks that have arrived at one barrier or step."""

    __slots__ = ("arrived", "elapsed_ns", "root", "want_stop")

    def __init__(self) -> None:
        self.arrived: set[int] = set()
        self.elapsed_ns = -1
        self.root = -1
        self.want_stop = False

    def add(self, rank: int, elapsed_ns: int, *, want_stop: bool) -> None:
        self.arrived.add(rank)
        self.want_stop |= want_stop
        # The lowest rank wins a tie, so that the root does not depend on message order.
        if (elapsed_ns, -rank) > (self.elapsed_ns, -self.root):
            self.elapsed_ns, self.root = elapsed_ns, rank


class Hub(threading.Thread):
    """Serves the ranks' sockets until they are closed.

    Args:
        sockets: One connected socket per rank, by rank.

    Attributes:
        barriers: For each barrier number, the ranks that have arrived; tells who is missing.
    """

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__(name="hub", daemon=True)
        self._sockets = sockets
        self._meetings: dict[tuple[int, int], _Meeting] = {}
        self._buffers = {sock.fileno(): b"" for sock in sockets}
        self.barriers: dict[int, set[int]] = {}
        self.started_ns = 0

    def run(self) -> None:
        """Serve until every rank has hung up."""
        with selectors.DefaultSelector() as selector:
            for ours in self._sockets:
                selector.register(ours, selectors.EVENT_READ, ours)
            while selector.get_map():
                for key, _ in selector.select():
                    sock: socket.socket = key.data
                    if not self._serve(sock):
                        selector.unregister(sock)
                        sock.close()

    def missing(self, barrier: int) -> list[int]:
        """Return the ranks that have not arrived at a barrier."""
        arrived = self.barriers.get(barrier, set())
        return [rank for rank in range(len(self._sockets)) if rank not in arrived]

    def _serve(self, sock: socket.socket) -> bool:
        try:
            data = sock.recv(1 << 16)
        except ConnectionResetError:
            return False
        if not data:
            return False
        data = self._buffers[sock.fileno()] + data
        whole = len(data) - len(data) % UP.size
        self._buffers[sock.fileno()] = data[whole:]
        for kind, rank, number, elapsed_ns, want_stop in UP.iter_unpack(data[:whole]):
            self._arrive(kind, rank, number, elapsed_ns, want_stop=bool(want_stop))
        return True

    def _arrive(
        self, kind: int, rank: int, number: int, elapsed_ns: int, *, want_stop: bool
    ) -> None:
        meeting = self._meetings.setdefault((kind, number), _Meeting())
        meeting.add(rank, elapsed_ns, want_stop=want_stop)
        if kind == BARRIER:
            self.barriers[number] = meeting.arrived
        if len(meeting.arrived) < len(self._sockets):
            return
        del self._meetings[kind, number]
        if kind == BARRIER:
            self.started_ns = time.perf_counter_ns()
            answer = DOWN.pack(GO, meeting.root, number, self.started_ns, -1)
        else:
            last = number + RUN_AHEAD_STEPS if meeting.want_stop else -1
            answer = DOWN.pack(RELEASE, meeting.root, number, meeting.elapsed_ns, last)
        for sock in self._sockets:
            try:
                sock.sendall(answer)
            except OSError:
                continue  # that rank has died; the launcher says so


class HubClient:
    """A rank's end: barriers, and the `bench.loader.pipeline.Gate` of its lock-step.

    Args:
        sock: Connected to the hub.
        rank: This rank.
    """

    def __init__(self, sock: socket.socket, *, rank: int) -> None:
        self._sock = sock
        self._rank = rank
        self._rest = b""

    def barrier(self, number: int, *, timeout_seconds: float) -> int:
        """Wait for all ranks; return the common start on this node's clock, nanoseconds.

        Raises:
            InfrastructureError: The others did not come in time, or the hub is gone.
        """
        self._sock.settimeout(timeout_seconds)
        try:
            self._sock.sendall(UP.pack(BARRIER, self._rank, number, 0, 0))
            data = b""
            while len(data) < DOWN.size:
                chunk = self._sock.recv(DOWN.size - len(data))
                if not chunk:
                    raise InfrastructureError("start barrier", "the launcher is gone")
                data += chunk
        except TimeoutError as error:
            raise InfrastructureError(
                "start barrier",
                f"other ranks did not arrive within {timeout_seconds:g} s",
                "see their messages, or raise plan.barrier_timeout_seconds",
            ) from error
        finally:
            self._sock.settimeout(None)
        return int(DOWN.unpack(data)[3])

    def fileno(self) -> int:
        """See `Gate.fileno`."""
        return self._sock.fileno()

    def ready(self, step: int, elapsed_ns: int, *, want_stop: bool) -> None:
        """See `Gate.ready`."""
        self._sock.sendall(UP.pack(READY, self._rank, step, elapsed_ns, want_stop))

    def releases(self) -> list[Release]:
        """See `Gate.releases`."""
        try:
            data = self._sock.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not data:
            raise InfrastructureError("lock-step", "the launcher is gone")
        data = self._rest + data
        whole = len(data) - len(data) % DOWN.size
        self._rest = data[whole:]
        return [
            Release(number, value, root, last)
            for _, root, number, value, last in DOWN.iter_unpack(data[:whole])
        ]

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
