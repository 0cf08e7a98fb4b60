"""Small data sets of every format, and a clock that nobody reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.dataset.generate import generate
from bench.dataset.manifest import Manifest
from bench.dataset.shape import directory_name
from bench.spec.documents import Dataset, SampleBytes

FORMATS = ("npz", "tfrecord", "jpeg", "raw")


def describe(
    format: str = "raw",
    *,
    samples: int = 6,
    mean: int = 50_000,
    stdev: int = 0,
    samples_per_file: int = 1,
    seed: int = 1,
) -> Dataset:
    return Dataset(
        format=format,  # type: ignore[arg-type]
        samples=samples,
        samples_per_file=samples_per_file,
        sample_bytes=SampleBytes(mean=mean, stdev=stdev),
        seed=seed,
    )


class Made:
    """A data set on disk."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root = root
        self.dataset = dataset
        self.directory = root / directory_name("test", dataset)
        self.manifest = generate(root, "test", dataset, workers=2, progress=lambda _: None)

    def path(self, index: int) -> Path:
        return self.directory / self.manifest.names[index].decode()


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    return describe


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Make a data set from the arguments of `describe`."""

    def made(*args: object, **options: object) -> Made:
        return Made(tmp_path, describe(*args, **options))  # type: ignore[arg-type]

    return made


@pytest.fixture
def synthetic() -> Callable[..., Manifest]:
    return lambda *args, **options: Manifest.synthetic("test", describe(*args, **options))
