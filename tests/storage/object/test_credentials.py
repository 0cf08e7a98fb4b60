"""Credentials reach readers in memory, are renewed while they read, and never stand anywhere."""

from __future__ import annotations

import mmap
import time

import numpy as np
import pytest

from bench.errors import TargetError
from bench.spec.documents import Io, ObjectPrefix
from bench.storage.base import Extent, ReadStats, StorageReadError
from bench.storage.conformance import object_subject
from bench.storage.object import access
from bench.storage.object.cell import CELL_BYTES, CredentialReader, CredentialWriter
from bench.storage.object.faults import Fault
from bench.storage.object.opening import open_objects
from bench.storage.object.sigv4 import Credentials
from bench.storage.object.source import ObjectSource
from tests.servers.fault_proxy import PASS, proxy


def test_a_reader_sees_what_was_written_last():
    writer = CredentialWriter()
    reader = CredentialReader(writer.fd)
    writer.write(Credentials("a", "b", "c"))
    version, found = reader.read()
    assert found == Credentials("a", "b", "c")
    writer.write(None)
    assert reader.version != version
    assert reader.read()[1] is None
    reader.close()
    writer.close()


def test_credentials_that_are_too_long_are_refused():
    writer = CredentialWriter()
    with pytest.raises(ValueError):
        writer.write(Credentials("a", "b", "c" * CELL_BYTES))
    writer.close()


class Rotating:
    """Credentials of botocore's kind that become others at each look."""

    method = "test"
    refresh_needed = True

    def __init__(self, good, *, bad_first):
        self.good, self.looks, self.bad_first = good, 0, bad_first

    def get_frozen_credentials(self):
        self.looks += 1
        bad = self.looks <= self.bad_first
        return Credentials("AKEXPIRED" if bad else self.good[0], self.good[1])


def read_one(source, length):
    slot = memoryview(mmap.mmap(-1, 2**20))
    backend = open_objects(source.settings)
    reader = backend.thread_reader()
    stats = ReadStats()
    try:
        reader.read(0, [Extent(0, 0, length, 0)], slot, stats)
    finally:
        reader.close()
    return bytes(slot[:length]), stats


@pytest.fixture
def written(s3, bucket):
    target = ObjectPrefix(url=f"s3://{bucket}/p", endpoint_url=s3.url)
    data = np.random.default_rng(1).bytes(100_000)
    with object_subject(target) as subject:
        entry = subject.store.write("data/x", len(data), [(0, memoryview(data))])
    return target, entry, data


def source_of(opened, entry):
    return ObjectSource(
        opened, Io(engine="http"), prefix=opened.place.key(""),
        names=np.array([entry.name.encode()]), sizes=np.array([entry.size], np.int64),
        etags=None, seed=1,
    )  # fmt: skip


def test_readers_sign_with_renewed_credentials(s3, written, monkeypatch):
    target, entry, data = written
    monkeypatch.setattr(access, "RENEW_SECONDS", 0.02)
    opened = access.open_access(target)
    opened._provider = Rotating((s3.access_key, s3.secret_key), bad_first=1)
    source = source_of(opened, entry)
    try:
        cell = CredentialReader(source.settings["credentials_fd"])
        deadline = time.monotonic() + 10
        while cell.version < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert read_one(source, entry.size)[0] == data
    finally:
        source.close()


def test_credentials_that_are_not_renewed_fail_by_name(written):
    target, entry, _ = written
    opened = access.open_access(target)
    opened._provider = Rotating(("x", "y"), bad_first=1000)
    source = source_of(opened, entry)
    try:
        with pytest.raises(StorageReadError) as caught:
            read_one(source, entry.size)
        assert caught.value.code == Fault.UNKNOWN_KEY
    finally:
        source.close()


def test_a_token_that_expires_between_two_renewals_is_tried_again(s3, written):
    target, entry, data = written

    def rule(number):
        if number == 0:
            source._renewal._writer.write(Credentials(s3.access_key, s3.secret_key))
        return "status 400 ExpiredToken" if number == 0 else PASS

    with proxy(s3, rule) as between:
        source = source_of(
            access.open_access(target.model_copy(update={"endpoint_url": between.url})), entry
        )
        try:
            found, stats = read_one(source, entry.size)
        finally:
            source.close()
    assert found == data
    assert stats.retries == 1


def test_anonymous_access_sends_no_signature(s3, written):
    target, entry, _ = written
    with proxy(s3) as between:
        anonymous = ObjectPrefix.model_validate(
            target.model_dump()
            | {"endpoint_url": between.url, "credentials": {"source": "anonymous"}}
        )
        source = source_of(access.open_access(anonymous), entry)
        try:
            with pytest.raises(StorageReadError) as caught:
                read_one(source, entry.size)
        finally:
            source.close()
        assert b"authorization" not in between.heads[0].lower()
    assert caught.value.code in (Fault.DENIED, Fault.UNKNOWN_KEY, Fault.SIGNATURE)


def test_a_profile_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(TargetError, match="nobody"):
        access.open_access(ObjectPrefix(url="s3://bucket/x"))


def test_a_profile_of_the_shared_files_is_used(monkeypatch, tmp_path, s3, written):
    target, entry, data = written
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    shared = tmp_path / "credentials"
    shared.write_text(
        f"[ours]\naws_access_key_id={s3.access_key}\naws_secret_access_key={s3.secret_key}\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile ours]\nregion=us-east-1\nendpoint_url={s3.url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    opened = access.open_access(ObjectPrefix(url=target.url))
    assert opened.credential_source == "shared-credentials-file"
    source = source_of(opened, entry)
    try:
        assert read_one(source, entry.size)[0] == data
    finally:
        source.close()
