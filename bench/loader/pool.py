"""Reader processes of one rank: start, feed, listen, notice deaths, stop."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import InfrastructureError, ReadFailed
from bench.loader.ring import Ring
from bench.loader.wire import COMPLETION, MAX_MESSAGES, REQUEST, Completion
from bench.storage.object.faults import Fault, describe

__all__ = ["ReaderPool", "SourceConfig", "make_file_table"]

PIPE_BYTES = 1 << 20
"""Asked for on both pipes: the most that an unprivileged process may (fs/pipe-max-size)."""

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0


class SourceConfig:
    """What readers read from: a backend name, its settings, descriptors that it needs.

    Args:
        backend: posix, simulated or null.
        settings: JSON-compatible settings of the backend; values that name descriptors are
            passed through under the same number.
        fds: Those descriptors.
    """

    def __init__(self, backend: str, settings: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        self.backend = backend
        self.settings = settings
        self.fds = fds


def make_file_table(names: NDArray[np.bytes_], sizes: NDArray[np.int64]) -> tuple[int, int, int]:
    """Put a data set's names and sizes into memory that all readers share.

    Args:
        names: Shape (N,), fixed-width bytes.
        sizes: Shape (N,), bytes of each file.

    Returns:
        Descriptor of the table, byte offset of the sizes, width of a name.
    """
    width = names.dtype.itemsize
    sizes_at = (len(names) * width + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
    fd = os.memfd_create("bench-files")
    os.ftruncate(fd, sizes_at + 8 * len(names))
    with mmap.mmap(fd, 0) as table:
        table[: len(names) * width] = names.tobytes()
        table[sizes_at:] = sizes.astype("<i8").tobytes()
    return fd, sizes_at, width


class ReaderPool:
    """The reader processes of one rank.

    Args:
        ring: Where they read into.
        source: What they read from.
        num_processes: Reader processes.
        num_threads: Threads over all of them.
        decode_seconds_per_sample: CPU time of the emulated decoder; 0 for none.

    Raises:
        InfrastructureError: A reader did not start.
    """

    def __init__(
        self,
        ring: Ring,
        source: SourceConfig,
        *,
        num_processes: int,
        num_threads: int,
        decode_seconds_per_sample: float = 0.0,
    ) -> None:
        self.num_threads = num_threads
        self._ring = ring
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pidfds: dict[int, int] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pool
        request_read, self._request_write = os.pipe2(os.O_CLOEXEC)
        self.completion_fd, completion_write = os.pipe2(os.O_CLOEXEC)
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        for fd in (self._request_write, self.completion_fd):
            # The default of 64 KiB can be all there is left; requests never outnumber slots.
            try:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                continue
        self.max_requests = fcntl.fcntl(self._request_write, fcntl.F_GETPIPE_SZ) // REQUEST.size
        os.set_blocking(self.completion_fd, False)
        self._rest = b""
        num_processes = min(num_processes, num_threads)
        shares = [
            num_threads // num_processes + (i < num_threads % num_processes)
            for i in range(num_processes)
        ]
        fds = (
            ring.fd, ring.descriptor_fd, request_read, completion_write, ready_write, *source.fds,
        )  # fmt: skip
        try:
            for index, share in enumerate(shares):
                config = {
                    "reader": index,
                    "threads": share,
                    "rank_pid": os.getpid(),
                    "ring_fd": ring.fd,
                    "descriptor_fd": ring.descriptor_fd,
                    "slot_bytes": ring.slot_bytes,
                    "request_fd": request_read,
                    "completion_fd": completion_write,
                    "ready_fd": ready_write,
                    "decode_ns_per_sample": int(decode_seconds_per_sample * 1e9),
                    "backend": source.backend,
                    "settings": source.settings,
                }
                self._start(config, fds)
            for fd in (request_read, completion_write, ready_write):
                os.close(fd)
            self._await_ready(ready_read, num_processes)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ready_read)

    def _start(self, config: dict[str, Any], fds: tuple[int, ...]) -> None:
        package_parent = str(Path(__file__).resolve().parents[2])
        environment = dict(os.environ)
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = (
            f"{package_parent}{os.pathsep}{inherited}" if inherited else package_parent
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.loader.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            pass_fds=fds,
            env=environment,
        )
        self._processes.append(process)
        self._pidfds[os.pidfd_open(process.pid)] = len(self._processes) - 1
        stdin = process.stdin
        if stdin is not None:
            try:
                stdin.write(json.dumps(config).encode())
                stdin.close()
            except BrokenPipeError:
                self.raise_if_dead()

    def _await_ready(self, ready_fd: int, count: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        poll = select.poll()
        poll.register(ready_fd, select.POLLIN)
        for fd in self._pidfds:
            poll.register(fd, select.POLLIN)
        while count:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise InfrastructureError(
                    "reader processes",
                    f"{count} did not start within {START_TIMEOUT_SECONDS:.0f} s",
                    "the host is overloaded; run again when it is idle",
                )
            self.raise_if_dead()
            count -= len(os.read(ready_fd, count))

    @property
    def pids(self) -> list[int]:
        """Process ids, by reader index."""
        return [process.pid for process in self._processes]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all readers so far, by their CPU-time clocks.

        The clock id of a process is (~pid << 3) | 2 (clock_getcpuclockid(3), Linux ABI); /proc
        counts in ticks of 10 ms only.
        """
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)

    @property
    def pidfds(self) -> list[int]:
        """Descriptors that poll readable when a reader has ended."""
        return list(self._pidfds)

    def request(self, messages: list[bytes]) -> None:
        """Hand packed REQUEST messages to the readers; never blocks below `max_requests`."""
        for first in range(0, len(messages), MAX_MESSAGES):
            try:
                os.write(self._request_write, b"".join(messages[first : first + MAX_MESSAGES]))
            except BrokenPipeError:
                self.raise_if_dead()
                raise

    def completions(self) -> list[Completion]:
        """Return what has finished since the last call, without blocking."""
        try:
            data = os.read(self.completion_fd, 1 << 16)
        except BlockingIOError:
            return []
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % COMPLETION.size
        self._rest = data[whole:]
        return [Completion(*row) for row in COMPLETION.iter_unpack(data[:whole])]

    def raise_if_dead(self) -> None:
        """Raise when a reader has ended.

        Raises:
            InfrastructureError: Names the reader, how it ended and the last of its messages.
        """
        for index, process in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            how = (
                f"was killed by {signal.Signals(-code).name}"
                if code < 0
                else f"ended with status {code}"
            )
            said = self._last_words()
            remedy = (
                "see the kernel log for an out-of-memory kill, lower plan.ring_bytes"
                if code == -signal.SIGKILL
                else "run again; if it repeats, report it with the message above"
            )
            raise InfrastructureError(
                f"reader process {index} (pid {process.pid})",
                how + (f", saying {said!r}" if said else ""),
                remedy,
            )

    def _last_words(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 2000))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close_requests(self) -> None:
        """Let readers end once they have served what was asked for."""
        if self._request_write >= 0:
            os.close(self._request_write)
            self._request_write = -1

    def close(self) -> None:
        """End the readers and give everything back; idempotent."""
        self.close_requests()
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # stuck in the kernel: it dies when its read returns
        for fd in self._pidfds:
            os.close(fd)
        self._pidfds.clear()
        if self.completion_fd >= 0:
            os.close(self.completion_fd)
            self.completion_fd = -1
        self._stderr.close()


def read_failure(completion: Completion, name: str, expected_bytes: int) -> ReadFailed:
    """Word a failed read.

    Args:
        completion: With a non-zero code.
        name: Path of the object.
        expected_bytes: Its size in the manifest.
    """
    if completion.code == -1:
        return ReadFailed(
            name,
            f"ended at byte {completion.found_bytes} of {expected_bytes}",
            "the file was truncated or replaced; run `bench prepare` to make it again",
        )
    if completion.code < -1:
        problem, remedy = describe(Fault(completion.code), completion.found_bytes)
        tries = f" after {completion.retries} retries" if completion.retries else ""
        return ReadFailed(name, f"read failed for good{tries}: {problem}", remedy)
    reason = os.strerror(completion.code)
    return ReadFailed(
        name,
        f"read failed for good after {completion.retries} retries ({reason})",
        "check the volume and the kernel log, then run again",
    )
