"""A proxy before an S3 server that does what networks and servers do on bad days.

It passes requests on as they are, signatures and all. A rule decides on each GET of data what
goes wrong with it; besides, all data can be held at a bandwidth and a latency that are known
exactly. Held data comes from the server's files, so that only the model takes time.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tests.servers.versitygw import S3Server

PASS = "pass"
CHUNK = 64 * 1024
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
RANGE = re.compile(rb"\r\nrange:\s*bytes=(\d+)-(\d+)", re.IGNORECASE)
MATCH = re.compile(rb"\r\nif-match:\s*([^\r]+)", re.IGNORECASE)


def status(number: int, code: str = "") -> str:
    return f"status {number} {code}".strip()


@dataclass
class Held:
    """A pipe of known speed: latency of each request, then bytes in order of their turn."""

    bytes_per_second: float = 0.0
    latency_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    free: float = 0.0

    def reserve(self, since: float, count: int) -> float:
        """Take the pipe's next time; return when the bytes are through."""
        if not self.bytes_per_second:
            return since
        with self.lock:
            self.free = max(self.free, since) + count / self.bytes_per_second
            return self.free


def sleep_until(instant: float) -> None:
    while (left := instant - time.perf_counter()) > 0:
        time.sleep(left)


def seeded(seed: int, share: float, faults: list[str]) -> Callable[[int], str]:
    """Return a rule by which a share of the requests fails, the same ones each time."""
    drawn = random.Random(seed)
    kinds = [drawn.choice(faults) if drawn.random() < share else PASS for _ in range(100_000)]
    return lambda number: kinds[number]


class FaultProxy:
    """The proxy; a thread a connection.

    Args:
        server: Behind it.
        rule: From the number of a data request, counted from 0, to what goes wrong: "pass",
            "status N CODE", "reset", "reset-late", "short", "stall", "garbage", "chunked",
            "other-range", "other-etag", "less", "close", "whole".
        held: Pipe that data passes; None passes it as the server gives it.
        stall_seconds: How long "stall" is.
    """

    def __init__(
        self,
        server: S3Server,
        rule: Callable[[int], str] = lambda _number: PASS,
        *,
        held: Held | None = None,
        stall_seconds: float = 5.0,
    ) -> None:
        self.server = server
        self.rule = rule
        self.held = held
        self.stall_seconds = stall_seconds
        self.requests = 0
        self.faults: list[str] = []
        self.connections = 0
        self.heads: list[bytes] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(client)
        upstream = socket.create_connection(("127.0.0.1", self.server.port))
        self._open.add(upstream)
        try:
            with client, upstream:
                held = b""
                while not self._closing.is_set():
                    head, held = self._head(client, held)
                    if not head:
                        return
                    length = int(found.group(1)) if (found := LENGTH.search(head)) else 0
                    if b"expect: 100-continue" in head.lower():
                        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                        head = re.sub(rb"\r\nexpect:[^\r]*", b"", head, flags=re.IGNORECASE)
                    while len(held) < length:
                        held += self._some(client)
                    body, held = held[:length], held[length:]
                    if not self._answer(client, upstream, head, body):
                        return
        except OSError:
            return
        finally:
            self._open.discard(client)
            self._open.discard(upstream)

    @staticmethod
    def _some(source: socket.socket) -> bytes:
        data = source.recv(CHUNK)
        if not data:
            raise ConnectionResetError
        return data

    def _head(self, source: socket.socket, held: bytes) -> tuple[bytes, bytes]:
        while (end := held.find(b"\r\n\r\n")) < 0:
            data = source.recv(CHUNK)
            if not data:
                return b"", b""
            held += data
        return held[: end + 4], held[end + 4 :]

    def _answer(
        self, client: socket.socket, upstream: socket.socket, head: bytes, body: bytes
    ) -> bool:
        """Answer one request; return whether the connection goes on."""
        path = head.split(b" ", 2)[1]
        data = head.startswith(b"GET ") and b"/data/" in path and b"?" not in path
        fault = PASS
        if data:
            with self._lock:
                fault = self.rule(self.requests)
                self.requests += 1
                self.heads.append(head)
                if fault != PASS:
                    self.faults.append(fault)
        if fault.startswith("status"):
            return self._status(client, fault)
        if fault == "garbage":
            client.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
            return False
        if fault == "reset":
            return self._reset(client)
        if fault == "stall":
            self._closing.wait(self.stall_seconds)
            return False
        if data and self.held is not None and fault == PASS:
            return self._serve_held(client, head, unquote(path.decode()))
        upstream.sendall(head + body)
        return self._relay(client, upstream, fault, has_body=not head.startswith(b"HEAD "))

    def _status(self, client: socket.socket, fault: str) -> bool:
        _, number, *code = fault.split()
        text = f"<Error><Code>{code[0] if code else ''}</Code></Error>".encode()
        client.sendall(
            b"HTTP/1.1 %s Fault\r\nContent-Length: %d\r\nx-amz-bucket-region: eu-north-1\r\n\r\n"
            % (number.encode(), len(text))
            + text
        )
        return True

    @staticmethod
    def _reset(client: socket.socket) -> bool:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _relay(
        self, client: socket.socket, upstream: socket.socket, fault: str, *, has_body: bool
    ) -> bool:
        head, held = self._head(upstream, b"")
        length = int(found.group(1)) if (found := LENGTH.search(head)) else 0
        chunked = b"transfer-encoding: chunked" in head.lower()
        if chunked and has_body:
            client.sendall(head + held)
            while not held.endswith(b"0\r\n\r\n"):
                some = self._some(upstream)
                client.sendall(some)
                held = held[-8:] + some
            return True
        if not has_body:
            client.sendall(head)
            return True
        if fault in ("chunked", "other-range", "other-etag", "less", "close", "whole"):
            body = held
            while len(body) < length:
                body += self._some(upstream)
            return self._altered(client, head, body, fault)
        client.sendall(head)
        sent = len(held)
        limit = length // 2 if fault in ("short", "reset-late") else length
        client.sendall(held[:limit])
        while sent < limit:
            data = self._some(upstream)
            client.sendall(data[: limit - sent])
            sent += len(data)
        if fault == "reset-late":
            return self._reset(client)
        return fault != "short"

    def _altered(self, client: socket.socket, head: bytes, body: bytes, fault: str) -> bool:
        if fault == "chunked":
            head = LENGTH.sub(b"\r\nTransfer-Encoding: chunked", head)
            client.sendall(head)
            for at in range(0, len(body), 100_000):
                part = body[at : at + 100_000]
                client.sendall(b"%x;name=value\r\n" % len(part) + part + b"\r\n")
            client.sendall(b"0\r\nTrailer: x\r\n\r\n")
            return True
        if fault == "close":  # no length: it ends with the connection
            client.sendall(LENGTH.sub(b"\r\nConnection: close", head) + body)
            return False
        if fault == "other-range":
            head = re.sub(rb"(?i)content-range: bytes \d+", b"Content-Range: bytes 7", head)
        elif fault == "other-etag":
            head = re.sub(rb"(?i)etag: [^\r]+", b'ETag: "0123"', head)
        elif fault == "whole":
            head = re.sub(rb"HTTP/1.1 206[^\r]*", b"HTTP/1.1 200 OK", head)
            head = re.sub(rb"(?i)\r\ncontent-range: [^\r]+", b"", head)
        elif fault == "less":  # a server that gives less than was asked for at a time
            found = re.search(rb"(?i)content-range: bytes (\d+)-\d+/(\d+)", head)
            assert found is not None
            body = body[: max(1, len(body) // 3)]
            first = int(found.group(1))
            new = b"Content-Range: bytes %d-%d/%s" % (
                first, first + len(body) - 1, found.group(2)
            )  # fmt: skip
            head = head.replace(found.group(0), new)
            head = LENGTH.sub(b"\r\nContent-Length: %d" % len(body), head)
        client.sendall(head + body)
        return True

    def _serve_held(self, client: socket.socket, head: bytes, path: str) -> bool:
        assert self.held is not None
        begin = time.perf_counter()
        found = RANGE.search(head)
        assert found is not None
        first, last = int(found.group(1)), int(found.group(2))
        file = Path(f"{self.server.root}{path}")
        etag = MATCH.search(head)
        sleep_until(begin + self.held.latency_seconds)
        client.sendall(
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nETag: %s\r\n"
            b"Content-Range: bytes %d-%d/%d\r\n\r\n"
            % (last - first + 1, etag.group(1) if etag else b'""', first, last,
               file.stat().st_size)
        )  # fmt: skip
        at, count = first, last - first + 1
        end = self.held.reserve(begin + self.held.latency_seconds, count)
        seconds = count / self.held.bytes_per_second if self.held.bytes_per_second else 0.0
        with file.open("rb") as source:
            while at <= last:
                size = min(1 << 20, last + 1 - at)
                done = (at + size - first) / count
                sleep_until(end - seconds * (1 - done))
                client.sendfile(source, at, size)
                at += size
        return True


@contextlib.contextmanager
def proxy(server: S3Server, *args: object, **kwargs: object) -> Iterator[FaultProxy]:
    """Run a proxy, and end it."""
    one = FaultProxy(server, *args, **kwargs)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        one.close()
