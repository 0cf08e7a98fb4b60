"""What every storage backend must do, as a test class: subclass it, give it a `subject`.

A site can hold its own store against it (docs/object-storage.md):

    class TestOurStore(StoreConformance):
        @pytest.fixture
        def subject(self):
            with object_subject(ObjectPrefix(url="s3://bucket/scratch")) as subject:
                yield subject

pytest finds the methods by their names; each gets a fresh subject, writes below names of its
own and deletes what it wrote.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.spec.documents import Io, ObjectPrefix
from bench.storage.base import (
    PAGE_BYTES,
    Backend,
    Entry,
    Extent,
    ReadStats,
    StorageReadError,
    Store,
)
from bench.storage.directory import DirectoryStore
from bench.storage.object.access import open_access
from bench.storage.object.opening import open_objects
from bench.storage.object.source import ObjectSource
from bench.storage.object.store import ObjectStore
from bench.storage.posix import FileTable, PosixBackend

__all__ = ["StoreConformance", "Subject", "directory_subject", "object_subject"]

SLOT_BYTES = 16 * 2**20
LARGE_BYTES = 20 * 2**20 + 12345
"""More than one part of a multipart upload, and no multiple of anything."""

OpenBackend = Callable[[Sequence[Entry]], contextlib.AbstractContextManager[Backend]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A store and its readers.

    Attributes:
        store: To write and look at.
        backend: Opens readers of some of its objects; object i of a read is the i-th entry.
    """

    store: Store
    backend: OpenBackend


@contextlib.contextmanager
def directory_subject(root: str, *, mode: str = "buffered") -> Iterator[Subject]:
    """Yield the subject of a directory."""

    @contextlib.contextmanager
    def backend(entries: Sequence[Entry]) -> Iterator[Backend]:
        names = np.array([entry.name.encode() for entry in entries])
        sizes = np.array([entry.size for entry in entries], "<i8")
        table = FileTable(
            memoryview(names.tobytes()), names.dtype.itemsize, memoryview(sizes.tobytes())
        )
        opened = PosixBackend(root, table, mode=mode, align_bytes=PAGE_BYTES)
        try:
            yield opened
        finally:
            opened.close()

    yield Subject(DirectoryStore(root), backend)


@contextlib.contextmanager
def object_subject(target: ObjectPrefix, *, io: Io | None = None) -> Iterator[Subject]:
    """Yield the subject of a prefix in an object store."""
    settings = io or Io(engine="http")
    access = open_access(target, timeout_seconds=settings.timeout_seconds)

    @contextlib.contextmanager
    def backend(entries: Sequence[Entry]) -> Iterator[Backend]:
        source = ObjectSource(
            access,
            settings,
            prefix=access.place.key(""),
            names=np.array([entry.name.encode() for entry in entries]),
            sizes=np.array([entry.size for entry in entries], np.int64),
            etags=np.array([entry.etag.encode() for entry in entries]),
            seed=1,
        )
        try:
            yield open_objects(source.settings)
        finally:
            source.close()

    yield Subject(ObjectStore(access), backend)


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


class StoreConformance:
    """The tests; a subclass defines the fixture `subject`."""

    @staticmethod
    def content(size: int, seed: int = 1) -> bytes:
        """Return bytes that no two places share."""
        return np.random.default_rng(seed).bytes(size)

    @staticmethod
    def parts(data: bytes, step: int = 2**20) -> Iterator[tuple[int, memoryview]]:
        """Cut some bytes into parts as a generator gives them."""
        for at in range(0, len(data), step):
            yield at, memoryview(data)[at : at + step]

    @contextlib.contextmanager
    def written(self, subject: Subject, contents: Sequence[bytes]) -> Iterator[list[Entry]]:
        """Write objects, and delete them afterwards."""
        stem = f"conformance-{os.getpid()}"
        done: list[Entry] = []
        try:
            for number, data in enumerate(contents):
                name = f"{stem}/a {number}+b.bin"
                done.append(subject.store.write(name, len(data), self.parts(data)))
            yield done
        finally:
            for entry in done:
                subject.store.delete(entry)

    def read(
        self, subject: Subject, entries: Sequence[Entry], extents: Sequence[Extent]
    ) -> tuple[bytes, ReadStats]:
        """Read extents into a fresh slot; return the slot and the counts."""
        stats = ReadStats()
        slot = memoryview(mmap.mmap(-1, SLOT_BYTES))
        with subject.backend(entries) as backend:
            reader = backend.thread_reader()
            try:
                reader.read(0, extents, slot, stats)
            finally:
                reader.close()
        return bytes(slot), stats

    def test_what_is_written_is_listed_and_found(self, subject: Subject) -> None:
        """Names, sizes and ETags agree between writing, listing and looking."""
        with self.written(subject, [self.content(1), self.content(4096), b"x" * 70_000]) as made:
            prefix = made[0].name.partition("/")[0] + "/"
            listed = sorted(subject.store.entries(prefix))
            _expect(listed == sorted(made), f"listed {listed}, wrote {made}")
            for entry in made:
                _expect(subject.store.stat(entry.name) == entry, f"stat of {entry.name}")

    def test_nothing_is_found_where_nothing_is(self, subject: Subject) -> None:
        """A missing object is None, a missing prefix an empty listing."""
        _expect(subject.store.stat("conformance-none/x") is None, "found what is not there")
        _expect(not list(subject.store.entries("conformance-none/")), "listed what is not there")

    def test_large_objects_arrive_byte_by_byte(self, subject: Subject) -> None:
        """Multipart uploads are put together in order, and ranges of them read back exactly."""
        data = self.content(LARGE_BYTES)
        with self.written(subject, [data]) as made:
            back = bytearray()
            for offset in range(0, LARGE_BYTES, SLOT_BYTES):
                length = min(SLOT_BYTES, LARGE_BYTES - offset)
                slot, stats = self.read(subject, made, [Extent(0, offset, length, 0)])
                back += slot[:length]
                _expect(stats.transferred_bytes >= length, "fewer bytes counted than came")
            _expect(back == data, "other bytes came back")

    def test_a_head_that_comes_last_lands_in_front(self, subject: Subject) -> None:
        """Formats whose head holds a checksum of the rest are written in one pass."""
        for size in (100_000, LARGE_BYTES):
            data = self.content(size, seed=2)
            head = [(0, memoryview(data)[:300])]
            rest = [(300 + at, part) for at, part in self.parts(data[300:])]
            name = f"conformance-{os.getpid()}/head-last"
            entry = subject.store.write(name, size, itertools.chain(rest, head))
            try:
                length = min(size, SLOT_BYTES)
                slot, _ = self.read(subject, [entry], [Extent(0, 0, length, 0)])
                _expect(slot[:length] == data[:length], f"other bytes came back of {size}")
            finally:
                subject.store.delete(entry)

    def test_ranges_land_where_they_belong(self, subject: Subject) -> None:
        """Several extents of several objects share a slot without touching each other."""
        contents = [self.content(size, seed=size) for size in (1, 5000, 300_001)]
        with self.written(subject, contents) as made:
            wanted = [
                Extent(0, 0, 1, 0),
                Extent(1, 1, 4998, PAGE_BYTES + 1),
                Extent(2, 8192, 100_000, 4 * PAGE_BYTES),
                Extent(2, 300_000, 1, 40 * PAGE_BYTES + 300_000 % PAGE_BYTES),
            ]
            slot, _ = self.read(subject, made, wanted)
            for file, offset, length, at in wanted:
                same = slot[at : at + length] == contents[file][offset : offset + length]
                _expect(same, f"other bytes came back of object {file} at {offset}")

    def test_a_missing_object_fails_by_its_number(self, subject: Subject) -> None:
        """The error names the object that is gone, not one beside it."""
        with self.written(subject, [self.content(100), self.content(200)]) as made:
            subject.store.delete(made[1])
            try:
                self.read(subject, made, [Extent(0, 0, 100, 0), Extent(1, 0, 200, PAGE_BYTES)])
            except StorageReadError as error:
                _expect(error.file == 1, f"named object {error.file}")
            else:
                _expect(condition=False, what="read what is not there")

    def test_an_object_that_ends_early_is_told(self, subject: Subject) -> None:
        """A range beyond the end of an object never passes for a read."""
        with self.written(subject, [self.content(5000)]) as made:
            longer = [made[0]._replace(size=9000)]
            try:
                self.read(subject, longer, [Extent(0, 4096, 4904, 0)])
            except StorageReadError as error:
                _expect(error.file == 0, f"named object {error.file}")
            else:
                _expect(condition=False, what="read beyond the end")

    def test_only_what_was_written_is_deleted(self, subject: Subject) -> None:
        """An object that somebody wrote anew stays."""
        with self.written(subject, [self.content(100)]) as made:
            name = made[0].name
            newer = subject.store.write(name, 50, self.parts(self.content(50, seed=3)))
            try:
                _expect(not subject.store.delete(made[0]), "deleted what it did not write")
                _expect(subject.store.stat(name) == newer, "the newer object is gone")
            finally:
                _expect(subject.store.delete(newer), "left its own behind")
            _expect(subject.store.stat(name) is None, "still there after deletion")

    def test_a_write_that_fails_leaves_nothing(self, subject: Subject) -> None:
        """Objects appear whole or not at all."""

        def broken() -> Iterator[tuple[int, memoryview]]:
            yield from itertools.islice(self.parts(self.content(LARGE_BYTES)), 12)
            raise KeyError("stopped")

        name = f"conformance-{os.getpid()}/broken"
        with contextlib.suppress(KeyError):
            subject.store.write(name, LARGE_BYTES, broken())
        _expect(subject.store.stat(name) is None, "half an object is there")
