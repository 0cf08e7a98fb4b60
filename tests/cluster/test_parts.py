"""Parts of the test cluster that can be tested without one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.cluster import images, provisioner, settings, storage
from tests.cluster.processes import Init
from tests.cluster.settings import REPOSITORY, ClusterError, Layout


@pytest.fixture
def layout(tmp_path, monkeypatch):
    for name in ("NAME", "STATE", "CACHE"):
        monkeypatch.delenv(f"BENCH_CLUSTER_{name}", raising=False)
    return Layout(name="x", state=tmp_path / "x", cache=tmp_path / "cache")


# ------------------------------------------------------------------ the image


def dockerfile_sources() -> set[str]:
    """Return what the Dockerfile copies from the repository."""
    text = (REPOSITORY / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    return {word for line in copies for word in line.split()}


def test_the_image_is_named_after_all_that_the_dockerfile_copies():
    assert set(images.CONTEXT) == dockerfile_sources() | {"Dockerfile", ".dockerignore"}


def test_the_builder_is_sent_what_the_dockerfile_copies_and_no_more():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert sent == dockerfile_sources() | {"Dockerfile"}


def test_the_dockerfile_names_no_host_and_ends_as_a_numeric_user():
    text = (REPOSITORY / "Dockerfile").read_text()
    assert not re.search(r"https?://", text)
    assert re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE) == ["65532"]
    assert text.count("--require-hashes") == text.count(" -r ") == 1


@pytest.fixture
def checkout(tmp_path):
    """A copy of all that goes into the image."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in images.CONTEXT:
        source = REPOSITORY / name
        ignore = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignore)
        else:
            shutil.copy2(source, copy / name)
    return copy


def test_any_change_of_content_changes_the_images_name(checkout):
    before = images.content_hash(checkout)
    assert before == images.content_hash(REPOSITORY)
    (checkout / "bench" / "__pycache__").mkdir()
    (checkout / "bench" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert images.content_hash(checkout) == before
    seen = {before}
    for name in ("bench/errors.py", "requirements.lock", "workloads/smoke.yaml", "Dockerfile"):
        with (checkout / name).open("a") as file:
            file.write("#\n")
        seen.add(images.content_hash(checkout))
    (checkout / "bench" / "errors.py").rename(checkout / "bench" / "other.py")
    seen.add(images.content_hash(checkout))
    assert len(seen) == 6


def test_the_gpu_lock_holds_the_runtime_lock_with_hashes():
    found = {}
    for name in ("requirements.lock", "requirements-gpu.lock"):
        text = (REPOSITORY / name).read_text()
        blocks = re.findall(
            r"^([\w.-]+==[\w.+!]+)[^\n]*\\\n((?:    --hash=\S+.*\n?)+)", text, re.MULTILINE
        )
        assert len(blocks) == len(re.findall(r"^[A-Za-z]", text, re.MULTILINE)) > 30
        found[name] = {pin for pin, _ in blocks}
    extra = found["requirements-gpu.lock"] - found["requirements.lock"]
    assert found["requirements.lock"] <= found["requirements-gpu.lock"]
    assert {pin.partition("==")[0] for pin in extra} >= {"torch", "nvidia-ml-py"}


# ------------------------------------------------------------------ versions and places


@pytest.mark.parametrize("module", settings.MODULES, ids=lambda module: module.name)
def test_a_modules_version_is_the_one_that_its_files_pin(module):
    folder = REPOSITORY / "tests" / "cluster" / "modules" / module.name
    go_mod = (folder / "go.mod").read_text()
    tools = re.findall(r"^(?:tool |\t)([^\s(]+)$", go_mod, re.MULTILINE)
    assert tuple(sorted(tool.rpartition("/")[2] for tool in tools)) == module.programs
    for tool in tools:
        pinned = [
            version
            for path, version in re.findall(r"^(?:require |\t)(\S+) (v\S+)", go_mod, re.MULTILINE)
            if tool.startswith(path)
        ]
        assert pinned == [module.version]
    assert f" {module.version} h1:" in (folder / "go.sum").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [("STATE", "/var/lib/x"), ("STATE", "/run/x"), ("STATE", "/var/tmp/" + "x" * 60),
     ("NAME", "../x"), ("NAME", "a b")],
)  # fmt: skip
def test_places_that_cannot_work_are_refused(layout, monkeypatch, name, value):
    monkeypatch.setenv(f"BENCH_CLUSTER_{name}", value)
    with pytest.raises(ClusterError, match="BENCH_CLUSTER_STATE"):
        Layout.of_environment()


def test_a_layout_survives_the_environment(layout, monkeypatch, tmp_path):
    short = Layout(name="x-1", state=Path("/var/tmp/y/x-1"), cache=tmp_path)
    for name, value in short.environment().items():
        monkeypatch.setenv(name, value)
    assert Layout.of_environment() == short


def test_programs_lie_under_their_versions(layout):
    assert layout.program("kubelet") == layout.cache / "kubernetes-v1.34.4" / "kubelet"


# ------------------------------------------------------------------ processes


def test_a_process_is_known_by_its_start_as_well():
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert Init(os.getpid(), ticks).is_alive
    assert not Init(os.getpid(), ticks + 1).is_alive


# ------------------------------------------------------------------ the provisioner


@pytest.mark.parametrize(
    ("text", "expected"),
    [("64Mi", 64 << 20), ("1Gi", 1 << 30), ("1.5Gi", 3 << 29), ("100M", 10**8), ("4096", 4096)],
)
def test_quantities_become_bytes(text, expected):
    assert provisioner.quantity_bytes(text) == expected


def claim(**spec) -> dict:
    """Return a claim with what the provisioner looks at."""
    return {
        "metadata": {"name": "c", "namespace": "n", "uid": "u1"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Ki"}},
            **spec,
        },
    }


@pytest.fixture
def volumes(tmp_path):
    (tmp_path / "node-1" / "disk").mkdir(parents=True)
    return provisioner.Provisioner(None, volumes=tmp_path)


def test_a_volume_is_a_directory_that_only_its_claim_and_node_can_use(volumes, tmp_path):
    volume = volumes.volume(claim(), storage.storage_class("disk"), "node-1")
    directory = tmp_path / "node-1" / "disk" / "pvc-u1"
    assert directory.is_dir()
    assert directory.stat().st_mode & 0o777 == 0o777
    assert volume["spec"]["local"]["path"] == str(directory)
    assert volume["spec"]["claimRef"]["uid"] == "u1"
    assert '"values": ["node-1"]' in json.dumps(volume["spec"]["nodeAffinity"])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"volumeMode": "Block"}, "no block volumes"),
        ({"accessModes": ["ReadWriteMany"]}, "cannot be ReadWriteMany"),
        ({"resources": {"requests": {"storage": "8000Ti"}}}, "8000Ti asked for"),
    ],
)
def test_what_a_medium_has_not_is_said(volumes, spec, reason):
    with pytest.raises(provisioner.ImpossibleError, match=reason):
        volumes.volume(claim(**spec), storage.storage_class("disk"), "node-1")
