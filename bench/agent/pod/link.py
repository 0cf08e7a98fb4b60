"""The other pods' side of the meeting (`bench.agent.pod.greeting`): they come to the first one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from bench.agent.pod.greeting import PLACE, Identity, Lines, keep_alive
from bench.errors import InfrastructureError, PeerLost

__all__ = ["PodLink", "join_rank"]

RETRY_SECONDS = 0.2


class PodLink:
    """Another pod's side.

    Args:
        sock: Connected to the coordinator, and let in.
        offset_seconds: The coordinator's wall clock minus ours.
        error_seconds: Half the round trip, which bounds the error of the offset.
    """

    def __init__(self, lines: Lines, *, offset_seconds: float, error_seconds: float) -> None:
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
) -> tuple[Lines, float, float]:
    """Connect until it works: the name is not known before the first pod has an address."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while True:
        sock = None
        try:
            sock = socket.create_connection(address, timeout=max(0.1, deadline - time.monotonic()))
            lines = Lines(sock)
            asked = time.time()
            lines.send(hello | {"plan": identity.plan, "tool": identity.tool})
            answer = lines.receive()
            answered = time.time()
            break
        except OSError as error:
            if sock is not None:
                sock.close()
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    PLACE,
                    f"the first pod was not reached at {address[0]}:{address[1]} within "
                    f"{timeout_seconds:g} s ({error})",
                    "see whether it runs, and whether a network policy keeps pods apart",
                ) from error
            pause.wait(RETRY_SECONDS)
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
    keep_alive(sock)
    middle = (asked + answered) / 2
    return lines, answer["wall"] - middle, (answered - asked) / 2
