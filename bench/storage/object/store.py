"""Objects below a prefix: listing, looking at, writing and deleting them.

Nothing here is timed. Names are keys without the prefix; a deletion names what was written by
its ETag, so that what somebody else has put in its place stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.errors import TargetError
from bench.storage.base import Entry
from bench.storage.object.access import Access, worded

__all__ = ["MIN_PART_BYTES", "ObjectStore", "part_bytes"]

MIN_PART_BYTES = 8 * 2**20
MAX_PARTS = 9_000
"""S3 takes 10,000 parts of an upload, each but the last of 5 MiB or more."""

OnUpload = Callable[[str, str | None], None]
"""Called with (name, upload id) before the first part is sent, and (name, None) at the end."""


def part_bytes(size: int) -> int:
    """Return the bytes of a part of an object of `size` bytes."""
    return max(MIN_PART_BYTES, -(-size // MAX_PARTS))


class ObjectStore:
    """The objects below an access's prefix.

    Args:
        access: To the bucket.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.place = access.place
        self._client = access.client
        self._bucket = access.place.bucket

    def url(self, name: str = "") -> str:
        """Return the address of an object, or of the prefix."""
        return f"{self.place.url}/{name}" if name else self.place.url

    def _key(self, name: str) -> str:
        return self.place.key(name)

    def _worded(self, name: str = "") -> contextlib.AbstractContextManager[None]:
        return worded(self.url(name))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with `prefix`, a page of 1000 at a time.

        Raises:
            TargetError: The server refuses.
        """
        full = self._key(prefix) if prefix or self.place.prefix else ""
        cut = len(self._key(""))
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=full
        )
        with self._worded(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Entry(found["Key"][cut:], int(found["Size"]), found.get("ETag", ""))

    def stat(self, name: str) -> Entry | None:
        """Return an object's size and ETag; None where there is no such object.

        Raises:
            TargetError: The server refuses.
        """
        found = self.head(name)
        return None if found is None else Entry(name, found["ContentLength"], found["ETag"])

    def head(self, name: str) -> dict[str, Any] | None:
        """Return all that the server tells of an object; None where there is no such object."""
        from botocore.exceptions import ClientError

        with self._worded(name):
            try:
                head: dict[str, Any] = self._client.head_object(
                    Bucket=self._bucket, Key=self._key(name)
                )
            except ClientError as error:
                if str(error.response["Error"]["Code"]) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        return head

    def get(self, name: str) -> bytes:
        """Return a small object as a whole.

        Raises:
            TargetError: There is none, or the server refuses.
        """
        with self._worded(name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            data: bytes = answer["Body"].read()
        return data

    def peek(self, name: str, count: int) -> bytes:
        """Return the first bytes of an object, fewer where it is shorter.

        Raises:
            TargetError: There is none, or the server refuses.
        """
        with self._worded(name):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key(name), Range=f"bytes=0-{count - 1}"
            )
            data: bytes = answer["Body"].read()
        return data

    def stream(self, name: str, *, chunk_bytes: int, etag: str = "") -> Iterator[bytes]:
        """Yield an object's bytes, for checking them.

        Raises:
            TargetError: There is none, its ETag is another, or the server refuses.
        """
        condition = {"IfMatch": etag} if etag else {}
        with self._worded(name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **condition)
            yield from answer["Body"].iter_chunks(chunk_bytes)

    def put(self, name: str, data: bytes | bytearray, *, new: bool = False) -> Entry:
        """Write a small object in one request.

        Args:
            name: Where.
            data: Its bytes.
            new: Refuse to replace another one, where the server knows conditional writes.

        Raises:
            TargetError: The server refuses.
        """
        condition = {"IfNoneMatch": "*"} if new else {}
        with self._worded(name):
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._key(name), Body=bytes(data), **condition
            )
        return Entry(name, len(data), answer["ETag"])

    def write(
        self,
        name: str,
        size: int,
        parts: Iterable[tuple[int, memoryview]],
        *,
        on_upload: OnUpload = lambda _name, _upload: None,
    ) -> Entry:
        """Write an object from (offset, bytes) parts, in order but for its head.

        Large ones go up in parts of `part_bytes`; only the one under way and the first, which
        a late head completes, are held in memory. It appears as a whole or not at all.

        Raises:
            TargetError: The server refuses; the upload is aborted then.
        """
        if size <= MIN_PART_BYTES:
            whole = bytearray(size)
            for offset, part in parts:
                whole[offset : offset + len(part)] = part
            return self.put(name, whole)
        return _Upload(self, name, size, on_upload).run(parts)

    def delete(self, entry: Entry) -> bool:
        """Delete an object that is still what `entry` says; return whether it was.

        Raises:
            TargetError: The server refuses.
        """
        found = self.stat(entry.name)
        if found is None or found.etag != entry.etag:
            return False
        with self._worded(entry.name):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(entry.name))
        return True

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return (name, upload id) of unfinished multipart uploads below a prefix.

        Raises:
            TargetError: The server refuses.
        """
        cut = len(self._key(""))
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._key(prefix)
        )
        with self._worded(prefix):
            return [
                (found["Key"][cut:], found["UploadId"])
                for page in pages
                for found in page.get("Uploads", ())
            ]

    def abort(self, name: str, upload: str) -> None:
        """Abort a multipart upload; one that is gone is well.

        Raises:
            TargetError: The server refuses.
        """
        from botocore.exceptions import ClientError

        with self._worded(name):
            try:
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(name), UploadId=upload
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("NoSuchUpload", "404"):
                    raise

    # What an upload needs

    def _create(self, name: str) -> str:
        with self._worded(name):
            answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key(name))
        return str(answer["UploadId"])

    def _part(self, name: str, upload: str, number: int, data: bytes) -> str:
        with self._worded(name):
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key(name),
                UploadId=upload,
                PartNumber=number,
                Body=data,
            )
        return str(answer["ETag"])

    def _complete(self, name: str, upload: str, etags: dict[int, str]) -> str:
        parts = [{"PartNumber": n, "ETag": etag} for n, etag in sorted(etags.items())]
        with self._worded(name):
            answer = self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(name),
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )
        return str(answer["ETag"])


class _Upload:
    """One multipart upload.

    Its first part goes up last, since the head of some formats is known last.
    """

    def __init__(self, store: ObjectStore, name: str, size: int, on_upload: OnUpload) -> None:
        self._store = store
        self._name = name
        self._size = size
        self._on_upload = on_upload
        self._part = part_bytes(size)
        self._first = bytearray(self._part)
        self._held = bytearray()
        self._number = 1
        self._etags: dict[int, str] = {}

    def run(self, parts: Iterable[tuple[int, memoryview]]) -> Entry:
        store, name = self._store, self._name
        upload = store._create(name)  # noqa: SLF001 - one class in two halves
        try:
            self._on_upload(name, upload)
            for offset, part in parts:
                self._take(upload, offset, part)
            if self._held:
                self._send(upload, bytes(self._held))
            first = store._part(name, upload, 1, bytes(self._first))  # noqa: SLF001
            self._etags[1] = first
            etag = store._complete(name, upload, self._etags)  # noqa: SLF001
        except BaseException:
            with contextlib.suppress(TargetError):  # the error that is on its way says more
                store.abort(name, upload)
                self._on_upload(name, None)
            raise
        self._on_upload(name, None)
        return Entry(name, self._size, etag)

    def _take(self, upload: str, offset: int, part: memoryview) -> None:
        if offset < self._part:
            inside = min(len(part), self._part - offset)
            self._first[offset : offset + inside] = part[:inside]
            part = part[inside:]
        self._held += part
        while len(self._held) >= self._part:
            self._send(upload, bytes(self._held[: self._part]))
            del self._held[: self._part]

    def _send(self, upload: str, data: bytes) -> None:
        self._number += 1
        self._etags[self._number] = self._store._part(  # noqa: SLF001
            self._name, upload, self._number, data
        )
