"""What a maker of objects has done, kept in the store itself: whoever comes next can read it.

Below `<data set>/.journal/` lie `session.json`, which says who is at work and which multipart
uploads are open, and `done-*.txt`, lines of "index crc32c etag" for objects that are whole.
Segments are written every few seconds; a maker that dies costs no more than that.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

from bench.dataset.shape import GENERATOR_VERSION, dataset_hash, num_files
from bench.errors import DatasetError
from bench.spec.documents import Dataset
from bench.storage.object.store import ObjectStore

__all__ = ["JOURNAL_NAME", "SESSION_NAME", "ObjectJournal", "owner_identity", "refuse_maker"]

JOURNAL_NAME = ".journal"
SESSION_NAME = f"{JOURNAL_NAME}/session.json"
HEARTBEAT_SECONDS = 10.0
ABANDONED_SECONDS = 45.0
"""Without a sign of life for so long, a maker on another machine counts as dead."""

SEGMENT_SECONDS = 2.0
SEGMENT_ENTRIES = 4096


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def owner_identity() -> dict[str, Any]:
    """Say which process this is: what the kernel, the namespace and the start time tell."""
    stat = _read("/proc/self/stat").rpartition(")")[2].split()
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": os.stat("/proc/self/ns/pid").st_ino,
        "pid": os.getpid(),
        "started": stat[19] if len(stat) > 19 else "",
    }


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether an owner is known to be dead: only one of this machine can be looked at."""
    here = owner_identity()
    if any(owner.get(name) != here[name] for name in ("boot", "namespace")):
        return False
    stat = _read(f"/proc/{owner.get('pid')}/stat").rpartition(")")[2].split()
    return len(stat) <= 19 or stat[19] != owner.get("started") or stat[0] == "Z"


def _refuse_living(owner: dict[str, Any], head: dict[str, Any], place: str) -> None:
    if not _is_dead(owner) and _age_seconds(head) < ABANDONED_SECONDS:
        raise DatasetError(
            place,
            f"process {owner.get('pid')} on {owner.get('host')} is making this data set",
            f"wait for it to finish; one that died is known as dead after "
            f"{ABANDONED_SECONDS:.0f} s",
        )


def refuse_maker(store: ObjectStore, directory: str) -> None:
    """Refuse a data set that another process is making now; a damaged journal is nobody's.

    Raises:
        DatasetError: Names the process.
        TargetError: The store refuses.
    """
    name = f"{directory}/{SESSION_NAME}"
    head = store.head(name)
    if head is None:
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = json.loads(store.get(name))
        if not found["released"]:
            _refuse_living(found["owner"], head, store.url(directory))


class ObjectJournal:
    """The journal of one data set; also the lock of who makes it.

    Args:
        store: Holding the data set.
        directory: Its name below the store's prefix.
        dataset: What is made there.
        clock: For the age of segments.

    Raises:
        DatasetError: Another process is at it, or another version of bench began it.
        TargetError: The store refuses.
    """

    def __init__(
        self,
        store: ObjectStore,
        directory: str,
        dataset: Dataset,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done: dict[int, tuple[int, str]] = {}
        """(CRC-32C, ETag) by index."""
        self.uploads: dict[str, str] = {}
        """Open multipart uploads: name -> upload id; of the maker before, at first."""
        self._store = store
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: list[str] = []
        self._segments = 0
        self._flushed = clock()
        self._stop = threading.Event()
        self._head = {"generator_version": GENERATOR_VERSION, "dataset": dataset_hash(dataset)}
        self._owner = owner_identity()
        self._take_over()
        self._load(num_files(dataset))
        self._save()
        self._heart = threading.Thread(target=self._beat, name="journal", daemon=True)
        self._heart.start()

    def _name(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _take_over(self) -> None:
        head = self._store.head(self._name(SESSION_NAME))
        if head is None:
            return
        place = self._store.url(self._name(SESSION_NAME))
        try:
            found = json.loads(self._store.get(self._name(SESSION_NAME)))
            begun = {name: found[name] for name in self._head}
            owner, released, uploads = found["owner"], found["released"], found["uploads"]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                place, "the journal cannot be read", "run `bench prepare --remake`"
            ) from error
        if begun != self._head:
            raise DatasetError(
                place,
                "the data set was begun by another version of bench",
                "run `bench prepare --remake`",
            )
        if not released:
            _refuse_living(owner, head, self._store.url(self._directory))
        self.uploads = dict(uploads)

    def _load(self, count: int) -> None:
        for entry in self._store.entries(self._name(f"{JOURNAL_NAME}/done-")):
            self._segments += 1
            for line in self._store.get(entry.name).decode(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    index, crc, etag = line.split()
                    if 0 <= int(index) < count:
                        self.done[int(index)] = (int(crc), etag)

    def _save(self, *, released: bool = False) -> None:
        text = json.dumps(
            {**self._head, "owner": self._owner, "released": released, "uploads": self.uploads}
        )
        self._store.put(self._name(SESSION_NAME), text.encode())

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with self._lock, contextlib.suppress(Exception):
                self._save()  # the next one, or the next upload, will tell what is wrong

    def upload(self, name: str, upload: str | None) -> None:
        """Note that a multipart upload is about to get its first part, or has ended."""
        with self._lock:
            if upload is not None:
                self.uploads[name] = upload
            else:
                self.uploads.pop(name, None)
            self._save()

    def add(self, index: int, crc: int, etag: str) -> None:
        """Note an object that is whole."""
        with self._lock:
            self.done[index] = (crc, etag)
            self._fresh.append(f"{index} {crc} {etag}\n")
            late = self._clock() - self._flushed >= SEGMENT_SECONDS
            if late or len(self._fresh) >= SEGMENT_ENTRIES:
                self._flush()

    def _flush(self) -> None:
        if not self._fresh:
            return
        owner = f"{self._owner['host']}-{self._owner['pid']}"
        name = f"{JOURNAL_NAME}/done-{self._segments:06d}-{owner}.txt"
        self._store.put(self._name(name), "".join(self._fresh).encode())
        self._segments += 1
        self._fresh.clear()
        self._flushed = self._clock()

    def release(self) -> None:
        """Stop, and say that the next one may go on at once."""
        self._halt()
        with self._lock:
            self._flush()
            self._save(released=True)

    def _halt(self) -> None:
        self._stop.set()
        self._heart.join()

    def remove(self) -> None:
        """Remove it: the data set is finished."""
        self._halt()
        for entry in list(self._store.entries(self._name(f"{JOURNAL_NAME}/"))):
            self._store.delete(entry)


def _age_seconds(head: dict[str, Any]) -> float:
    """Return how old an object is by the server's own clock."""
    told = head["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        now = parsedate_to_datetime(told)
    except ValueError:
        return 0.0
    return float((now - head["LastModified"]).total_seconds())
