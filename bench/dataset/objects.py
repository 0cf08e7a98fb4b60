"""Make, check and remove a data set below a prefix of an object store.

The same data set as in a directory, with the same names: `bench-<name>-<hash>/manifest.parquet`
and `data/...`. Objects appear whole; the manifest is written last and holds every ETag, so that
one that somebody wrote anew is found, and what bench did not write is never touched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np

from bench.dataset.checksums import Crc32c
from bench.dataset.content import SCRATCH_BYTES, file_parts
from bench.dataset.layout import DATA_NAME, FILE, GROUP, MANIFEST_NAME
from bench.dataset.manifest import Manifest
from bench.dataset.object_journal import JOURNAL_NAME, SESSION_NAME, ObjectJournal, refuse_maker
from bench.dataset.progress import REPORT_SECONDS, OnProgress, Progress
from bench.dataset.shape import (
    dataset_hash,
    directory_name,
    file_sizes,
    object_name,
    samples_in_files,
)
from bench.errors import DatasetError
from bench.spec.documents import Dataset
from bench.storage.base import Entry
from bench.storage.object.store import ObjectStore

__all__ = [
    "abort_uploads",
    "check_objects",
    "ensure_objects",
    "load_manifest",
    "raise_problems",
    "remove_objects",
]

REMAKE = "run `bench prepare --remake` to make the data set again"
MAX_NAMED = 3
REMOVE_THREADS = 16


def load_manifest(store: ObjectStore, directory: str) -> Manifest:
    """Read the manifest of a data set.

    Raises:
        DatasetError: There is none, or it is damaged.
        TargetError: The store refuses.
    """
    name = f"{directory}/{MANIFEST_NAME}"
    if store.stat(name) is None:
        raise DatasetError(
            store.url(name), "the data set has no manifest", "run `bench prepare` to make it"
        )
    return Manifest.of_bytes(store.get(name), store.url(name))


def ensure_objects(
    store: ObjectStore,
    name: str,
    dataset: Dataset,
    *,
    workers: int,
    progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Return the data set's manifest; make or finish it where needed, check it where not.

    Stopping at any moment leaves whole objects, which the next call keeps; multipart uploads
    that a dead maker left are aborted first.

    Args:
        store: Holding the target's prefix.
        name: Of the workload.
        dataset: What to make.
        workers: Threads; each makes and uploads one object at a time.
        progress: Called a few times a second.
        clock: For rates.

    Raises:
        DatasetError: Foreign objects, another process at it, or what is there is damaged.
        TargetError: The store refuses.
    """
    directory = directory_name(name, dataset)
    if store.stat(f"{directory}/{MANIFEST_NAME}") is not None:
        manifest = load_manifest(store, directory)
        check_objects(store, directory, manifest, expected=dataset)
        return manifest
    found = _listed(store, directory)
    journal = ObjectJournal(store, directory, dataset, clock=clock)
    try:
        abort_uploads(store, directory, journal.uploads)
        journal.uploads.clear()
        maker = _Maker(store, directory, dataset, journal, progress, clock)
        maker.run(workers, found)
        manifest = _manifest(name, dataset, journal)
        store.put(f"{directory}/{MANIFEST_NAME}", manifest.to_bytes())
    except BaseException:
        journal.release()
        raise
    journal.remove()
    return manifest


def _manifest(name: str, dataset: Dataset, journal: ObjectJournal) -> Manifest:
    done = [journal.done[i] for i in range(len(journal.done))]
    crcs = np.array([crc for crc, _ in done], np.uint32)
    etags = np.array([etag.encode() for _, etag in done])
    return Manifest.of_files(name, dataset, crcs, etags)


def _listed(store: ObjectStore, directory: str) -> dict[str, Entry]:
    """Return the data set's objects by name below its directory.

    Raises:
        DatasetError: One of them is not bench's, or nothing tells whose they are.
    """
    cut = len(directory) + 1
    found: dict[str, Entry] = {}
    ours = False
    for entry in store.entries(f"{directory}/"):
        name = entry.name[cut:]
        if name in (MANIFEST_NAME, SESSION_NAME):
            ours = True
        elif name.startswith(f"{JOURNAL_NAME}/done-"):
            continue
        elif not _is_data(name):
            raise DatasetError(
                store.url(entry.name),
                "stands in a data set's prefix, and bench did not make it",
                "move it away; nothing was written",
            )
        else:
            found[name] = entry
    if found and not ours:
        raise DatasetError(
            store.url(directory),
            "holds objects, but neither a manifest nor a journal that says whose they are",
            "remove or move them; nothing was written",
        )
    return found


def _is_data(name: str) -> bool:
    parts = name.split("/")
    return (
        len(parts) == 3
        and parts[0] == DATA_NAME
        and GROUP.fullmatch(parts[1]) is not None
        and FILE.fullmatch(parts[2]) is not None
    )


def abort_uploads(store: ObjectStore, directory: str, journaled: dict[str, str]) -> int:
    """Abort the unfinished multipart uploads of a data set; return how many there were.

    Those that the journal names, and those that began in the moment before their maker could
    note them: their names are a data set's, so nobody else's.

    Args:
        store: Holding the data set.
        directory: Its name.
        journaled: Name -> upload id.

    Raises:
        TargetError: The store refuses.
    """
    known = set(journaled.items())
    cut = len(directory) + 1
    listed = {
        (name, upload)
        for name, upload in store.uploads(f"{directory}/{DATA_NAME}/")
        if _is_data(name[cut:])
    }
    for name, upload in sorted(known | listed):
        store.abort(name, upload)
    return len(known | listed)


class _Maker:
    """One call's work."""

    def __init__(
        self,
        store: ObjectStore,
        directory: str,
        dataset: Dataset,
        journal: ObjectJournal,
        progress: OnProgress,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._directory = directory
        self._dataset = dataset
        self._journal = journal
        self._progress = progress
        self._clock = clock
        self._sizes = file_sizes(dataset)
        self._counts = samples_in_files(dataset)
        self._stop = threading.Event()
        self._scratch = threading.local()
        self._lock = threading.Lock()
        self._bytes = 0
        self._todo: Iterator[int] = iter(())

    def run(self, workers: int, found: dict[str, Entry]) -> None:
        """Make what is missing; objects under way are aborted on any way out but the good one."""
        resumed = bool(self._journal.done)
        for index in [i for i in self._journal.done if not self._is_whole(i, found)]:
            del self._journal.done[index]
        todo = [i for i in range(len(self._sizes)) if i not in self._journal.done]
        total = int(self._sizes[todo].sum())
        action = "resuming" if resumed else "making"
        begin = self._clock()
        self._todo = iter(todo)
        with ThreadPoolExecutor(workers, thread_name_prefix="make") as pool:
            futures = {pool.submit(self._work) for _ in range(workers)}
            try:
                while futures:
                    finished, futures = wait(futures, REPORT_SECONDS, FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                    self._progress(
                        Progress(
                            action,
                            len(self._journal.done),
                            len(self._sizes),
                            self._bytes,
                            total,
                            self._clock() - begin,
                        )
                    )
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _is_whole(self, index: int, found: dict[str, Entry]) -> bool:
        entry = found.get(object_name(self._dataset, index))
        return (
            entry is not None
            and entry.size == self._sizes[index]
            and entry.etag == self._journal.done[index][1]
        )

    def _work(self) -> None:
        self._scratch.buffer = memoryview(bytearray(SCRATCH_BYTES))
        while not self._stop.is_set():
            with self._lock:
                index = next(self._todo, None)
            if index is None:
                return
            try:
                self._make(index)
            except _Stopped:
                return

    def _make(self, index: int) -> None:
        checksum = Crc32c()
        entry = self._store.write(
            f"{self._directory}/{object_name(self._dataset, index)}",
            int(self._sizes[index]),
            self._parts(index, checksum),
            on_upload=self._journal.upload,
        )
        self._journal.add(index, checksum.value, entry.etag)

    def _parts(self, index: int, checksum: Crc32c) -> Iterator[tuple[int, memoryview]]:
        size, count = int(self._sizes[index]), int(self._counts[index])
        for offset, part in file_parts(self._dataset, index, size, count, self._scratch.buffer):
            if self._stop.is_set():
                raise _Stopped
            checksum.add(offset, part)
            yield offset, part
            with self._lock:
                self._bytes += len(part)


class _Stopped(Exception):  # noqa: N818 - no error
    """The maker was told to stop in the middle of an object."""


def check_objects(
    store: ObjectStore, directory: str, manifest: Manifest, *, expected: Dataset | None
) -> None:
    """Compare names, sizes and ETags with the manifest, by one listing.

    Raises:
        DatasetError: Objects are missing, of another size or written anew, or the data set is
            another one than expected. Names the first few and counts the rest.
        TargetError: The store refuses.
    """
    place = store.url(directory)
    if expected is not None and dataset_hash(expected) != dataset_hash(manifest.dataset):
        raise DatasetError(place, "holds another data set than the workload describes", REMAKE)
    cut = len(directory) + 1
    found = {e.name[cut:]: e for e in store.entries(f"{directory}/{DATA_NAME}/")}
    problems = []
    etags = manifest.etags if manifest.etags is not None else np.array([b""] * len(manifest.names))
    rows = zip(manifest.names.tolist(), manifest.size_bytes.tolist(), etags.tolist(), strict=True)
    for raw, size, etag in rows:
        name = raw.decode()
        entry = found.get(name)
        if entry is None:
            problems.append(f"{name} is missing")
        elif entry.size != size:
            problems.append(f"{name} has {entry.size} bytes instead of {size}")
        elif etag and entry.etag != etag.decode():
            problems.append(f"{name} was written anew: its ETag is not the manifest's")
    raise_problems(place, problems)


def raise_problems(place: str, problems: list[str]) -> None:
    """Raise what is wrong with a data set, if anything.

    Raises:
        DatasetError: Names the first few and counts the rest.
    """
    if problems:
        more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise DatasetError(place, "; ".join(problems[:MAX_NAMED]) + more, REMAKE)


def remove_objects(store: ObjectStore, directory: str) -> None:
    """Remove a data set that bench made, its unfinished uploads too; nothing where there is none.

    Raises:
        DatasetError: Foreign objects stand in it, or another process is making it.
        TargetError: The store refuses.
    """
    _listed(store, directory)
    refuse_maker(store, directory)
    abort_uploads(store, directory, {})
    entries = list(store.entries(f"{directory}/"))
    # The manifest goes last: what is left of a removal that is cut off is still known as ours.
    last = [e for e in entries if e.name.endswith((f"/{MANIFEST_NAME}", f"/{SESSION_NAME}"))]
    rest = [e for e in entries if e not in last]
    with ThreadPoolExecutor(REMOVE_THREADS, thread_name_prefix="remove") as pool:
        list(pool.map(store.delete, rest))
    for entry in last:
        store.delete(entry)
