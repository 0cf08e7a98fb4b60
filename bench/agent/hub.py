"""Where ranks meet: the start barrier, and lock-step of every training step.

The hub runs beside the measurement, not in a rank's process. Ranks exchange *elapsed* times
since their own start, never clock readings, so nodes need no common clock. Messages are
fixed-size records on stream sockets: socket pairs on one machine, TCP between nodes.

A rank that ends before it has said that it leaves ends the meeting for all: without it the
others would wait for ever.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time

from bench.errors import InfrastructureError, PeerLost
from bench.loader.phase import RUN_AHEAD_STEPS, Release

__all__ = ["Hub", "HubClient"]

UP = struct.Struct("<BiqqB")
"""kind, rank, number (barrier or step), elapsed nanoseconds, wants to stop."""

DOWN = struct.Struct("<Biqqq")
"""kind, root rank, number, value (start instant or elapsed nanoseconds), last step."""

BARRIER, READY, LEAVE = 1, 2, 3
GO, RELEASE, LOST = 11, 12, 13


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
        self._ranks = {sock.fileno(): rank for rank, sock in enumerate(sockets)}
        self._buffers = {sock.fileno(): b"" for sock in sockets}
        self._gone: set[int] = set()
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
                        self._say_lost(self._ranks[sock.fileno()])
                        selector.unregister(sock)
                        sock.close()

    def missing(self, barrier: int) -> list[int]:
        """Return the ranks that have not arrived at a barrier."""
        arrived = self.barriers.get(barrier, set())
        return [rank for rank in range(len(self._sockets)) if rank not in arrived]

    def _serve(self, sock: socket.socket) -> bool:
        try:
            data = sock.recv(1 << 16)
        except OSError:  # reset, or timed out where a node is gone
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
        if kind == LEAVE:
            self._gone.add(rank)
            return
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
        self._tell_all(answer)

    def _say_lost(self, rank: int) -> None:
        if rank not in self._gone:
            self._gone.add(rank)
            self._tell_all(DOWN.pack(LOST, rank, 0, 0, -1))

    def _tell_all(self, answer: bytes) -> None:
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
        same_clock: The hub is on this machine, so that its start instant is ours as well.
    """

    def __init__(self, sock: socket.socket, *, rank: int, same_clock: bool = True) -> None:
        self._sock = sock
        self._rank = rank
        self._same_clock = same_clock
        self._rest = b""

    def barrier(self, number: int, *, timeout_seconds: float) -> int:
        """Wait for all ranks; return the common start on this node's clock, nanoseconds.

        On another node than the hub's that is when its word arrived: later than there by what
        one message takes.

        Raises:
            InfrastructureError: The others did not come in time, or the hub is gone.
            PeerLost: One of them ended.
        """
        self._sock.settimeout(timeout_seconds)
        try:
            self._sock.sendall(UP.pack(BARRIER, self._rank, number, 0, 0))
            data = b""
            while len(data) < DOWN.size:
                chunk = self._sock.recv(DOWN.size - len(data))
                if not chunk:
                    raise PeerLost("start barrier", "the hub is gone", "see what rank 0 says")
                data += chunk
        except TimeoutError as error:
            raise InfrastructureError(
                "start barrier",
                f"other ranks did not arrive within {timeout_seconds:g} s",
                "see their messages, or raise plan.barrier_timeout_seconds",
            ) from error
        finally:
            self._sock.settimeout(None)
        kind, root, _, start_ns, _ = DOWN.unpack(data)
        if kind == LOST:
            raise _peer_lost("start barrier", root)
        return int(start_ns) if self._same_clock else time.perf_counter_ns()

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
            raise PeerLost("lock-step", "the hub is gone", "see what rank 0 says")
        data = self._rest + data
        whole = len(data) - len(data) % DOWN.size
        self._rest = data[whole:]
        found = []
        for kind, root, number, value, last in DOWN.iter_unpack(data[:whole]):
            if kind == LOST:
                raise _peer_lost("lock-step", root)
            found.append(Release(number, value, root, last))
        return found

    def leave(self) -> None:
        """Say that this rank has done its part, so that its end is no loss."""
        try:
            self._sock.sendall(UP.pack(LEAVE, self._rank, 0, 0, 0))
        except OSError:
            return  # the hub is gone: nobody is left to be told

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


def _peer_lost(place: str, rank: int) -> PeerLost:
    return PeerLost(place, f"rank {rank} ended early", "see what it says")
