"""What a process without privilege can say of the volume it reads from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bench.measure import lustre
from bench.measure.mounts import mount_facts
from bench.measure.volume import nvme_facts, volume_facts


def system(tmp_path: Path, line: str, files: dict[str, str] | None = None) -> str:
    """Make a /proc and a /sys with one mount at `tmp_path/data`; return their root."""
    root = tmp_path / "root"
    (tmp_path / "data").mkdir(exist_ok=True)
    text = {"proc/self/mountinfo": line.replace("DATA", str(tmp_path / "data")) + "\n"}
    for name, content in (text | (files or {})).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


def facts(tmp_path: Path, line: str, files: dict[str, str] | None = None) -> dict[str, Any]:
    root = system(tmp_path, line, files)
    return volume_facts(str(tmp_path / "data"), system_root=root)


def blanks(value: Any) -> list[Any]:
    """Return whatever is empty in facts, at any depth."""
    if isinstance(value, dict):
        return [found for item in value.values() for found in blanks(item)]
    return [value] if value in (None, "", [], {}) else []


NFS = (
    "36 25 0:52 / DATA ro,relatime shared:1 - nfs4 server:/export "
    "rw,vers=4.1,rsize=1048576,wsize=262144,namlen=255,hard,proto=tcp,nconnect=8,"
    "timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.2,local_lock=none,addr=10.0.0.1"
)


def test_a_mount_of_nfs(tmp_path: Path) -> None:
    found = facts(tmp_path, NFS, {"sys/class/bdi/0:52/read_ahead_kb": "15360\n"})
    assert found["read_ahead_bytes"] == 15360 * 1024
    assert found["nfs"] == {
        "rsize": 1048576,
        "wsize": 262144,
        "nconnect": 8,
        "timeo": 600,
        "retrans": 2,
        "acregmax": 60,
        "vers": "4.1",
        "proto": "tcp",
        "sec": "sys",
        "local_lock": "none",
        "hard": True,
    }
    assert blanks(found) == []


def test_one_connection_is_not_shown_by_the_kernel(tmp_path: Path) -> None:
    line = NFS.replace("nconnect=8,", "").replace("hard", "soft").replace("rsize=1048576,", "")
    found = facts(tmp_path, line)["nfs"]
    assert (found["nconnect"], found["hard"], found["rsize"]) == (1, False, "unknown")
    assert facts(tmp_path, line)["read_ahead_bytes"] == "unknown"


@pytest.mark.parametrize(
    ("kind", "source", "daemon"),
    [
        ("fuse.s3fs", "s3fs", "s3fs-fuse"),
        ("fuse", "mountpoint-s3", "Mountpoint for Amazon S3"),
        ("fuse.gcsfuse", "bucket", "Cloud Storage FUSE"),
        ("fuse.mfs", "mfs#10.0.0.1:9421", "MooseFS client"),
        ("fuse.JuiceFS", "JuiceFS:x", "JuiceFS"),
        ("fuse.other", "x", "other"),
        ("fuse", "/dev/fuse", "unknown"),
    ],
)
def test_the_daemon_of_a_fuse_mount(tmp_path: Path, kind: str, source: str, daemon: str) -> None:
    line = f"40 25 0:57 / DATA rw - {kind} {source} rw,user_id=0,max_read=131072"
    granted = {
        "sys/fs/fuse/connections/57/max_background": "12\n",
        "sys/fs/fuse/connections/57/congestion_threshold": "9\n",
    }
    found = facts(tmp_path, line, granted)["fuse"]
    assert (found["daemon"], found["max_read_bytes"]) == (daemon, 131072)
    assert (found["max_background"], found["congestion_threshold"]) == (12, 9)
    assert blanks(found) == []


def test_limits_of_fuse_that_only_the_superuser_sees(tmp_path: Path) -> None:
    found = facts(tmp_path, "40 25 0:57 / DATA rw - fuse.s3fs s3fs rw")["fuse"]
    assert found["max_background"] == found["max_read_bytes"] == "unknown"


def test_a_mount_of_lustre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "50 25 0:60 / DATA rw,flock - lustre 10.0.0.1@tcp:/fs rw,checksum,flock"
    assert facts(tmp_path, line)["lustre"] == {
        "default_layout": "unknown",
        "file_layout": "unknown",
    }
    monkeypatch.setattr(lustre, "ATTRIBUTE", "user.lov")
    foreign = bytes.fromhex("d00bd70b00000000")
    files = tmp_path / "data" / "bench-x-0123456789ab" / "data"
    files.mkdir(parents=True)
    (files / "f0").touch()
    (tmp_path / "data" / "of-others").touch()
    try:
        os.setxattr(files / "f0", "user.lov", foreign)
    except OSError:
        pytest.skip("no extended attributes on the temporary directory")
    found = facts(tmp_path, line)["lustre"]
    assert found == {"default_layout": "unknown", "file_layout": {"kind": "foreign"}}


def nvme(root: Path, **link: str) -> None:
    """Lay out a disk as sysfs does: block device -> controller -> PCI device."""
    pci = root / "sys/devices/pci0000:00/0000:00:04.0"
    controller = pci / "nvme/nvme0"
    disk = controller / "nvme0n1"
    disk.mkdir(parents=True)
    for name, text in link.items():
        (pci / name).write_text(f"{text}\n")
    (pci / "numa_node").write_text("1\n")
    for name, text in (("model", "FAST 9000  "), ("firmware_rev", "1.0"), ("transport", "pcie")):
        (controller / name).write_text(f"{text}\n")
    (controller / "device").symlink_to(pci)
    (disk / "device").symlink_to(controller)
    (root / "sys/class/block").mkdir(parents=True)
    (root / "sys/class/block/nvme0n1").symlink_to(disk)


def test_an_nvme_disk_with_a_link_below_its_best(tmp_path: Path) -> None:
    nvme(
        tmp_path,
        current_link_speed="16.0 GT/s PCIe",
        current_link_width="2",
        max_link_speed="32.0 GT/s PCIe",
        max_link_width="4",
    )
    assert nvme_facts("nvme0n1", system_root=str(tmp_path)) == {
        "model": "FAST 9000",
        "firmware": "1.0",
        "transport": "pcie",
        "numa_node": 1,
        "link": {
            "current_link_speed": "16.0 GT/s PCIe",
            "current_link_width": "2",
            "max_link_speed": "32.0 GT/s PCIe",
            "max_link_width": "4",
        },
    }


def test_an_nvme_disk_behind_several_paths(tmp_path: Path) -> None:
    nvme(tmp_path)
    controller = tmp_path / "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0"
    subsystem = tmp_path / "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    subsystem.mkdir(parents=True)
    (subsystem / "nvme0").symlink_to(controller)
    device = controller / "nvme0n1/device"
    device.unlink()
    device.symlink_to(subsystem)
    found = nvme_facts("nvme0n1", system_root=str(tmp_path))
    assert found["model"] == "FAST 9000"
    assert set(found["link"].values()) == {"unknown"}


def test_a_disk_that_sysfs_does_not_show(tmp_path: Path) -> None:
    found = nvme_facts("nvme7n1", system_root=str(tmp_path))
    assert set(found.values()) == {"unknown"}


def test_this_machines_own_file_systems(tmp_path: Path) -> None:
    found = volume_facts(str(tmp_path))
    mount = mount_facts(str(tmp_path))
    assert mount is not None
    assert found["file_system"] == mount.fs_type
    assert 0 <= found["free_bytes"] <= found["total_bytes"]
    assert 0 <= found["fill_ratio"] <= 1
    assert blanks(found) == []
    shared = Path("/dev/shm")
    if (memory := mount_facts(str(shared))) is not None and memory.fs_type == "tmpfs":
        assert "read_ahead_bytes" not in volume_facts(str(shared))
