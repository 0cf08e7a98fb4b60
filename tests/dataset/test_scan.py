"""A listing and a few first bytes tell the shape of existing data."""

from __future__ import annotations

import tracemalloc

import pytest

from bench.cli.scan import workload_yaml
from bench.dataset.generate import generate
from bench.dataset.scan import scan_entries
from bench.errors import DatasetError
from bench.spec.documents import Dataset
from bench.spec.load import load_workload
from bench.storage.base import Entry
from bench.storage.directory import DirectoryStore


def made(tmp_path, **shape):
    dataset = Dataset(**shape)
    generate(tmp_path, "x", dataset, workers=2, progress=lambda _: None)
    store = DirectoryStore(str(tmp_path))
    return scan_entries(store.entries(), store.peek, place="x", progress=lambda *_: None)


@pytest.mark.parametrize("kind", ["raw", "npz", "jpeg"])
def test_files_of_one_sample_come_back_as_they_were_made(tmp_path, kind):
    found = made(tmp_path, format=kind, samples=40, sample_bytes={"mean": 60_000, "stdev": 9_000})
    assert found.format == found.seen_as == kind
    assert (found.sizes.count, found.samples_per_object) == (40, 1)
    assert found.sample_bytes == pytest.approx(60_000, rel=0.1)
    assert found.sizes.stdev == pytest.approx(9_000, rel=0.4)
    assert sum(found.sizes.bins.values()) == 40


def test_records_are_counted_by_their_first(tmp_path):
    found = made(
        tmp_path, format="tfrecord", samples=120, samples_per_file=30, sample_bytes={"mean": 5000}
    )
    assert (found.format, found.samples_per_object, found.sizes.count) == ("tfrecord", 30, 4)
    assert found.sample_bytes == pytest.approx(5000)


def test_the_workload_file_is_valid_and_has_the_shape(tmp_path):
    found = made(tmp_path / "data", format="raw", samples=7, sample_bytes={"mean": 4096})
    file = tmp_path / "scanned.yaml"
    file.write_text(workload_yaml(found, url="s3://bucket/some", name="some"))
    workload = load_workload(str(file))
    assert workload.metadata.name == "some"
    assert workload.spec.dataset.samples == 7
    assert workload.spec.dataset.sample_bytes.mean == 4096


def test_what_is_no_format_of_ours_is_told_and_read_as_raw():
    entries = [Entry(f"a/{i}.parquet", 1000, "") for i in range(3)]
    found = scan_entries(
        entries, lambda _name, _count: b"PAR1....", place="x", progress=lambda *_: None
    )
    assert (found.format, found.seen_as) == ("raw", "parquet")
    assert "no format parquet here" in workload_yaml(found, url="x", name="x")


def test_nothing_is_an_error():
    with pytest.raises(DatasetError, match="holds no data"):
        scan_entries([], lambda *_: b"", place="s3://b/p", progress=lambda *_: None)


def test_a_long_listing_takes_bounded_memory():
    def listing(count):
        return (Entry(f"data/{i:012d}.bin", 1000 + i % 77, "") for i in range(count))

    peaks = []
    for count in (2_000, 200_000):
        tracemalloc.start()
        scan_entries(listing(count), lambda *_: b"x", place="x", progress=lambda *_: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000
