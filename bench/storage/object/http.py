"""The engine `http`: one keep-alive connection a thread, ranged GETs straight into the slot.

A request that fails for a passing reason is tried again for the bytes that are still missing,
on a new connection where the old one broke. Its waiting counts as waiting for the first byte,
since no byte comes; what was received before stays received.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.storage.base import Extent, ReadStats, StorageReadError
from bench.storage.object.cell import CredentialReader
from bench.storage.object.connection import Connection, Endpoint, Head, chunks, tls_context
from bench.storage.object.faults import Fault, ObjectFault, classify, error_code
from bench.storage.object.location import Location
from bench.storage.object.retry import RetryPolicy
from bench.storage.object.sigv4 import Signer

__all__ = ["HttpBackend", "HttpClient", "HttpSettings", "ObjectTable", "failure"]

clock_ns = time.perf_counter_ns


class ObjectTable:
    """Keys, sizes and ETags of a data set's objects, in memory shared by all readers.

    Args:
        names: N fixed-width encoded keys, NUL-padded, one after the other.
        width: Bytes of one key.
        sizes: N little-endian 64-bit sizes.
        etags: N fixed-width ETags, quotes included; empty where they are not known.
        etag_width: Bytes of one.
    """

    def __init__(
        self, names: memoryview, width: int, sizes: memoryview, etags: memoryview, etag_width: int
    ) -> None:
        self._names = names
        self._width = width
        self._sizes = sizes.cast("B").cast("q")
        self._etags = etags
        self._etag_width = etag_width

    def path(self, file: int) -> str:
        """Return the encoded key of an object."""
        start = file * self._width
        return bytes(self._names[start : start + self._width]).rstrip(b"\0").decode()

    def size(self, file: int) -> int:
        """Return the bytes of an object."""
        return self._sizes[file]

    def etag(self, file: int) -> str:
        """Return the ETag of an object, with its quotes; empty where it is not known."""
        start = file * self._etag_width
        return bytes(self._etags[start : start + self._etag_width]).rstrip(b"\0").decode()


class HttpSettings(NamedTuple):
    """How to talk to a bucket.

    Attributes:
        location: Where it is.
        ca_bundle: File with authorities; None for the system's.
        timeout_seconds: Longest time without a byte.
        retry: When to try again.
    """

    location: Location
    ca_bundle: str | None
    timeout_seconds: float
    retry: RetryPolicy

    def endpoint(self) -> Endpoint:
        """Return the endpoint to connect to."""
        location = self.location
        return Endpoint(
            location.host,
            location.port,
            tls=tls_context(self.ca_bundle) if location.tls else None,
            connect_timeout_seconds=min(10.0, self.timeout_seconds),
            timeout_seconds=self.timeout_seconds,
        )


class HttpClient:
    """Requests of one thread to one bucket, signed with what the cell holds at the time.

    Args:
        location: Of the bucket.
        endpoint: To connect to.
        credentials: Shared memory with credentials.
    """

    def __init__(
        self, location: Location, endpoint: Endpoint, credentials: CredentialReader
    ) -> None:
        self.connection = Connection(endpoint)
        self._location = location
        self._credentials = credentials
        self._version = -1
        self._signer: Signer | None = None

    def request(self, method: str, path: str, *, query: str = "", headers: str = "") -> bytes:
        """Return the bytes of a request.

        Args:
            method: GET, HEAD ...
            path: Encoded key; empty for the bucket itself.
            query: Encoded and sorted.
            headers: Further lines, each with CRLF.
        """
        if self._credentials.version != self._version:
            self._version, found = self._credentials.read()
            location = self._location
            self._signer = (
                Signer(found, region=location.region, host=location.host_header)
                if found is not None
                else None
            )
        full = self._location.base_path + path
        signed = (
            self._signer.headers(method, full, query, now=time.time())
            if self._signer is not None
            else f"Host: {self._location.host_header}\r\n"
        )
        target = f"{full}?{query}" if query else full
        return (
            f"{method} {target} HTTP/1.1\r\n{signed}"
            f"User-Agent: bench\r\nAccept-Encoding: identity\r\n{headers}\r\n"
        ).encode("latin-1")

    @property
    def credentials_changed(self) -> bool:
        """Whether newer credentials are there than those of the last request."""
        return self._credentials.version != self._version

    def refusal(self, head: Head) -> ObjectFault:
        """Take the body of an answer that is an error, and return what is wrong."""
        code = error_code(self.connection.small_body(head))
        fault = classify(head.status, code)
        region = head.text(b"x-amz-bucket-region")
        if fault is Fault.OTHER_REGION and region:
            code = f"it is in {region}"
        wait = head.text(b"retry-after")
        return ObjectFault(
            fault,
            head.status,
            detail=code,
            found_bytes=_total(head) if head.status == 416 else -1,
            retry_after_seconds=float(wait) if wait.isdigit() else 0.0,
        )


def _total(head: Head) -> int:
    """Return the object's size as a Content-Range tells it; -1 where it does not."""
    total = head.text(b"content-range").rpartition("/")[2]
    return int(total) if total.isdigit() else -1


class HttpBackend:
    """The objects of a data set, read by the engine `http`.

    Args:
        table: Their keys.
        prefix: Encoded; from the bucket's root to the data set, with a slash at the end.
        settings: Of the requests.
        credentials: Shared memory with credentials.
    """

    def __init__(
        self,
        table: ObjectTable,
        *,
        prefix: str,
        settings: HttpSettings,
        credentials: CredentialReader,
    ) -> None:
        self.table = table
        self.prefix = prefix
        self.settings = settings
        self.credentials = credentials
        self.endpoint = settings.endpoint()

    def thread_reader(self) -> HttpThreadReader:
        """Return the access of one more thread."""
        return HttpThreadReader(self)

    def close(self) -> None:
        """Nothing is shared but memory."""


class HttpThreadReader:
    """One thread's reads, over its one connection."""

    def __init__(self, backend: HttpBackend) -> None:
        self._table = backend.table
        self._prefix = backend.prefix
        self._retry = backend.settings.retry
        self._client = HttpClient(backend.settings.location, backend.endpoint, backend.credentials)
        self._connection = self._client.connection
        self._received = 0

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """See `bench.storage.base.ThreadReader.read`."""
        for file, offset, length, at in extents:
            self._read(piece, file, offset, slot[at : at + length], stats)

    def _read(self, piece: int, file: int, offset: int, view: memoryview, stats: ReadStats) -> None:
        attempt = 0
        while view:
            self._received = 0
            reused = self._connection.was_used
            try:
                self._get(file, offset, view, stats)
            except ObjectFault as fault:
                stale = reused and fault.fault is Fault.RESET and not self._received
                renewed = fault.fault is Fault.EXPIRED and self._client.credentials_changed
                may_pass = fault.passing or renewed
                if not may_pass or attempt + 1 >= self._retry.max_attempts:
                    raise failure(file, fault) from fault
                stats.retries += 1
                stats.slow_downs += fault.fault is Fault.THROTTLED
                stats.short_reads += fault.fault is Fault.SHORT_BODY
                # Closed while it was idle: a new connection is all that it needs.
                if not stale or attempt > 0:
                    self._wait(piece, attempt, fault, stats)
                attempt += 1
            else:
                stats.short_reads += self._received < len(view)
            offset += self._received
            view = view[self._received :]

    def _wait(self, piece: int, attempt: int, fault: ObjectFault, stats: ReadStats) -> None:
        begin = clock_ns()
        time.sleep(
            self._retry.delay_seconds(piece, attempt, retry_after_seconds=fault.retry_after_seconds)
        )
        stats.first_byte_ns += clock_ns() - begin

    def _get(self, file: int, offset: int, view: memoryview, stats: ReadStats) -> None:
        """Request a range once and receive it."""
        connection = self._connection
        etag = self._table.etag(file)
        end = offset + len(view)
        lines = f"Range: bytes={offset}-{end - 1}\r\n"
        if etag:
            lines += f"If-Match: {etag}\r\n"
        request = self._client.request("GET", self._prefix + self._table.path(file), headers=lines)
        if not connection.is_open:
            begin = clock_ns()
            try:
                connection.open()
            finally:
                stats.open_ns += clock_ns() - begin
        sent = clock_ns()
        try:
            connection.send(request)
            head = connection.head()
        finally:
            stats.first_byte_ns += clock_ns() - sent
        if head.status != 206 or (etag and head.text(b"etag") not in ("", etag)):
            self._check_head(head, file, offset, len(view), etag)
        elif not head.headers.get(b"content-range", b"").startswith(b"bytes %d-" % offset):
            connection.close()
            raise ObjectFault(Fault.WRONG_RANGE, head.status)
        if head.length >= 0 and head.length != len(view):
            view = view[: self._shorter(head, offset, len(view))]
        for count in chunks(connection, head, view):
            self._received += count
            stats.transferred_bytes += count
        if self._received < len(view):
            connection.close()
            raise ObjectFault(Fault.SHORT_BODY, head.status)
        connection.done()

    def _check_head(self, head: Head, file: int, offset: int, length: int, etag: str) -> None:
        """Accept a whole object for a range that is the whole of it; refuse all else."""
        if head.status not in (200, 206):
            raise self._client.refusal(head)
        if etag and head.text(b"etag") not in ("", etag):
            self._connection.close()
            raise ObjectFault(Fault.CHANGED, head.status)
        if head.status == 200 and not (offset == 0 and length == self._table.size(file)):
            self._connection.close()
            raise ObjectFault(Fault.WRONG_RANGE, head.status, detail="the range was ignored")

    def _shorter(self, head: Head, offset: int, length: int) -> int:
        """Return how much of a range comes, where a server gives less of it at a time."""
        total = _total(head) if head.status == 206 else head.length
        if 0 < head.length < length and head.status == 206 and total >= offset + length:
            return head.length
        self._connection.close()
        found = total if 0 <= total < offset + length else -1
        raise ObjectFault(Fault.WRONG_RANGE, head.status, found_bytes=found)


def failure(file: int, fault: ObjectFault) -> StorageReadError:
    """Return the error of a read that failed for good."""
    if fault.found_bytes >= 0:
        return StorageReadError(file, 0, fault.found_bytes)
    return StorageReadError(file, int(fault.fault), fault.status)
