"""Every sample exactly once per epoch over all ranks, in a new, reproducible order each time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.dataset.manifest import Manifest
from bench.dataset.order import check_partition, epoch_batches, num_batches
from bench.dataset.shape import file_sizes, sample_sizes, scaled
from bench.errors import UsageError
from bench.spec.documents import Access, Dataset


def manifest_of(files, per_file, size=1000, kind="raw", stdev=0):
    return Manifest.synthetic(
        "t",
        Dataset(
            format=kind,
            samples=files * per_file,
            samples_per_file=per_file,
            sample_bytes={"mean": size, "stdev": stdev},
        ),
    )


def samples_of(manifest, batch):
    strides = manifest.sample_stride_bytes
    found = []
    for file, offset, length, count in batch.extents.tolist():
        stride = int(strides[file])
        assert offset % stride == 0
        assert length == count * stride
        found += [(file, offset // stride + k) for k in range(count)]
    assert len(found) == batch.num_samples
    return found


@given(
    st.sampled_from(["shuffled-files", "sequential-shards", "random-samples"]),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(0, 5),
)
def test_every_sample_once(pattern, files, per_file, batch_size, ranks, epoch):
    manifest = manifest_of(files, per_file)
    access = Access(pattern=pattern, epochs=9)
    seen = []
    for rank in range(ranks):
        options = {"batch_size": batch_size, "rank": rank, "num_ranks": ranks, "epoch": epoch}
        batches = list(epoch_batches(manifest, access, seed=3, **options))
        assert len(batches) == num_batches(manifest, access, seed=3, **options)
        assert all(b.num_samples == batch_size for b in batches[:-1])
        for batch in batches:
            seen += samples_of(manifest, batch)
    expected = [(f, k) for f in range(files) for k in range(per_file)]
    assert sorted(seen) == expected


def test_orders_differ_by_epoch_and_seed_and_are_reproducible():
    manifest, access = manifest_of(50, 1), Access(epochs=2)

    def order(epoch, seed):
        batches = epoch_batches(
            manifest, access, batch_size=50, rank=0, num_ranks=1, epoch=epoch, seed=seed
        )
        return next(batches).extents["file"].tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)


def test_a_shard_is_read_as_one_range_per_batch():
    manifest = manifest_of(3, 100)
    access = Access(pattern="sequential-shards")
    for batch in epoch_batches(
        manifest, access, batch_size=40, rank=0, num_ranks=1, epoch=0, seed=1
    ):
        assert len(batch.extents) <= 2


def test_fewer_shards_than_ranks_are_cut():
    manifest = manifest_of(2, 100)
    access = Access(pattern="sequential-shards")
    for rank in range(5):
        assert num_batches(manifest, access, batch_size=10, rank=rank, num_ranks=5) == 4


@pytest.mark.parametrize(
    ("pattern", "files", "batch", "ranks", "words"),
    [
        ("shuffled-files", 3, 1, 4, "would have none"),
        ("random-samples", 8, 3, 3, "more than the data set's 8"),
        ("columns", 8, 1, 1, "not in this version"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(pattern, files, batch, ranks, words):
    access = Access(pattern=pattern)
    with pytest.raises(UsageError, match=words):
        check_partition(manifest_of(files, 1), access, batch_size=batch, num_ranks=ranks)


def test_a_hundred_thousand_files_are_planned_lazily():
    manifest = manifest_of(100_000, 1)
    begin = time.process_time()
    batches = epoch_batches(manifest, Access(), batch_size=8, rank=0, num_ranks=1, epoch=0, seed=1)
    next(batches)
    # A bound that only a plan that walks all files in Python would miss.
    assert time.process_time() - begin < 2
    assert sum(1 for _ in batches) == 12_499


@given(st.integers(0, 500), st.integers(1, 300))
def test_the_size_of_a_sample_depends_on_its_number_alone(start, count):
    dataset = Dataset(
        format="raw", samples=1000, sample_bytes={"mean": 1_000_000, "stdev": 400_000}
    )
    alone = sample_sizes(dataset, start, start + count)
    assert alone.tolist() == sample_sizes(dataset, 0, start + count)[start:].tolist()
    assert alone.min() >= 50_000
    assert alone.max() <= 4_000_000


def test_sizes_follow_the_declared_distribution():
    dataset = Dataset(
        format="npz", samples=20_000, sample_bytes={"mean": 146_600_628, "stdev": 68_341_808}
    )
    sizes = sample_sizes(dataset, 0, 20_000)
    assert np.median(sizes) == pytest.approx(146_600_628, rel=0.03)
    assert sizes.std() == pytest.approx(66e6, rel=0.05)  # truncation narrows it


def test_scaling_changes_the_number_of_files_and_never_the_sample():
    dataset = Dataset(format="raw", samples=512, sample_bytes={"mean": 4 * 2**20})
    small = scaled(dataset, total_bytes=2**30)
    assert small.samples == 256
    assert file_sizes(small).tolist() == file_sizes(dataset)[:256].tolist()
    assert scaled(dataset, total_bytes=1).samples == 1
