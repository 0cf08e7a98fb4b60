"""How fast data sets are made, beside fio's sequential write and one core's own ceiling.

`python -m benchmarks.generator DIRECTORY`: each format is made in turn with a pass of fio, on
the same disk. Both are durable at the end (fdatasync, --end_fsync). The bar of npz, tfrecord
and raw is 80 % of the lower of the two; jpeg is as fast as Pillow encodes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.dataset.checksums import Crc32c
from bench.dataset.content import SCRATCH_BYTES, file_parts
from bench.dataset.generate import generate, remove
from bench.dataset.shape import directory_name, file_sizes, samples_in_files
from bench.spec.documents import Dataset

__all__ = ["main"]

SHAPES = {
    "npz": {"samples": 10, "sample_bytes": {"mean": 146_600_628}},
    "tfrecord": {
        "samples": 12_510, "samples_per_file": 1251, "sample_bytes": {"mean": 114_660},
    },
    "raw": {"samples": 350, "sample_bytes": {"mean": 4 * 2**20}},
    "jpeg": {"samples": 1500, "sample_bytes": {"mean": 322_957}},
}  # fmt: skip
"""Of unet3d, resnet50, smoke and retinanet."""


def fio_rate(directory: Path, num_bytes: int) -> float:
    """Return bytes per second of one sequential writer, direct, 4 MiB a call."""
    options = [
        "--name=write", f"--directory={directory}", "--rw=write", "--bs=4M", f"--size={num_bytes}",
        "--ioengine=psync", "--direct=1", "--iomem_align=4k", "--end_fsync=1", "--unlink=1",
        "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(["fio", *options], capture_output=True, text=True, check=True)
    write = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["write"]
    return float(write["io_bytes"]) / (float(write["runtime"]) / 1e3)


def core_rate(dataset: Dataset) -> float:
    """Return bytes per CPU second of making and checksumming, without writing."""
    buffer = memoryview(bytearray(SCRATCH_BYTES))
    sizes, counts = file_sizes(dataset).tolist(), samples_in_files(dataset).tolist()
    begin = time.process_time()
    for index in range(len(sizes)):
        checksum = Crc32c()
        for offset, part in file_parts(dataset, index, sizes[index], counts[index], buffer):
            checksum.add(offset, part)
    return float(sum(sizes)) / (time.process_time() - begin)


def made_rate(root: Path, dataset: Dataset, workers: int) -> float:
    """Return bytes per second of `generate`, to the medium."""
    begin = time.perf_counter()
    manifest = generate(root, "rate", dataset, workers=workers, progress=lambda _: None)
    seconds = time.perf_counter() - begin
    remove(root / directory_name("rate", dataset))
    return manifest.total_bytes / seconds


def main() -> None:
    """Print a line a format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-rate-", dir=options.directory) as name:
        root = Path(name)
        for kind, shape in SHAPES.items():
            dataset = Dataset.model_validate({"format": kind, **shape})
            ratios, rows = [], []
            for _ in range(options.passes):
                fio = fio_rate(root, int(file_sizes(dataset).sum()))
                core = core_rate(dataset)
                made = made_rate(root, dataset, options.workers)
                ratios.append(made / min(fio, core))
                rows.append((made, fio, core))
            made, fio, core = (
                statistics.median(column) / 1e9 for column in zip(*rows, strict=True)
            )
            mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
            print(
                f"{kind:9} made {made:5.2f} GB/s   fio {fio:5.2f} GB/s   one core {core:5.2f} GB/s"
                f"   made / lower {mean:4.0%} ({min(ratios):.0%} to {max(ratios):.0%})"
            )


if __name__ == "__main__":
    main()
