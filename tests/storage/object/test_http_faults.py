"""What goes wrong on the way is tried again, counted, and told apart from what stays wrong."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from bench.spec.documents import Io, ObjectPrefix
from bench.storage.base import Extent, ReadStats, StorageReadError
from bench.storage.conformance import object_subject
from bench.storage.object.faults import Fault
from tests.servers.fault_proxy import PASS, proxy, seeded

SIZE = 3_000_000


def first(*faults):
    """The first requests fail as told, the others pass."""
    return lambda number: faults[number] if number < len(faults) else PASS


class Reading:
    """One object behind a proxy, and reads of it."""

    def __init__(self, s3, bucket):
        self.s3, self.bucket = s3, bucket
        self.data = np.random.default_rng(5).bytes(SIZE)
        self.stats = ReadStats()
        (s3.bucket(bucket) / "p" / "data").mkdir(parents=True)

    def read(self, rule, *, reads=1, io=None, etag=None, size=SIZE, **options):
        settings = io or Io(engine="http", timeout_seconds=1)
        target = ObjectPrefix(url=f"s3://{self.bucket}/p", endpoint_url=self.s3.url)
        with object_subject(target) as direct:
            parts = [(0, memoryview(self.data))]
            entry = direct.store.write("data/x.bin", SIZE, parts)
        if etag is not None:
            entry = entry._replace(etag=etag)
        slot = memoryview(mmap.mmap(-1, 4 * 2**20))
        with proxy(self.s3, rule, **options) as between:
            self.proxy = between
            behind = ObjectPrefix(url=f"s3://{self.bucket}/p", endpoint_url=between.url)
            with (
                object_subject(behind, io=settings) as subject,
                subject.backend([entry._replace(size=size)]) as backend,
            ):
                reader = backend.thread_reader()
                try:
                    for number in range(reads):
                        slot[:size] = bytes(size)
                        reader.read(number, [Extent(0, 0, size, 0)], slot, self.stats)
                        assert bytes(slot[:size]) == self.data[:size]
                finally:
                    reader.close()
        return self.stats


@pytest.fixture
def reading(s3, bucket):
    return Reading(s3, bucket)


@pytest.mark.parametrize(
    ("fault", "slow_downs", "short_reads"),
    [
        ("status 503 SlowDown", 1, 0),
        ("status 429", 1, 0),
        ("status 500 InternalError", 0, 0),
        ("status 502", 0, 0),
        ("reset", 0, 0),
        ("reset-late", 0, 0),
        ("short", 0, 1),
        ("stall", 0, 0),
        ("garbage", 0, 0),
    ],
)
def test_what_passes_is_tried_again_and_counted(reading, fault, slow_downs, short_reads):
    stats = reading.read(first(fault))
    assert reading.proxy.faults == [fault]
    assert (stats.retries, stats.slow_downs, stats.short_reads) == (1, slow_downs, short_reads)


def test_only_missing_bytes_are_asked_for_again(reading):
    reading.read(first("short"))
    assert b"bytes=0-2999999" in reading.proxy.heads[0]
    assert b"bytes=1500000-2999999" in reading.proxy.heads[1]
    assert reading.stats.transferred_bytes == SIZE


@pytest.mark.parametrize("framing", ["chunked", "close", "whole"])
def test_every_framing_of_a_body_is_understood(reading, framing):
    stats = reading.read(first(framing, PASS, framing), reads=4)
    assert reading.proxy.faults == [framing, framing]
    assert stats.retries == 0


def test_a_server_that_gives_less_at_a_time_is_asked_for_the_rest(reading):
    stats = reading.read(first("less"))
    assert stats.retries == 0
    assert stats.short_reads == 1
    assert stats.transferred_bytes == SIZE


def test_one_connection_serves_all_reads_of_a_thread(reading):
    reading.read(lambda _: PASS, reads=20)
    # one more for writing, which does not go through the proxy, would show
    assert reading.proxy.connections == 1
    assert reading.stats.open_ns > 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("status 403 AccessDenied", Fault.DENIED),
        ("status 403 SignatureDoesNotMatch", Fault.SIGNATURE),
        ("status 403 InvalidAccessKeyId", Fault.UNKNOWN_KEY),
        ("status 403 RequestTimeTooSkewed", Fault.CLOCK),
        ("status 400 ExpiredToken", Fault.EXPIRED),
        ("status 404 NoSuchBucket", Fault.NO_BUCKET),
        ("status 404 NoSuchKey", Fault.NO_OBJECT),
        ("status 301 PermanentRedirect", Fault.OTHER_REGION),
        ("status 400 AuthorizationHeaderMalformed", Fault.OTHER_REGION),
        ("status 412 PreconditionFailed", Fault.CHANGED),
        ("status 418", Fault.REFUSED),
        ("other-range", Fault.WRONG_RANGE),
        ("other-etag", Fault.CHANGED),
    ],
)
def test_what_stays_wrong_fails_at_once_by_its_name(reading, fault, expected):
    with pytest.raises(StorageReadError) as caught:
        reading.read(lambda _: fault)
    assert caught.value.code == expected
    assert caught.value.file == 0
    assert reading.proxy.requests == 1
    assert reading.stats.retries == 0


def test_a_fault_that_does_not_pass_away_ends_after_all_attempts(reading):
    with pytest.raises(StorageReadError) as caught:
        reading.read(
            lambda _: "status 503 SlowDown", io=Io(engine="http", timeout_seconds=1, max_attempts=3)
        )
    assert caught.value.code == Fault.THROTTLED
    assert caught.value.found_bytes == 503
    assert reading.proxy.requests == 3


def test_an_object_that_was_written_anew_is_told_by_its_etag(reading):
    with pytest.raises(StorageReadError) as caught:
        reading.read(lambda _: PASS, etag='"00000000000000000000000000000000"')
    assert caught.value.code == Fault.CHANGED
    assert b'If-Match: "0000' in reading.proxy.heads[0]


def test_an_object_that_is_shorter_is_told_with_where_it_ends(reading):
    with pytest.raises(StorageReadError) as caught:
        reading.read(lambda _: PASS, size=SIZE + 1000)
    assert (caught.value.code, caught.value.found_bytes) == (0, SIZE)


def test_waiting_for_another_try_counts_as_waiting_for_the_first_byte(reading):
    reading.read(first("status 503 SlowDown", "status 503 SlowDown", "status 503 SlowDown"))
    # 50, 100 and 200 ms, each cut by at most half
    assert reading.stats.first_byte_ns >= 175e6


def test_many_seeded_faults_leave_every_byte_right(reading):
    faults = ["status 503 SlowDown", "status 500", "reset", "reset-late", "short"]
    stats = reading.read(seeded(3, 0.3, faults), reads=40)
    assert len(reading.proxy.faults) >= 8
    assert stats.retries == len(reading.proxy.faults)
