"""Host facts, control group limits and process meters, on this machine and on made-up trees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.measure.cgroup import cpu_limit, memory_limit_bytes, throttled_seconds
from bench.measure.host import block_device, harness_commit, host_facts
from bench.measure.process import ProcessMeter

V1 = """30 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 20 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
"""
V2 = "30 20 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(base: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(base)


def test_version_2_takes_the_tightest_limit_on_the_way_up(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/pods/pod1"
    root = tree(
        tmp_path,
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/pods/pod1/box\n",
            f"{group}/box/memory.max": "max\n",
            f"{group}/memory.max": "1000000\n",
            "sys/fs/cgroup/pods/memory.max": "5000000\n",
            f"{group}/box/cpu.max": "150000 100000\n",
            f"{group}/cpu.max": "max 100000\n",
            f"{group}/box/cpu.stat": "usage_usec 5\nthrottled_usec 2500000\n",
        },
    )
    assert memory_limit_bytes(root=root) == 1_000_000
    assert cpu_limit(root=root) == 1.5
    assert throttled_seconds(root=root) == 2.5


def test_version_1_reads_the_own_group_and_knows_its_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/mountinfo": V1,
            "proc/self/cgroup": "4:memory:/a/b\n2:cpu,cpuacct:/a\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "123456\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n",
        },
    )
    assert memory_limit_bytes(root=root) == 123_456
    assert cpu_limit(root=root) == 0.5
    assert throttled_seconds(root=root) == pytest.approx(1.5)


def test_the_number_that_version_1_gives_for_no_limit_is_no_limit(tmp_path: Path) -> None:
    name = "sys/fs/cgroup/memory/memory.limit_in_bytes"
    files = {"proc/self/mountinfo": V1, "proc/self/cgroup": "4:memory:/\n"}
    root = tree(tmp_path, files | {name: "9223372036854771712\n"})
    assert memory_limit_bytes(root=root) is None


@pytest.mark.parametrize("path", ["/docker/abc", "/../../other", "/"])
def test_a_path_outside_the_mounted_part_means_the_mounts_root(tmp_path: Path, path: str) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/mountinfo": V2.replace(" / /sys", " /docker /sys"),
            "proc/self/cgroup": f"0::{path}\n",
            "sys/fs/cgroup/memory.max": "777\n",
        },
    )
    assert memory_limit_bytes(root=root) == 777


def test_no_control_groups_means_no_figures(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert memory_limit_bytes(root=root) is None
    assert cpu_limit(root=root) is None
    assert throttled_seconds(root=root) is None


def test_facts_of_this_machine_agree_with_another_tool() -> None:
    facts = host_facts()
    assert facts.memory_total_bytes == psutil.virtual_memory().total
    assert facts.kernel == os.uname().release
    assert 0 < facts.usable_cpus <= facts.num_cpus
    assert facts.usable_memory_bytes is not None
    assert facts.usable_memory_bytes <= facts.memory_total_bytes


def test_facts_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    facts = host_facts(root=str(tmp_path))
    assert (facts.cpu_model, facts.clock_source) == ("unknown", "unknown")
    assert facts.memory_total_bytes is None
    assert facts.num_numa_nodes is None
    assert facts.usable_memory_bytes is None


def test_a_partition_leads_to_its_disk(tmp_path: Path) -> None:
    disk = "sys/devices/pci/nvme0n1"
    root = tree(
        tmp_path,
        {
            "proc/self/mountinfo": "27 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n",
            f"{disk}/queue/rotational": "0\n",
            f"{disk}/queue/scheduler": "[none] mq-deadline\n",
            f"{disk}/device/model": "FAST DISK  \n",
            f"{disk}/size": "2048\n",
            f"{disk}/nvme0n1p2/partition": "2\n",
        },
    )
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "259:2").symlink_to(tmp_path / disk / "nvme0n1p2")
    found = block_device("/", root=root)
    assert found is not None
    assert (found.name, found.model, found.rotational) == ("nvme0n1", "FAST DISK", False)
    assert (found.scheduler, found.size_bytes) == ("none", 2**20)


def test_a_mount_without_a_disk_has_no_block_device(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/mountinfo": "27 1 0:40 / / rw - nfs4 server:/x rw\n"})
    assert block_device("/", root=root) is None


def test_meters_of_this_process_agree_with_another_tool() -> None:
    reading = ProcessMeter.own().read()
    pss = reading.pss_bytes
    times = psutil.Process().cpu_times()
    assert reading.cpu_seconds == pytest.approx(times.user + times.system, abs=0.5)
    assert reading.rchar_bytes is not None
    assert reading.read_bytes is not None
    assert pss is not None
    assert 2**20 < pss <= psutil.Process().memory_info().rss * 1.1


def test_meters_of_a_process_that_is_gone_are_unknown() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    meter = ProcessMeter(child.pid)
    child.wait()
    reading = meter.read()
    assert (reading.cpu_seconds, reading.read_bytes, reading.run_delay_seconds) == (None,) * 3
    assert reading.pss_bytes is None


def test_a_command_name_with_brackets_does_not_shift_the_meters(tmp_path: Path) -> None:
    fields = " ".join(str(n) for n in range(4, 30))
    root = tree(tmp_path, {"proc/7/stat": f"7 (odd) name) S {fields}\n", "proc/7/io": "junk\n"})
    reading = ProcessMeter(7, root=root).read()
    # Fields 12, 14 and 15 of proc(5), which this line numbers as it counts.
    assert reading.major_faults == 12
    assert reading.cpu_seconds == pytest.approx((14 + 15) / os.sysconf("SC_CLK_TCK"))
    assert reading.read_bytes is None


def test_the_commit_is_that_of_the_checkout() -> None:
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        assert harness_commit() == "unknown"
        return
    done = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert harness_commit().removesuffix("-dirty") == done.stdout.strip()
