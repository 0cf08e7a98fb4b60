"""The first pod's side of the meeting (`bench.agent.pod.greeting`): it listens for the others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.agent.pod.greeting import PLACE, Identity, Lines, keep_alive
from bench.errors import InfrastructureError, PeerLost

__all__ = ["Coordinator"]

HELLO_TIMEOUT_SECONDS = 30.0

BACKLOG = 1024
"""All pods come at once."""

OnEvent = Callable[[int, dict[str, Any]], None]


@dataclass(slots=True)
class _Pod:
    node: str
    lines: Lines
    prepared: str | None = None
    lost: bool = False


@dataclass(slots=True)
class _State:
    pods: dict[int, _Pod] = field(default_factory=dict)
    ranks: dict[int, socket.socket] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class Coordinator:
    """The first pod's side.

    Args:
        identity: What the others must have in common with us.
        num_pods: Of the repeat, this one included.
        num_ranks: Of the repeat.
        ranks_per_pod: Consecutive ranks of each pod.
        on_event: Called with (rank, event) for events of other pods' ranks, from threads.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        num_pods: int,
        num_ranks: int,
        ranks_per_pod: int,
        on_event: OnEvent,
    ) -> None:
        self._identity = identity
        self._num_pods = num_pods
        self._num_ranks = num_ranks
        self._ranks_per_pod = ranks_per_pod
        self._on_event = on_event
        self._state = _State()
        self._changed = threading.Condition()
        self._server: socket.socket | None = None

    def listen(self, host: str, port: int) -> int:
        """Listen; return the port, for tests that ask for any.

        Args:
            host: Address of one interface; empty for all.
            port: 0 for any that is free.

        Raises:
            InfrastructureError: The port is taken.
        """
        try:
            self._server = _listen(host, port)
        except OSError as error:
            raise InfrastructureError(
                PLACE, f"port {port} cannot be listened on ({error.strerror})"
            ) from error
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()
        return int(self._server.getsockname()[1])

    def wait_for_pods(self, *, timeout_seconds: float) -> None:
        """Wait until every other pod has come.

        Raises:
            InfrastructureError: Some did not; names them.
        """
        wanted = set(range(1, self._num_pods))
        self._wait(lambda: wanted <= set(self._state.pods), timeout_seconds)
        with self._changed:
            missing = sorted(wanted - set(self._state.pods))
            refused = list(self._state.refused)
        if missing:
            said = f"; turned away: {', '.join(refused)}" if refused else ""
            raise InfrastructureError(
                PLACE,
                f"{_counted(missing, 'pod')} did not come within {timeout_seconds:g} s "
                f"({self._rank_names(missing)}){said}",
                "see their messages, or raise plan.barrier_timeout_seconds",
            )

    def wait_until_prepared(self, digest: str, *, timeout_seconds: float) -> None:
        """Wait until every pod has its data, then let them start.

        Args:
            digest: Of our own manifest.
            timeout_seconds: Longest wait.

        Raises:
            InfrastructureError: A pod is lost or late, or has other data.
        """
        pods = self._state.pods
        self._wait(
            lambda: all(pod.lost or pod.prepared is not None for pod in pods.values()),
            timeout_seconds,
        )
        with self._changed:
            for index, pod in sorted(pods.items()):
                if pod.lost:
                    raise PeerLost(PLACE, f"pod {index} on {pod.node} ended early", "see its log")
                if pod.prepared is None:
                    raise InfrastructureError(
                        PLACE, f"pod {index} on {pod.node} has no data after {timeout_seconds:g} s"
                    )
                if pod.prepared != digest:
                    raise InfrastructureError(
                        PLACE,
                        f"pod {index} on {pod.node} has another data set than the first pod",
                        "give all nodes the same target",
                    )
            for pod in pods.values():
                with contextlib.suppress(OSError):  # its ranks will be missed
                    pod.lines.send({"start": True})

    def wait_for_ranks(self, *, timeout_seconds: float) -> dict[int, socket.socket]:
        """Return the connections of all other pods' ranks.

        Raises:
            InfrastructureError: Some did not come; names them.
        """
        wanted = set(range(self._ranks_per_pod, self._num_ranks))
        self._wait(
            lambda: (
                wanted <= set(self._state.ranks)
                or any(pod.lost for pod in self._state.pods.values())
            ),
            timeout_seconds,
        )
        with self._changed:
            lost = [index for index, pod in self._state.pods.items() if pod.lost]
            missing = sorted(wanted - set(self._state.ranks))
        if missing and lost:
            raise PeerLost(PLACE, f"{_counted(lost, 'pod')} ended early", "see its log")
        if missing:
            raise InfrastructureError(
                PLACE,
                f"{_counted(missing, 'rank')} did not come within {timeout_seconds:g} s",
                "see their messages, or raise plan.barrier_timeout_seconds",
            )
        return {rank: self._state.ranks[rank] for rank in sorted(wanted)}

    def close(self) -> None:
        """Hang up on all pods; ranks' connections belong to the hub."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        with self._changed:
            for pod in self._state.pods.values():
                with contextlib.suppress(OSError):
                    pod.lines.sock.shutdown(socket.SHUT_RDWR)

    def _rank_names(self, pods: list[int]) -> str:
        each = self._ranks_per_pod
        return _counted([r for pod in pods for r in range(pod * each, pod * each + each)], "rank")

    def _wait(self, done: Callable[[], bool], timeout_seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(done, timeout_seconds)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        lines = Lines(sock)
        sock.settimeout(HELLO_TIMEOUT_SECONDS)
        try:
            hello = lines.receive()
            if hello is None or not self._admit(hello, lines):
                sock.close()
                return
            if hello["kind"] == "pod":
                sock.settimeout(None)
                self._follow(int(hello["index"]), lines)
        except OSError:
            sock.close()

    def _admit(self, hello: dict[str, Any], lines: Lines) -> bool:
        problem = self._identity.problem(hello)
        with self._changed:
            if problem is None:
                problem = self._register(hello, lines)
            if problem is not None:
                self._state.refused.append(f"{hello.get('node', 'a client')}: {problem}")
                lines.send({"ok": False, "problem": problem})
                return False
            lines.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(lines.sock)
            lines.sock.settimeout(None)
            lines.send({"ok": True, "wall": time.time()})
            self._changed.notify_all()
        return True

    def _register(self, hello: dict[str, Any], lines: Lines) -> str | None:
        kind, number = hello.get("kind"), hello.get("index", hello.get("rank"))
        known: dict[int, Any] = self._state.pods if kind == "pod" else self._state.ranks
        limit = self._num_pods if kind == "pod" else self._num_ranks
        if kind not in ("pod", "rank") or not isinstance(number, int) or not 0 < number < limit:
            return f"is no {kind} of this repeat"
        if number in known:
            return f"{kind} {number} is here already"
        node = str(hello.get("node", "unknown"))
        known[number] = _Pod(node, lines) if kind == "pod" else lines.sock
        return None

    def _follow(self, index: int, lines: Lines) -> None:
        while True:
            try:
                said = lines.receive()
            except OSError:
                said = None
            if said is None:
                break
            if "prepared" in said:
                with self._changed:
                    self._state.pods[index].prepared = str(said["prepared"])
                    self._changed.notify_all()
            elif "rank" in said:
                self._on_event(int(said["rank"]), said["event"])
        with self._changed:
            self._state.pods[index].lost = True
            self._changed.notify_all()
        lines.sock.close()


def _listen(host: str, port: int) -> socket.socket:
    """Listen for both families where the pod has both; it may have either alone."""
    if not host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
    return socket.create_server((host, port), backlog=BACKLOG)


def _counted(numbers: list[int], what: str) -> str:
    """Return a list of numbers that a person can read: "ranks 1, 2, 3 and 97 more"."""
    shown = ", ".join(str(number) for number in numbers[:8])
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}{more}"
