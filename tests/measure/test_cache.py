"""Cold or warm: verdicts from evidence, on real files and for every file system by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure.cache import CacheEvidence, judge_cache
from bench.measure.mounts import (
    MountFacts,
    Proof,
    mount_facts,
    parse_mountinfo,
    proof_of,
    verdict_table,
)
from bench.measure.pagecache import Probes, evict, probe
from bench.measure.process import ProcessMeter
from bench.spec.documents import CacheTier

MIB = 2**20


def mount(fs_type: str, *options: str) -> MountFacts:
    return MountFacts("/data", "/", fs_type, "source", "8:1", options)


def evidence(fs_type: str = "ext4", **changes: object) -> CacheEvidence:
    base = CacheEvidence(
        mount=mount(fs_type),
        mode="buffered",
        requested="cold",
        transferred_bytes=1000 * MIB,
        kernel_read_bytes=1000 * MIB,
        probes=None,
        dataset_bytes=1000 * MIB,
        memory_limit_bytes=500 * MIB,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_all_bytes_from_the_device_are_cold_verified_with_the_figure() -> None:
    found = judge_cache(evidence(kernel_read_bytes=991 * MIB))
    assert found.verdict == "cold-verified"
    assert found.evidence["hit_ratio"] == pytest.approx(0.009)
    assert "0.90%" in found.tiers[0].evidence
    assert "2.00 times the memory limit" in found.tiers[0].evidence


def test_hits_beyond_one_percent_are_warm() -> None:
    assert judge_cache(evidence(kernel_read_bytes=985 * MIB)).verdict == "warm"
    assert judge_cache(evidence(kernel_read_bytes=0)).verdict == "warm"


@pytest.mark.parametrize(
    "fs_type", ["fuse", "fuse.s3fs", "nfs4", "lustre", "gpfs", "zfs", "wekafs"]
)
@pytest.mark.parametrize("read", [0, 1000 * MIB, None])
def test_meters_of_other_file_systems_prove_nothing(fs_type: str, read: int | None) -> None:
    assert judge_cache(evidence(fs_type, kernel_read_bytes=read)).verdict == "unknown"


@pytest.mark.parametrize("fs_type", ["fuse", "fuse.lustre", "nfs", "unheard-of"])
def test_direct_reads_are_not_cold_where_a_daemon_or_server_may_cache(fs_type: str) -> None:
    assert judge_cache(evidence(fs_type, mode="direct")).verdict == "unknown"


@pytest.mark.parametrize("fs_type", ["lustre", "gpfs"])
def test_direct_reads_of_parallel_file_systems_are_cold_requested(fs_type: str) -> None:
    found = judge_cache(evidence(fs_type, mode="direct"))
    assert found.verdict == "cold-requested"
    assert {tier.state for tier in found.tiers[1:]} == {"unknown"}
    assert judge_cache(evidence(fs_type, mode="direct", requested="as-is")).verdict == "unknown"


def test_memory_is_warm_by_nature() -> None:
    assert judge_cache(evidence("tmpfs", mode="direct")).verdict == "warm"


def test_an_overlay_is_cold_by_the_meter_and_otherwise_unknown() -> None:
    assert judge_cache(evidence("overlay")).verdict == "cold-verified"
    assert judge_cache(evidence("overlay", kernel_read_bytes=0)).verdict == "unknown"


def test_without_a_meter_nothing_is_verified() -> None:
    none = evidence(kernel_read_bytes=None)
    assert judge_cache(none).verdict == "unknown"
    assert judge_cache(replace(none, mode="direct")).verdict == "cold-requested"
    missed = replace(none, probes=Probes(1, 50, 0, supported=True))
    assert judge_cache(missed).verdict == "cold-requested"
    assert judge_cache(replace(missed, probes=Probes(1, 50, 9, supported=True))).verdict == "warm"


def test_readahead_beyond_what_was_asked_for_may_hide_hits() -> None:
    overread = evidence(kernel_read_bytes=1500 * MIB)
    assert judge_cache(overread).verdict == "unknown"
    missed = replace(overread, probes=Probes(1, 50, 0, supported=True))
    assert judge_cache(missed).verdict == "cold-requested"
    assert judge_cache(replace(overread, mode="direct")).verdict == "cold-verified"


def test_an_unknown_mount_and_a_dax_mount_are_unknown() -> None:
    assert judge_cache(evidence(mount=None)).verdict == "unknown"
    assert judge_cache(evidence(mount=mount("ext4", "dax=always"))).verdict == "unknown"


def test_declared_tiers_are_unknown_until_the_data_set_exceeds_them() -> None:
    tiers = [
        CacheTier(name="small", capacity_bytes=200 * MIB),
        CacheTier(name="large", capacity_bytes=201 * MIB),
        CacheTier(name="none", capacity_bytes=0),
    ]
    found = judge_cache(evidence(), tiers=tiers).tiers[1:]
    assert [tier.state for tier in found] == ["cold-requested", "unknown", "cold-requested"]
    assert "5.00 times its capacity" in found[0].evidence


def test_the_published_table_never_promises_cold_for_what_cannot_be_seen() -> None:
    for fs_type, _, verdict in verdict_table():
        if proof_of(fs_type) is Proof.OPAQUE:
            assert verdict == "unknown"


MOUNTINFO = r"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
30 27 0:30 / /data rw - tmpfs tmpfs rw
31 27 0:31 /export /data ro,nosuid - nfs4 server:/export rw,vers=4.2
32 31 8:17 / /data/with\040blank rw - xfs /dev/sdb1 rw
nonsense
"""


def test_the_longest_and_latest_mount_holds_a_path(tmp_path: Path) -> None:
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "mountinfo").write_text(MOUNTINFO)
    root = str(tmp_path)
    found = [mount_facts(p, root=root) for p in ("/data/x", "/data/with blank/y", "/database", "/")]
    assert [m.fs_type if m else None for m in found] == ["nfs4", "xfs", "ext4", "ext4"]
    assert found[0] is not None
    assert found[0].options == ("ro", "nosuid", "rw", "vers=4.2")
    assert mount_facts("/", root=str(tmp_path / "nothing")) is None
    assert len(parse_mountinfo(MOUNTINFO)) == 5


def read_in_full(path: Path) -> int:
    """Read a file through the page cache; return what the kernel's meter says of it."""
    meter = ProcessMeter(os.getpid())
    before = meter.read().read_bytes
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(MIB)
    while os.readv(fd, [buffer]):
        pass
    os.close(fd)
    after = meter.read().read_bytes
    assert before is not None
    assert after is not None
    return after - before


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Sixty files of 1 MiB on a file system whose meters are trusted."""
    facts = mount_facts(str(tmp_path))
    if facts is None or proof_of(facts.fs_type) is not Proof.METERED:
        pytest.skip("needs a temporary directory on a local block file system")
    paths = [tmp_path / f"{index}" for index in range(60)]
    for path in paths:
        path.write_bytes(os.urandom(MIB))
    return paths


def test_eviction_makes_real_files_cold_and_reading_makes_them_warm(files: list[Path]) -> None:
    names, sizes = [str(f) for f in files], [MIB] * len(files)
    assert probe(names, sizes, num_probes=30, seed=1).num_hits > 0
    assert evict(names, written_by="us") == len(files)
    cold = probe(names, sizes, num_probes=30, seed=1)
    assert cold.supported
    assert cold.num_hits == 0
    assert cold.num_probes > 20
    again = probe(names, sizes, num_probes=30, seed=1)
    assert again.num_hits == 0, "probes left pages behind"
    assert read_in_full(files[0]) == MIB
    assert read_in_full(files[0]) == 0
    warm = probe(names[:1], sizes[:1], num_probes=30, seed=2)
    assert warm.num_hits == warm.num_probes > 20


def test_probes_touch_at_most_five_percent_of_the_files(files: list[Path]) -> None:
    names, sizes = [str(f) for f in files], [MIB] * len(files)
    assert probe(names, sizes, num_probes=1000, seed=3).num_files == 3
    assert probe(names[:5], sizes[:5], num_probes=9, seed=3).num_files == 1
    assert probe([], [], num_probes=9, seed=3).num_probes == 0
    assert probe(names[:1], [0], num_probes=9, seed=3).num_probes == 0


def test_memory_file_systems_do_not_answer_probes() -> None:
    facts = mount_facts("/dev/shm")
    if facts is None or proof_of(facts.fs_type) is not Proof.MEMORY:
        pytest.skip("needs /dev/shm in memory")
    path = f"/dev/shm/bench-test-{os.getpid()}"
    with open(path, "wb") as file:
        file.write(bytes(MIB))
    try:
        found = probe([path], [MIB], num_probes=5, seed=1)
    finally:
        os.unlink(path)
    assert not found.supported
    assert found.num_hits == 0
