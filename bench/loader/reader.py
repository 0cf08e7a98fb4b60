"""A reader process: threads that take requests from one pipe and read into the ring.

Started as `python -m bench.loader.reader` with its configuration as JSON on standard input,
before any device exists, never by fork. Imports the standard library only, so that it starts
in some 50 ms and stays near 12 MB. It ends when the request pipe is closed, and the kernel
kills it when the rank dies.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys
import threading
import time
import zlib
from typing import Any

from bench.loader.wire import COMPLETION, DESCRIPTOR, MAX_EXTENTS, REQUEST
from bench.storage.base import Backend, ReadStats, StorageReadError
from bench.storage.posix import FileTable, PosixBackend
from bench.storage.simulated import NullBackend, SimulatedBackend

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
DECODE_CHUNK_BYTES = 65536
"""zlib.crc32 of this much takes some 20 us with the GIL released: the emulated decoder's grain."""

clock_ns = time.perf_counter_ns
cpu_ns = time.thread_time_ns


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; exit if that has happened."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def open_backend(config: dict[str, Any]) -> Backend:
    """Return the backend that the configuration names; opens no data."""
    settings = config["settings"]
    match config["backend"]:
        case "posix":
            table = mmap.mmap(settings["table_fd"], 0, prot=mmap.PROT_READ)
            view = memoryview(table)
            sizes_at, width = settings["sizes_at"], settings["name_width"]
            files = FileTable(view[:sizes_at], width, view[sizes_at:])
            return PosixBackend(
                settings["root"], files, mode=settings["mode"], align_bytes=settings["align_bytes"]
            )
        case "simulated":
            return SimulatedBackend(settings.pop("state_fd"), **settings)
        case "null":
            return NullBackend()
        case "object":
            from bench.storage.object.opening import open_objects

            return open_objects(settings)
        case other:
            raise ValueError(f"unknown backend {other!r}")


def run_delay_ns(schedstat_fd: int) -> int:
    """Return how long this thread has been runnable without running, since it started."""
    return int(os.pread(schedstat_fd, 64, 0).split()[1])


def burn_cpu(slot: memoryview, duration_ns: int) -> None:
    """Use this thread's CPU for a time, with the GIL released as real decoders do."""
    end = cpu_ns() + duration_ns
    chunk = slot[:DECODE_CHUNK_BYTES]
    while cpu_ns() < end:
        zlib.crc32(chunk)


def serve(
    backend: Backend,
    ring: memoryview,
    descriptors: memoryview,
    config: dict[str, Any],
    thread: int,
) -> None:
    """Serve requests until the request pipe is closed."""
    requests, completions = config["request_fd"], config["completion_fd"]
    reader_index, slot_bytes = config["reader"], config["slot_bytes"]
    decode_ns = config["decode_ns_per_sample"]
    area = DESCRIPTOR.size * MAX_EXTENTS
    access = backend.thread_reader()
    stats = ReadStats()
    schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    waited = run_delay_ns(schedstat)
    while message := os.read(requests, REQUEST.size):
        start = clock_ns()
        cpu = cpu_ns()
        delay = run_delay_ns(schedstat)
        piece, index, num_extents, num_samples = REQUEST.unpack(message)
        slot = ring[index * slot_bytes : (index + 1) * slot_bytes]
        base = index * area
        extents = list(
            DESCRIPTOR.iter_unpack(descriptors[base : base + num_extents * DESCRIPTOR.size])
        )
        stats.reset()
        code, file, found = 0, -1, 0
        try:
            access.read(piece, extents, slot, stats)  # type: ignore[arg-type]
        except StorageReadError as error:
            code, file, found = error.code or -1, error.file, error.found_bytes
        read_end = ready = clock_ns()
        read_cpu = cpu_ns()
        decode_cpu = 0
        if decode_ns and num_samples and not code:
            burn_cpu(slot, decode_ns * num_samples)
            decode_cpu = cpu_ns() - read_cpu
            ready = clock_ns()
        delay_end = run_delay_ns(schedstat)
        done = COMPLETION.pack(
            piece, index, reader_index, thread, code,
            stats.retries, stats.short_reads, stats.fallback_reads, stats.slow_downs,
            file, found, stats.transferred_bytes, start, read_end, ready,
            stats.open_ns, stats.first_byte_ns, read_cpu - cpu, decode_cpu,
            delay_end - delay, delay - waited,
        )  # fmt: skip
        waited = delay_end
        os.write(completions, done)
    os.close(schedstat)
    access.close()


def _guarded(*args: Any) -> None:
    """Let any failure of a thread end the whole process, loudly: a silent thread is a hang."""
    try:
        serve(*args)
    except BrokenPipeError:
        os._exit(0)  # the rank is gone; so is whoever would read a message
    except BaseException:  # noqa: BLE001 - reported, and the process ends
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(70)


def main() -> None:
    """Run a reader process."""
    config = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what Ctrl-C means
    die_with_parent(config["rank_pid"])
    ring = memoryview(mmap.mmap(config["ring_fd"], 0))
    descriptors = memoryview(mmap.mmap(config["descriptor_fd"], 0, prot=mmap.PROT_READ))
    for start in range(0, len(ring), mmap.PAGESIZE):
        ring[start]  # map the pages now, not inside the first reads
    backend = open_backend(config)
    threads = [
        threading.Thread(
            target=_guarded, args=(backend, ring, descriptors, config, index), daemon=True
        )
        for index in range(config["threads"])
    ]
    for thread in threads:
        thread.start()
    os.write(config["ready_fd"], b"r")
    os.close(config["ready_fd"])
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
