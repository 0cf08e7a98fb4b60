"""How the pods of a repeat find each other: the first one listens, the others come to it.

JSON lines over TCP. Each pod holds one connection, over which it says who it is, that its data
is in place, and how far its ranks are; each rank of the others holds one more, which becomes its
end of `bench.agent.hub` once it has been let in. Pods that were given another plan, or run
another version, are turned away by name.

    pod  -> {"kind": "pod", "index": 1, "node": "n1", "plan": DIGEST, "tool": VERSION}
         <- {"ok": true, "wall": UNIX_SECONDS} | {"ok": false, "problem": TEXT}
         -> {"prepared": MANIFEST_DIGEST}
         <- {"start": true}
         -> {"rank": 3, ...}                        events of its ranks
    rank -> {"kind": "rank", "rank": 3, "plan": DIGEST, "tool": VERSION}
         <- {"ok": true, ...}                       then the hub's records
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.errors import InfrastructureError, PeerLost

__all__ = ["Coordinator", "Identity", "PodLink", "join_rank"]

HELLO_TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 0.2
MAX_LINE_BYTES = 1 << 16

PLACE = "start barrier"

OnEvent = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What all pods of a repeat must have in common.

    Attributes:
        plan: Digest of the plan document.
        tool: Version of `bench` in the image.
    """

    plan: str
    tool: str

    def problem(self, other: dict[str, Any]) -> str | None:
        """Return why another pod may not take part; None where it may."""
        if other.get("plan") != self.plan:
            return f"has another plan ({str(other.get('plan'))[:12]}, not {self.plan[:12]})"
        if other.get("tool") != self.tool:
            return f"runs bench {other.get('tool')}, not {self.tool}"
        return None


class _Lines:
    """JSON lines on a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def send(self, value: dict[str, Any]) -> None:
        self.sock.sendall(json.dumps(value, separators=(",", ":")).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Return the next line; None at the end, or where it is no line of ours."""
        while b"\n" not in self._rest:
            data = self.sock.recv(4096)
            if not data or len(self._rest) > MAX_LINE_BYTES:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            value = json.loads(line)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


@dataclass(slots=True)
class _Pod:
    node: str
    lines: _Lines
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

        Raises:
            InfrastructureError: The port is taken.
        """
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        try:
            self._server = socket.create_server(
                (host, port),
                family=family,
                backlog=1024,
                dualstack_ipv6=family is socket.AF_INET6,
            )
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
        lines = _Lines(sock)
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

    def _admit(self, hello: dict[str, Any], lines: _Lines) -> bool:
        problem = self._identity.problem(hello)
        with self._changed:
            if problem is None:
                problem = self._register(hello, lines)
            if problem is not None:
                self._state.refused.append(f"{hello.get('node', 'a client')}: {problem}")
                lines.send({"ok": False, "problem": problem})
                return False
            lines.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(lines.sock)
            lines.sock.settimeout(None)
            lines.send({"ok": True, "wall": time.time()})
            self._changed.notify_all()
        return True

    def _register(self, hello: dict[str, Any], lines: _Lines) -> str | None:
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

    def _follow(self, index: int, lines: _Lines) -> None:
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


class PodLink:
    """Another pod's side.

    Args:
        sock: Connected to the coordinator, and let in.
        offset_seconds: The coordinator's wall clock minus ours.
        error_seconds: Half the round trip, which bounds the error of the offset.
    """

    def __init__(self, lines: _Lines, *, offset_seconds: float, error_seconds: float) -> None:
        self._lines = lines
        self.offset_seconds = offset_seconds
        self.error_seconds = error_seconds

    @classmethod
    def join(
        cls,
        address: tuple[str, int],
        identity: Identity,
        *,
        index: int,
        node: str,
        timeout_seconds: float,
    ) -> PodLink:
        """Come to the coordinator.

        Raises:
            InfrastructureError: It is not there, or turns us away.
        """
        hello = {"kind": "pod", "index": index, "node": node}
        lines, offset, error = _come(address, identity, hello, timeout_seconds)
        return cls(lines, offset_seconds=offset, error_seconds=error)

    def wait_for_start(self, digest: str, *, timeout_seconds: float) -> None:
        """Say that our data is in place, and wait for everybody else's.

        Raises:
            PeerLost: The first pod has ended.
            InfrastructureError: It took too long.
        """
        self._lines.sock.settimeout(timeout_seconds)
        try:
            self._lines.send({"prepared": digest})
            answer = self._lines.receive()
        except TimeoutError as error:
            raise InfrastructureError(
                PLACE, f"the other pods have no data after {timeout_seconds:g} s"
            ) from error
        except OSError:
            answer = None
        self._lines.sock.settimeout(None)
        if answer is None:
            raise PeerLost(PLACE, "the first pod ended early", "see its log")

    def tell(self, rank: int, event: dict[str, Any]) -> None:
        """Pass an event of one of our ranks on; silently lost where nobody listens any more."""
        with contextlib.suppress(OSError):
            self._lines.send({"rank": rank, "event": event})

    def close(self) -> None:
        """Hang up."""
        self._lines.sock.close()


def join_rank(
    address: tuple[str, int], identity: Identity, *, rank: int, node: str, timeout_seconds: float
) -> socket.socket:
    """Return a rank's connection to the hub.

    Raises:
        InfrastructureError: The coordinator is gone, or turns the rank away.
    """
    hello = {"kind": "rank", "rank": rank, "node": node}
    return _come(address, identity, hello, timeout_seconds)[0].sock


def _come(
    address: tuple[str, int], identity: Identity, hello: dict[str, Any], timeout_seconds: float
) -> tuple[_Lines, float, float]:
    """Connect until it works: the name is not known before the first pod has an address."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while True:
        try:
            sock = socket.create_connection(address, timeout=max(0.1, deadline - time.monotonic()))
            lines = _Lines(sock)
            asked = time.time()
            lines.send(hello | {"plan": identity.plan, "tool": identity.tool})
            answer = lines.receive()
            answered = time.time()
        except OSError as error:
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    PLACE,
                    f"the first pod was not reached at {address[0]}:{address[1]} within "
                    f"{timeout_seconds:g} s ({error})",
                    "see whether it runs, and whether a network policy keeps pods apart",
                ) from error
            pause.wait(RETRY_SECONDS)
            continue
        break
    if answer is None:
        sock.close()
        raise PeerLost(PLACE, "the first pod hung up", "see its log")
    if not answer["ok"]:
        sock.close()
        raise InfrastructureError(
            PLACE, f"this pod was turned away: it {answer['problem']}", "use one image and one plan"
        )
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _keep_alive(sock)
    middle = (asked + answered) / 2
    return lines, answer["wall"] - middle, (answered - asked) / 2


def _keep_alive(sock: socket.socket) -> None:
    """Notice within half a minute that a node is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _counted(numbers: list[int], what: str) -> str:
    """Return a list of numbers that a person can read: "ranks 1, 2, 3 and 97 more"."""
    shown = ", ".join(str(number) for number in numbers[:8])
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}{more}"
