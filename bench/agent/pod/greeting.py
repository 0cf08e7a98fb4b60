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

import json
import socket
from dataclasses import dataclass
from typing import Any

__all__ = ["PLACE", "Identity", "Lines", "keep_alive"]

MAX_LINE_BYTES = 1 << 16

PLACE = "start barrier"


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


class Lines:
    """JSON lines on a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def send(self, value: dict[str, Any]) -> None:
        """Send one line."""
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


def keep_alive(sock: socket.socket) -> None:
    """Notice within half a minute that a node is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
