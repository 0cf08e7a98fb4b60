"""One keep-alive HTTP/1.1 connection of one thread, whose bodies land where they are wanted.

No buffer lies between the socket and the slot: after the head, the kernel copies straight
into it, with one system call for all that is there (MSG_WAITALL). Time limits of plain
connections are the socket's own (SO_RCVTIMEO), which leaves calls blocking and cheap.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.storage.object.faults import Fault, ObjectFault

__all__ = ["Connection", "Endpoint", "Head", "chunks", "tls_context"]

HEAD_BYTES = 4096
"""Taken by the call that brings the head: what comes of the body with it is copied once."""

MAX_HEAD_BYTES = 64 * 1024
MAX_ERROR_BYTES = 64 * 1024

clock_ns = time.perf_counter_ns


class Endpoint:
    """Where to connect.

    Args:
        host: Name or address.
        port: Of the server.
        tls: Context for https; None for http.
        connect_timeout_seconds: For TCP and TLS together.
        timeout_seconds: Without any byte.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        connect_timeout_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.connect_timeout_seconds = connect_timeout_seconds
        self.timeout_seconds = timeout_seconds
        self._turns = itertools.count()

    def addresses(self) -> list[tuple[int, Any]]:
        """Return (family, address) of the server, in turn from another one each time."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ObjectFault(Fault.NAME, detail=str(error.strerror)) from error
        first = next(self._turns) % len(found)
        return [(row[0], row[4]) for row in found[first:] + found[:first]]


class Head(NamedTuple):
    """Start of an answer."""

    status: int
    headers: dict[bytes, bytes]
    """Names in lower case; of repeated ones the last."""
    length: int
    """Bytes of the body; -1 where it is chunked or ends with the connection."""

    def text(self, name: bytes) -> str:
        """Return a header, empty where it is missing."""
        return self.headers.get(name, b"").decode("latin-1")


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return the context for https, with the system's authorities or those of a file.

    Raises:
        ObjectFault: The file cannot be read or holds none.
    """
    try:
        context = ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as error:
        raise ObjectFault(Fault.TLS, detail=f"{ca_bundle}: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection:
    """One connection; opened by the first request.

    Args:
        endpoint: Where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._socket: socket.socket | None = None
        self._plain = endpoint.tls is None
        self._buffer = memoryview(bytearray(HEAD_BYTES))
        self._rest = self._buffer[:0]
        """What came with the head and is not taken yet."""
        self._keep = False
        self._served = 0
        self.connect_ns = 0
        """Time of the last connection's making."""

    @property
    def is_open(self) -> bool:
        """Whether a request needs no new connection."""
        return self._socket is not None

    @property
    def tls_version(self) -> str | None:
        """Protocol of an open encrypted connection; None for a plain one."""
        return self._socket.version() if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def was_used(self) -> bool:
        """Whether it has served a request: then the server may have closed it meanwhile."""
        return self._served > 0

    def open(self) -> None:
        """Connect.

        Raises:
            ObjectFault: CONNECT, NAME, TLS or TIMEOUT.
        """
        begin = clock_ns()
        error: OSError | None = None
        for family, address in self._endpoint.addresses():
            made = socket.socket(family, socket.SOCK_STREAM)
            try:
                made.settimeout(self._endpoint.connect_timeout_seconds)
                made.connect(address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = self._secured(made)
            except OSError as refused:
                error = refused
                made.close()
                continue
            except BaseException:
                made.close()
                raise
            self._limit_time()
            self._served = 0
            self._rest = self._buffer[:0]
            self.connect_ns = clock_ns() - begin
            return
        if isinstance(error, TimeoutError):
            raise ObjectFault(Fault.TIMEOUT, detail="connecting") from error
        raise ObjectFault(Fault.CONNECT, detail=str(error.strerror if error else "")) from error

    def _secured(self, made: socket.socket) -> socket.socket:
        context = self._endpoint.tls
        if context is None:
            return made
        try:
            return context.wrap_socket(made, server_hostname=self._endpoint.host)
        except ssl.SSLCertVerificationError as error:
            raise ObjectFault(Fault.TLS, detail=error.verify_message) from error
        except ssl.SSLError as error:
            raise ObjectFault(Fault.TLS, detail=str(error.reason or "")) from error

    def _limit_time(self) -> None:
        seconds = self._endpoint.timeout_seconds
        made = self._socket
        if made is None:
            return
        if not self._plain:  # OpenSSL would go on for ever after a limit of the socket's own
            made.settimeout(seconds)
            return
        made.settimeout(None)
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def close(self) -> None:
        """Hang up; idempotent."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
        self._rest = self._buffer[:0]

    def send(self, request: bytes) -> None:
        """Send a request, connecting where needed.

        Raises:
            ObjectFault: The connection fails; it is closed then.
        """
        if self._socket is None:
            self.open()
        made = self._socket
        try:
            if made is not None:
                made.sendall(request)
        except OSError as error:
            self.close()
            raise _fault(error) from error

    def receive(self, view: memoryview) -> int:
        """Receive some bytes; returns 0 at the end of the connection.

        Raises:
            ObjectFault: TIMEOUT or RESET; the connection is closed then.
        """
        rest = self._rest
        if rest:
            count = min(len(rest), len(view))
            view[:count] = rest[:count]
            self._rest = rest[count:]
            return count
        made = self._socket
        if made is None:
            raise ObjectFault(Fault.RESET)
        try:
            if self._plain:
                return made.recv_into(view, len(view), socket.MSG_WAITALL)
            return made.recv_into(view, len(view))
        except OSError as error:
            self.close()
            raise _fault(error) from error

    def head(self) -> Head:
        """Receive the head of the answer; interim answers are passed over.

        Raises:
            ObjectFault: TIMEOUT, RESET, or PROTOCOL for what is no HTTP.
        """
        while True:
            raw = self._head_bytes()
            head = self._parsed(raw)
            if head.status >= 200:
                return head

    def _head_bytes(self) -> bytes:
        held = bytes(self._rest)
        self._rest = self._buffer[:0]
        while (end := held.find(b"\r\n\r\n")) < 0:
            if len(held) > MAX_HEAD_BYTES:
                raise self._broken("the head is too long")
            made = self._socket
            if made is None:
                raise ObjectFault(Fault.RESET)
            try:
                count = made.recv_into(self._buffer)
            except OSError as error:
                self.close()
                raise _fault(error) from error
            if not count:
                self.close()
                raise ObjectFault(Fault.RESET, detail="closed before an answer")
            held += bytes(self._buffer[:count])
        body = held[end + 4 :]
        if len(body) > HEAD_BYTES:
            self._rest = memoryview(body)
        else:
            self._buffer[: len(body)] = body
            self._rest = self._buffer[: len(body)]
        return held[:end]

    def _parsed(self, raw: bytes) -> Head:
        first, *lines = raw.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise self._broken("no status line")
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise self._broken("a header without a colon")
            headers[name.strip().lower()] = value.strip()
        status = int(words[1])
        self._keep = headers.get(b"connection", b"").lower() != b"close" and words[0] != b"HTTP/1.0"
        length = -1
        if status in (204, 304) or status < 200:
            length = 0
        elif b"transfer-encoding" not in headers and b"content-length" in headers:
            text = headers[b"content-length"]
            if not text.isdigit():
                raise self._broken("a length that is no number")
            length = int(text)
        elif b"transfer-encoding" not in headers:
            self._keep = False  # it ends with the connection
        return Head(status, headers, length)

    def _broken(self, detail: str) -> ObjectFault:
        self.close()
        return ObjectFault(Fault.PROTOCOL, detail=detail)

    def done(self) -> None:
        """Say that the body has been taken as a whole."""
        self._served += 1
        if not self._keep:
            self.close()

    def small_body(self, head: Head, *, limit_bytes: int = MAX_ERROR_BYTES) -> bytes:
        """Return a short body whatever its framing; hang up where it is longer than the limit."""
        wanted = limit_bytes if head.length < 0 else min(head.length, limit_bytes)
        memory = memoryview(bytearray(wanted))
        count = 0
        try:
            for part in chunks(self, head, memory):
                count += part
        except ObjectFault:
            self.close()
            return bytes(memory[:count])
        if head.length > limit_bytes or (head.length < 0 and count == wanted):
            self.close()
        else:
            self.done()
        return bytes(memory[:count])


def chunks(connection: Connection, head: Head, view: memoryview) -> Iterator[int]:
    """Receive a body into `view`, whatever its framing; yield how much each call brought.

    Ends when the body does, or the view is full.

    Raises:
        ObjectFault: SHORT_BODY where an announced length is not reached, and as `receive`.
    """
    if b"transfer-encoding" in head.headers:
        yield from _chunked(connection, view)
        return
    at = 0
    end = len(view) if head.length < 0 else min(head.length, len(view))
    while at < end:
        count = connection.receive(view[at:end])
        if not count:
            connection.close()
            if head.length < 0:
                return
            raise ObjectFault(Fault.SHORT_BODY)
        at += count
        yield count


def _chunked(connection: Connection, view: memoryview) -> Iterator[int]:
    """Receive a chunked body (RFC 9112, 7.1); trailers are passed over."""
    at = 0
    while size := _chunk_size(connection):
        end = at + size
        if end > len(view):
            connection.close()
            raise ObjectFault(Fault.WRONG_RANGE, detail="more bytes than were asked for")
        while at < end:
            count = connection.receive(view[at:end])
            if not count:
                connection.close()
                raise ObjectFault(Fault.SHORT_BODY)
            at += count
            yield count
        _line(connection)
    while _line(connection):
        continue


def _line(connection: Connection) -> bytes:
    """Return a line without its end; byte by byte, as chunks are rare and lines short."""
    line = bytearray()
    one = memoryview(bytearray(1))
    while not line.endswith(b"\r\n"):
        if len(line) > MAX_HEAD_BYTES or not connection.receive(one):
            connection.close()
            raise ObjectFault(Fault.SHORT_BODY)
        line += one
    return bytes(line[:-2])


def _chunk_size(connection: Connection) -> int:
    line = _line(connection).partition(b";")[0].strip()
    try:
        return int(line, 16)
    except ValueError as error:
        connection.close()
        raise ObjectFault(Fault.PROTOCOL, detail="a chunk without a size") from error


def _fault(error: OSError) -> ObjectFault:
    if isinstance(error, TimeoutError | BlockingIOError | InterruptedError):
        return ObjectFault(Fault.TIMEOUT)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return ObjectFault(Fault.TLS, detail=str(error.reason or ""))
    return ObjectFault(Fault.RESET, detail=str(error.strerror or ""))
