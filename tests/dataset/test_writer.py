"""What is written is what was given, directly or through the page cache."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.dataset import writer as module
from bench.dataset.writer import BLOCK_BYTES, STAGE_BYTES, FileWriter, new_stage

DATA = np.random.default_rng(1).bytes(3 * STAGE_BYTES + 12_345)
SIZES = [1, 458, BLOCK_BYTES, 70_000, 2**20, 2**20 + 1, STAGE_BYTES, STAGE_BYTES + 1, len(DATA)]


def write(path, data, cuts, head):
    """Give `data` cut in parts, its head last; return the writer."""
    stage = new_stage()
    stage[:] = b"\xee" * STAGE_BYTES  # of another file
    view = memoryview(data)
    writer = FileWriter(str(path), len(data), stage)
    try:
        for start, stop in pairwise([head, *cuts, len(data)]):
            writer.add(start, view[start:stop])
        if head:
            writer.add(0, view[:head])
        writer.finish()
        writer.sync()
    finally:
        writer.close()
    return writer


@given(
    size=st.sampled_from(SIZES),
    cuts=st.lists(st.integers(0, len(DATA)), max_size=9),
    head=st.sampled_from([0, 1, 458, 486]),
    least=st.sampled_from([1, 2**60]),
)
def test_parts_of_any_size_make_the_file(tmp_path_factory, size, cuts, head, least):
    path = tmp_path_factory.getbasetemp() / "parts"
    path.write_bytes(b"\xdd" * (size + 99))
    head = min(head, size - 1)
    cuts = sorted(cut for cut in cuts if head < cut < size)
    with patch.object(module, "MIN_DIRECT_BYTES", least):
        write(path, DATA[:size], cuts, head)
    assert path.read_bytes() == DATA[:size]


def test_large_files_go_past_the_page_cache_where_that_is_possible(tmp_path):
    probe = os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY)
    os.close(probe)
    try:
        os.close(os.open(tmp_path / "probe", os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    assert write(tmp_path / "large", DATA, [], 0).direct
    assert not write(tmp_path / "small", DATA[:1000], [], 0).direct


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_where_direct_writes_are_refused_the_page_cache_serves(tmp_path, monkeypatch, call):
    import fcntl

    real_open, real_pwrite = os.open, os.pwrite

    def refuse_open(path, flags, mode=0o777):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, mode)

    def refuse_pwrite(fd, data, offset):
        if offset and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_pwrite(fd, data, offset)

    monkeypatch.setattr(os, call, {"open": refuse_open, "pwrite": refuse_pwrite}[call])
    writer = write(tmp_path / "file", DATA, [5000, 2**21], 458)
    monkeypatch.undo()
    assert not writer.direct
    assert (tmp_path / "file").read_bytes() == DATA


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: 64 * 1024], at))
    write(tmp_path / "file", DATA, [777], 0)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_fails_for_good_is_not_hidden(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        write(tmp_path / "file", DATA, [], 0)
