"""The object engines beside a bare socket loop and each other, on one S3 server on loopback.

All read the same ranges of the same objects into a ring of the same size, in passes taken in
turn. `python -m benchmarks.object_engines` prints the table; versitygw must be in the test
cluster's cache, or Go at hand to build it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from bench.loader.pool import SourceConfig
from bench.loader.ring import Ring
from bench.spec.documents import Io, ObjectPrefix
from bench.storage.base import Entry
from bench.storage.object.access import Access, open_access
from bench.storage.object.cell import CredentialReader
from bench.storage.object.connection import Endpoint
from bench.storage.object.engines.target import engine_version
from bench.storage.object.http import HttpClient
from bench.storage.object.source import ObjectSource
from bench.storage.object.store import ObjectStore
from benchmarks.drive import Files, drive
from tests.servers.versitygw import program, running

ENGINES = ("http", "boto3", "obstore", "s3torchconnector", "s3fs")
BLOCK_BYTES = 8 * 2**20
PROCESSES = 2


class Ground:
    """Objects on a server, and passes over them; each gives (bytes per second, CPU s per GB)."""

    def __init__(self, access: Access, entries: list[Entry], *, threads: int, passes: int) -> None:
        self.access = access
        self.entries = entries
        self.threads = threads
        self.passes = passes
        self.files = Files(Path(), [e.name for e in entries], [e.size for e in entries])

    @contextlib.contextmanager
    def source(self, engine: str) -> Iterator[ObjectSource]:
        source = ObjectSource(
            self.access,
            Io(engine=engine),  # type: ignore[arg-type]
            prefix=self.access.place.key(""),
            names=np.array([e.name.encode() for e in self.entries]),
            sizes=np.array([e.size for e in self.entries], np.int64),
            etags=np.array([e.etag.encode() for e in self.entries]),
            seed=1,
        )
        try:
            yield source
        finally:
            source.close()

    def engine(self, name: str) -> tuple[float, float]:
        with self.source(name) as source:
            sample = drive(
                SourceConfig("object", source.settings, source.fds),
                self.files,
                threads=self.threads,
                slots=2 * self.threads,
                passes=self.passes,
                block_bytes=BLOCK_BYTES,
            )
        return sample.bytes_per_second, sample.cpu_seconds_per_gb

    def socket_loop(self) -> tuple[float, float]:
        ring = Ring(2 * self.threads, BLOCK_BYTES)
        with self.source("http") as source:
            jobs = self._jobs(source)
        shares = [range(p, self.threads, PROCESSES) for p in range(PROCESSES)]
        location = self.access.location
        children = []
        for share in shares:
            config = {
                "host": location.host, "port": location.port, "ring_fd": ring.fd,
                "slot_bytes": BLOCK_BYTES,
                "threads": [[[2 * t, 2 * t + 1], jobs[t :: self.threads]] for t in share],
            }  # fmt: skip
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.socket_loop"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, pass_fds=(ring.fd,), text=True,
            )  # fmt: skip
            assert child.stdin is not None
            child.stdin.write(json.dumps(config))
            child.stdin.close()
            children.append(child)
        told = [json.loads(child.stdout.read()) for child in children if child.stdout]
        for child in children:
            child.wait()
        total = sum(e.size for e in self.entries) * self.passes
        seconds = max(end for _, end, _ in told) - min(begin for begin, _, _ in told)
        return total / seconds, sum(cpu for _, _, cpu in told) / (total / 1e9)

    def _jobs(self, source: ObjectSource) -> list[tuple[str, int]]:
        location = self.access.location
        endpoint = Endpoint(
            location.host, location.port, tls=None, connect_timeout_seconds=5, timeout_seconds=5
        )
        client = HttpClient(location, endpoint, CredentialReader(source.fds[1]))
        jobs = []
        for entry in self.entries:
            for at in range(0, entry.size, BLOCK_BYTES):
                end = min(entry.size, at + BLOCK_BYTES)
                line = f"Range: bytes={at}-{end - 1}\r\n"
                path = self.access.place.key(entry.name)
                jobs.append((client.request("GET", path, headers=line).decode(), end - at))
        return jobs * self.passes


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the geometric mean of pairs with its 95 % interval (Student's t on logs)."""
    logs = np.log(np.array(ours) / np.array(theirs))
    if len(logs) < 2:
        return f"{math.exp(logs[0]):.2f}"
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, high = math.exp(logs.mean() - half), math.exp(logs.mean() + half)
    return f"{math.exp(logs.mean()):.2f} [{low:.2f}, {high:.2f}]"


def measure(ground: Ground, *, pairs: int) -> dict[str, list[tuple[float, float]]]:
    """Take all clients in turn, forwards and backwards; one unmeasured turn first."""
    engines = [e for e in ENGINES if e == "http" or engine_version(e) is not None]
    kinds = ["socket loop", *engines]
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for turn in range(pairs + 1):
        for kind in kinds if turn % 2 == 0 else reversed(kinds):
            sample = ground.socket_loop() if kind == "socket loop" else ground.engine(kind)
            if turn:
                found[kind].append(sample)
        print(f"  turn {turn} of {pairs}", file=sys.stderr)
    return found


def table(found: dict[str, list[tuple[float, float]]], *, what: str) -> None:
    """Print a line a client; the target is that of the engine `http`."""
    rates = {kind: [rate for rate, _ in samples] for kind, samples in found.items()}
    targets = {"socket loop": ">= 0.95", "s3fs": ">= 3"}
    print(
        f"\n{what}\n\n| client | GB/s | CPU s/GB | http / client | target |\n|---|---|---|---|---|"
    )
    for kind, samples in found.items():
        cpu = statistics.median(cost for _, cost in samples)
        against = "-" if kind == "http" else ratio(rates["http"], rates[kind])
        target = "CPU <= 0.6" if kind == "http" else targets.get(kind, ">= 1.3")
        rate = statistics.median(rates[kind]) / 1e9
        print(f"| {kind} | {rate:.2f} | {cpu:.2f} | {against} | {target} |")


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_engines")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--object-bytes", type=int, default=64 * 2**20)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    path = program()
    if path is None:
        print("benchmarks: versitygw is missing, and Go to build it", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix=".bench-objects-", dir=".") as name,
        running(path, Path(name).resolve()) as server,
    ):
        os.environ.update(server.environment)
        server.bucket("bench")
        access = open_access(ObjectPrefix(url="s3://bench/x", endpoint_url=server.url))
        store = ObjectStore(access)
        rng = np.random.default_rng(1)
        entries = []
        for index in range(options.objects):
            data = memoryview(rng.bytes(options.object_bytes))
            entries.append(store.write(f"o{index:04d}", len(data), [(0, data)]))
        ground = Ground(access, entries, threads=options.threads, passes=options.passes)
        begin = time.perf_counter()
        found = measure(ground, pairs=options.pairs)
        seconds = time.perf_counter() - begin
    what = (
        f"{options.objects} objects of {options.object_bytes / 2**20:.0f} MiB, ranges of 8 MiB, "
        f"{options.threads} in flight, http on loopback, {options.pairs} turns in {seconds:.0f} s"
    )
    table(found, what=what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
