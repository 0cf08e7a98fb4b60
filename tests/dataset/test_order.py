"""Every sample exactly once per epoch over all ranks, in a new, reproducible order each time."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.dataset import order
from bench.dataset.manifest import Manifest
from bench.dataset.order import check_partition, epoch_batches, num_batches
from bench.dataset.permutation import Permutation, shuffled
from bench.dataset.shape import file_size, file_sizes, object_name, sample_sizes, scaled
from bench.errors import DatasetError, UsageError
from bench.spec.documents import Access, Dataset

GOLDEN_SHUFFLED = [1, 2, 4, 6, 5, 0, 7, 3]
GOLDEN_PERMUTATION = [586, 920, 757, 830, 449, 29, 946, 22]
GOLDEN_SIZES = [801296, 1414636, 607994, 297899]
"""Other numbers than these would make stored runs and data sets incomparable in silence."""

PATTERNS = ["shuffled-files", "sequential-shards", "random-samples"]


def manifest_of(files, per_file, size=1000, kind="raw", stdev=0, missing=0):
    """`missing` samples are wanting in the last file."""
    return Manifest.synthetic(
        "t",
        Dataset(
            format=kind,
            samples=files * per_file - missing,
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
    pattern=st.sampled_from(PATTERNS),
    kind=st.sampled_from(["raw", "tfrecord"]),
    files=st.integers(1, 30),
    per_file=st.integers(1, 12),
    missing=st.integers(0, 11),
    batch_size=st.integers(1, 9),
    ranks=st.integers(1, 7),
    epoch=st.integers(0, 5),
    window=st.sampled_from([1, 5, 40, 16384]),
)
def test_every_sample_once(
    pattern, kind, files, per_file, missing, batch_size, ranks, epoch, window
):
    manifest = manifest_of(files, per_file, kind=kind, missing=min(missing, per_file - 1))
    access = Access(pattern=pattern, epochs=9)
    seen = []
    with patch.object(order, "WINDOW_SAMPLES", window):
        for rank in range(ranks):
            options = {"batch_size": batch_size, "rank": rank, "num_ranks": ranks, "epoch": epoch}
            batches = list(epoch_batches(manifest, access, seed=3, **options))
            assert len(batches) == num_batches(manifest, access, seed=3, **options)
            assert all(b.num_samples == batch_size for b in batches[:-1])
            assert all(b.payload_bytes == b.extents["length"].sum() for b in batches)
            for batch in batches:
                seen += samples_of(manifest, batch)
    expected = [(f, k) for f, n in enumerate(manifest.num_samples) for k in range(n)]
    assert sorted(seen) == expected
    if pattern != "shuffled-files" and manifest.total_samples >= ranks:
        options = {"batch_size": batch_size, "num_ranks": ranks, "epoch": epoch, "seed": 3}
        assert all(num_batches(manifest, access, rank=r, **options) for r in range(ranks))


@pytest.mark.parametrize("kind", ["npz", "jpeg", "tfrecord", "raw"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_sample_files_are_read_whole(kind, pattern):
    manifest = manifest_of(50, 1, size=100_000, stdev=30_000, kind=kind)
    batches = epoch_batches(
        manifest, Access(pattern=pattern), batch_size=7, rank=0, num_ranks=1, epoch=0, seed=1
    )
    extents = np.concatenate([batch.extents for batch in batches])
    assert sorted(extents["file"].tolist()) == list(range(50))
    assert not extents["offset"].any()
    assert extents["length"].tolist() == manifest.size_bytes[extents["file"]].tolist()


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_a_permutation_is_one(count, seed):
    positions = np.arange(count)
    table = Permutation(count, seeds=(seed, 1, 0))[positions]
    assert sorted(table.tolist()) == positions.tolist()
    assert sorted(shuffled(count, seeds=(seed, 1, 0)).tolist()) == positions.tolist()


def test_a_permutation_of_many_looks_random():
    count = 10**12
    positions = np.arange(200_000)
    found = Permutation(count, seeds=(1, 2, 3))[positions]
    assert len(set(found.tolist())) == len(positions)
    # Mean and lag-1 correlation of a uniform sample, each within five standard errors.
    assert abs(found.mean() / count - 0.5) < 5 * 0.2887 / len(found) ** 0.5
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / len(found) ** 0.5


def test_orders_stay_the_same_in_every_version():
    assert shuffled(8, seeds=(1, 2, 3)).tolist() == GOLDEN_SHUFFLED
    assert Permutation(1000, seeds=(1, 2, 3))[np.arange(8)].tolist() == GOLDEN_PERMUTATION


@pytest.mark.parametrize("pattern", PATTERNS)
def test_orders_differ_by_epoch_and_seed_and_are_reproducible(pattern):
    manifest = manifest_of(50, 1)

    def order_of(epoch, seed, shuffle_seed=1):
        access = Access(pattern=pattern, epochs=2, shuffle_seed=shuffle_seed)
        batches = epoch_batches(
            manifest, access, batch_size=50, rank=0, num_ranks=1, epoch=epoch, seed=seed
        )
        return tuple(next(batches).extents["file"].tolist())

    assert order_of(0, 1) == order_of(0, 1)
    orders = {order_of(0, 1), order_of(1, 1), order_of(0, 2), order_of(0, 1, 2), order_of(1, 0)}
    assert len(orders) == 5


def test_a_shard_is_read_as_one_range_per_batch():
    manifest = manifest_of(3, 100)
    access = Access(pattern="sequential-shards")
    batches = list(
        epoch_batches(manifest, access, batch_size=40, rank=0, num_ranks=1, epoch=0, seed=1)
    )
    # 300 samples in batches of 40: the first shard ends inside the third batch.
    assert [len(b.extents) for b in batches] == [1, 1, 2, 1, 1, 1, 1, 1]
    assert [b.num_samples for b in batches] == [40] * 7 + [20]
    first = batches[0].extents[0]
    assert (first["offset"], first["length"], first["num_samples"]) == (0, 40_000, 40)


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


def test_a_large_data_set_is_planned_as_it_is_read(monkeypatch):
    manifest = manifest_of(2000, 10_000)
    looked_at = []
    real = Permutation.__getitem__
    monkeypatch.setattr(
        Permutation, "__getitem__", lambda self, at: looked_at.append(len(at)) or real(self, at)
    )
    access = Access(pattern="random-samples")
    batches = epoch_batches(manifest, access, batch_size=64, rank=3, num_ranks=8, epoch=0, seed=1)
    for _ in range(300):
        next(batches)
    assert looked_at == [order.WINDOW_SAMPLES] * 2


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


def test_sizes_stay_within_bounds_however_wide_or_narrow_the_distribution():
    for mean, stdev in ((1, 100), (1000, 10**9), (10**9, 1), (3, 1)):
        dataset = Dataset(format="raw", samples=2000, sample_bytes={"mean": mean, "stdev": stdev})
        sizes = sample_sizes(dataset, 0, 2000)
        assert sizes.min() >= max(1, int(0.05 * mean))
        assert sizes.max() <= 4 * mean


def test_sizes_stay_the_same_in_every_version():
    dataset = Dataset(format="raw", samples=4, sample_bytes={"mean": 1_000_000, "stdev": 400_000})
    assert sample_sizes(dataset, 0, 4).tolist() == GOLDEN_SIZES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": 2**36}, "workload.dataset.samples.* files, more than"),
        ({"samples": 2**36, "samples_per_file": 2**20, "mean": 2**40}, "bytes are more than"),
        ({"format": "jpeg", "mean": 1000}, "cannot be jpeg images"),
        ({"format": "jpeg", "mean": 10_000, "stdev": 10}, "500 to 40000 bytes cannot be jpeg"),
        ({"format": "jpeg", "mean": 2**28}, "cannot be jpeg images"),
    ],
)
def test_what_no_format_or_file_system_can_hold_is_refused(dataset, changes, words):
    with pytest.raises(DatasetError, match=words):
        file_sizes(dataset(**changes))


@given(st.integers(1, 70), st.integers(1, 9), st.sampled_from(["npz", "tfrecord", "jpeg", "raw"]))
def test_the_size_of_a_file_is_known_without_the_others(samples, per_file, kind):
    if kind in ("npz", "jpeg"):
        per_file = 1
    stdev = 30_000 if per_file == 1 else 0
    described = Dataset(
        format=kind,
        samples=samples,
        samples_per_file=per_file,
        sample_bytes={"mean": 100_000, "stdev": stdev},
    )
    sizes = file_sizes(described).tolist()
    assert [file_size(described, i) for i in range(len(sizes))] == sizes


def test_names_are_sorted_and_directories_stay_small(dataset):
    names = [object_name(dataset("npz"), i) for i in range(0, 1_200_000, 1000)]
    assert names == sorted(names)
    assert object_name(dataset("npz"), 4095) == "data/00000/part-00004095.npz"
    assert object_name(dataset("jpeg"), 4096) == "data/00001/part-00004096.jpg"
