"""Read every byte of a data set's objects and compare checksums; nothing here is timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from bench.dataset.checksums import crc32c
from bench.dataset.manifest import Manifest
from bench.dataset.objects import check_objects, raise_problems
from bench.dataset.progress import REPORT_SECONDS, OnProgress, Progress
from bench.storage.object.store import ObjectStore

__all__ = ["verify_objects"]

CHUNK_BYTES = 2**20


def verify_objects(
    store: ObjectStore,
    directory: str,
    manifest: Manifest,
    *,
    workers: int,
    progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read every object and compare its checksum with the manifest's.

    Args:
        store: Holding the data set.
        directory: Its name.
        manifest: Of the data set.
        workers: Threads.
        progress: Called a few times a second.
        clock: For rates.

    Raises:
        DatasetError: Names the damaged objects.
        TargetError: The store refuses.
    """
    check_objects(store, directory, manifest, expected=None)
    todo = iter(range(len(manifest.names)))
    damaged: list[int] = []
    counts = [0, 0]  # objects, bytes
    lock, stop = threading.Lock(), threading.Event()
    begin = clock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                index = next(todo, None)
            if index is None:
                return
            name = f"{directory}/{manifest.names[index].decode()}"
            crc = 0
            for chunk in store.stream(name, chunk_bytes=CHUNK_BYTES):
                crc = crc32c(chunk, crc)
                with lock:
                    counts[1] += len(chunk)
                if stop.is_set():
                    return
            with lock:
                counts[0] += 1
                if crc != int(manifest.crc32c[index]):
                    damaged.append(index)

    with ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool:
        futures = {pool.submit(work) for _ in range(workers)}
        try:
            while futures:
                finished, futures = wait(futures, REPORT_SECONDS, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                progress(
                    Progress(
                        "verifying",
                        counts[0],
                        len(manifest.names),
                        counts[1],
                        manifest.total_bytes,
                        clock() - begin,
                    )
                )
        finally:
            stop.set()
    names = [manifest.names[index].decode() for index in sorted(damaged)]
    raise_problems(store.url(directory), [f"{n} differs from what was written" for n in names])
