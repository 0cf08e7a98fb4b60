"""One table: our loader beside fio and a plain C loop, on the same files, interleaved.

Every row is a ratio of passes taken in turn within one run, since the machine's speed drifts:
the geometric mean over pairs with its 95 % interval (Student's t on logs).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from bench.dataset.manifest import Manifest
from bench.dataset.order import epoch_batches
from bench.spec.documents import Access, Dataset
from benchmarks.drive import BLOCK_BYTES, Files, evict, make_files, read_all, warm

THREADS = 4
FULL_RING_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    other: str
    ratio: str
    target: str


def fio(files: Files, *, direct: bool, passes: int) -> float:
    """Return fio's bytes per second: as many jobs as threads, each over its own files."""
    jobs = []
    for job in range(THREADS):
        mine = ":".join(str(files.directory / name) for name in files.names[job::THREADS])
        jobs += [f"--name=job{job}", f"--filename={mine}", f"--loops={passes}"]
    options = [
        "--rw=read", "--bs=4m", "--ioengine=psync", "--iomem_align=4k", f"--direct={int(direct)}",
        "--invalidate=0", "--group_reporting", "--thread", "--output-format=json",
        "--file_service_type=sequential",
    ]  # fmt: skip
    done = subprocess.run(["fio", *options, *jobs], capture_output=True, text=True, check=True)
    read = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]
    return float(read["io_bytes"]) / (float(read["runtime"]) / 1e3)


def cloop(program: Path, files: Files, *, direct: bool, passes: int) -> float:
    """Return the C loop's bytes per second."""
    names = program.with_suffix(".names")
    names.write_text("\n".join(files.names) + "\n")
    done = subprocess.run(
        [
            program, files.directory, names, str(THREADS), str(BLOCK_BYTES),
            str(FULL_RING_SLOTS), str(int(direct)), str(passes),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def compare(
    what: str,
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    before: Callable[[], None],
    pairs: int,
    target: str,
) -> Row:
    """Take passes in turn (A B B A) and return the ratio."""
    a, b = [], []
    for pair in range(pairs):
        sides = [(a, ours), (b, other)]
        for kept, measure in sides if pair % 2 == 0 else reversed(sides):
            before()
            kept.append(measure())
        print(f"  {what}: pair {pair + 1} of {pairs}: {a[-1] / b[-1]:.2f}", file=sys.stderr)
    logs = np.log(np.array(a) / np.array(b))
    half = stats.t.ppf(0.975, pairs - 1) * logs.std(ddof=1) / math.sqrt(pairs) if pairs > 1 else 0
    middle = logs.mean()
    return Row(
        what,
        f"{statistics.median(a) / 1e9:.2f} GB/s",
        f"{statistics.median(b) / 1e9:.2f} GB/s",
        f"{math.exp(middle):.2f} [{math.exp(middle - half):.2f}, {math.exp(middle + half):.2f}]",
        target,
    )


def loader_rows(work: Path, *, pairs: int, large_bytes: int, small_files: int) -> list[Row]:
    """Compare the loader on large and on small files, cold and hot."""
    large = make_files(work / "large", sizes=[large_bytes // 8] * 8)
    rng = np.random.default_rng(2)
    small = make_files(work / "small", sizes=rng.integers(100_000, 300_000, small_files).tolist())
    program = work / "cloop"
    source = Path(__file__).with_name("cloop.c")
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, source], check=True)

    def rate(files: Files, mode: str, slots: int, *, batch: int = 1, passes: int = 1) -> float:
        return read_all(
            files, mode=mode, threads=THREADS, slots=slots, batch=batch, passes=passes
        ).bytes_per_second

    def row(what: str, target: str, files: Files, *, cold: bool, slots: int, vs_fio: bool) -> Row:
        passes = 1 if cold else 3
        batch = 1 if files is large else 32
        mode = "direct" if cold else "buffered"
        return compare(
            what,
            lambda: rate(files, mode, slots, batch=batch, passes=passes),
            (lambda: fio(files, direct=cold, passes=passes))
            if vs_fio
            else (lambda: cloop(program, files, direct=cold, passes=passes)),
            before=(lambda: evict(files)) if cold else (lambda: warm(files)),
            pairs=pairs,
            target=target,
        )

    few = THREADS + 1  # fio keeps one block a job; one more so that no reader waits for a slot
    return [
        row("cold, O_DIRECT, 4 MiB x 4, against fio psync", ">= 0.95", large,
            cold=True, slots=FULL_RING_SLOTS, vs_fio=True),
        row("hot, 4 MiB x 4, null device, 20 MiB of slots, against fio (16 MiB)", ">= 0.90",
            large, cold=False, slots=few, vs_fio=True),
        row("hot, 4 MiB x 4, null device, full ring of 256 MiB, against fio (16 MiB)", "-",
            large, cold=False, slots=FULL_RING_SLOTS, vs_fio=True),
        row("small files (100-300 KB), hot, against a C loop", ">= 0.8", small,
            cold=False, slots=FULL_RING_SLOTS, vs_fio=False),
        row("small files (100-300 KB), cold, O_DIRECT, against a C loop", ">= 0.8", small,
            cold=True, slots=FULL_RING_SLOTS, vs_fio=False),
    ]  # fmt: skip


def cost_rows(work: Path, *, pairs: int) -> list[Row]:
    """Measure what the harness itself costs."""
    files = Files(work / "large", [f"f{i:05d}" for i in range(8)], [])
    sizes = [(files.directory / name).stat().st_size for name in files.names]
    files = Files(files.directory, files.names, sizes)
    warm(files)
    samples = [
        read_all(files, mode="buffered", threads=THREADS, slots=FULL_RING_SLOTS, passes=3)
        for _ in range(max(3, pairs // 4))
    ]
    cpu = statistics.median(sample.cpu_seconds_per_gb for sample in samples)
    pss = max(max(s.rank_pss_bytes, s.reader_pss_bytes) for s in samples)
    helps = [_seconds([sys.executable, "-m", "bench", "--help"]) for _ in range(5)]
    dataset = Dataset(format="raw", samples=100_000, sample_bytes={"mean": 4096})
    begin = time.perf_counter()
    manifest = Manifest.synthetic("plan", dataset)
    batches = sum(
        1
        for _ in epoch_batches(
            manifest, Access(), batch_size=8, rank=0, num_ranks=1, epoch=0, seed=1
        )
    )
    planning = time.perf_counter() - begin
    return [
        Row("CPU per GB, hot, 4 MiB blocks", f"{cpu:.3f} s", "-", "-", "<= 0.15 s"),
        Row("largest PSS of a process beside the ring", f"{pss / 1e6:.0f} MB", "-", "-", "<= 120"),
        Row("`bench --help`", f"{statistics.median(helps):.3f} s", "-", "-", "< 0.3 s"),
        Row(f"planning 100,000 files ({batches} batches)", f"{planning:.2f} s", "-", "-", "< 2 s"),
    ]


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - begin


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--large-bytes", type=int, default=1024 * 2**20)
    parser.add_argument("--small-files", type=int, default=1500)
    parser.add_argument("--directory", default=".", help="where files are made (and removed)")
    options = parser.parse_args()
    for tool in ("fio", "cc"):
        if shutil.which(tool) is None:
            print(f"benchmarks: {tool} is missing; install it and run again", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix=".bench-speed-", dir=options.directory) as name:
        work = Path(name)
        rows = loader_rows(
            work,
            pairs=options.pairs,
            large_bytes=options.large_bytes,
            small_files=options.small_files,
        )
        rows += cost_rows(work, pairs=options.pairs)
    print(f"Medians; ratio = geometric mean of {options.pairs} interleaved pairs, 95 % interval.\n")
    print("| what | ours | other | ratio | target |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.other} | {row.ratio} | {row.target} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
