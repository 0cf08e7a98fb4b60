"""What comes home from a pod's log, and what is said of what did not."""

from __future__ import annotations

import random

import pytest

from bench.agent.pod.wire import (
    BadLineError,
    LineWriter,
    lines_of,
    pack,
    parse_line,
    unpack,
)
from bench.launch.kubernetes.logs import PodLog


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "sent" / "steps-0"
    path.parent.mkdir()
    path.write_bytes(random.Random(7).randbytes(50_000))
    return path


@pytest.fixture
def lines(table):
    """The log of a pod that sends one table in five parts."""
    written = []
    write = LineWriter(written.append)
    write({"event": "phase", "phase": "measure"})
    for event in pack(table):
        write(event)
    write({"event": "end", "status": "ok", "lines": write.count + 1})
    assert len(written) == 7
    return written


@pytest.fixture
def log(tmp_path):
    heard = []
    made = PodLog("pod-0", tmp_path, heard.append)
    return made, heard


def take(log, lines):
    for line in lines_of(iter(lines)):
        log.take(line)


def test_a_whole_log(log, lines, table, tmp_path):
    made, heard = log
    take(made, lines)
    assert made.whole
    assert made.missing() == ""
    assert (tmp_path / "steps-0").read_bytes() == table.read_bytes()
    assert heard == [{"event": "phase", "phase": "measure"}]


def test_other_words_in_between_do_not_matter(log, lines):
    made, _ = log
    take(made, [word for line in lines for word in (line, "warning: x\n", "\n", "@benchmark\n")])
    assert made.whole


def test_lines_that_come_twice_and_in_any_order(log, lines, table, tmp_path):
    made, heard = log
    shuffled = lines * 3
    random.Random(3).shuffle(shuffled)
    take(made, shuffled)
    assert made.whole
    assert len(heard) == 1
    assert (tmp_path / "steps-0").read_bytes() == table.read_bytes()


def test_a_damaged_line_is_missing_by_number_until_it_comes_well(log, lines, tmp_path):
    made, _ = log
    damaged = lines[3].replace(lines[3][60:64], "~~~~", 1)
    with pytest.raises(BadLineError, match="line 3 does not match its checksum"):
        parse_line(damaged)
    take(made, [*lines[:3], damaged, *lines[4:]])
    assert not made.whole
    assert made.missing() == "lines 3 of 7; only 4 of 5 parts of steps-0 came"
    assert not (tmp_path / "steps-0").exists()
    take(made, lines)
    assert made.whole
    assert (tmp_path / "steps-0").exists()


def test_a_log_that_was_rotated_away_at_its_start(log, lines):
    made, _ = log
    take(made, lines[4:])
    assert made.missing() == "lines 0-3 of 7; only 2 of 5 parts of steps-0 came"


def test_a_log_that_ends_early(log, lines):
    made, _ = log
    take(made, [*lines[:2], lines[2][:100]])
    assert made.missing() == "all lines after 1; only 1 of 5 parts of steps-0 came"


def test_a_log_that_never_came(log):
    assert log[0].missing() == "its whole log"


def test_a_file_that_is_not_what_was_sent(table):
    parts = dict(enumerate(pack(table)))
    parts[0] = parts[0] | {"sha256": "0" * 64}
    with pytest.raises(BadLineError, match="steps-0 does not match its checksum"):
        unpack(parts)
    del parts[2]
    with pytest.raises(BadLineError, match="1 of 5 parts of steps-0 are missing"):
        unpack(parts)


def test_a_name_cannot_leave_the_directory(log, table, tmp_path):
    made, _ = log
    written = []
    write = LineWriter(written.append)
    for event in pack(table):
        write(event | {"name": "../../steps-9"})
    take(made, written)
    assert (tmp_path / "steps-9").exists()


@pytest.mark.parametrize("size", [0, 1, 12_000, 100_001])
@pytest.mark.parametrize("row_bytes", [1, 8])
def test_files_of_any_size_arrive_as_they_were_sent(tmp_path, size, row_bytes):
    path = tmp_path / "table"
    path.write_bytes(random.Random(size).randbytes(size))
    assert unpack(dict(enumerate(pack(path, row_bytes=row_bytes)))) == path.read_bytes()
