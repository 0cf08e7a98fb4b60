"""Documents are found by path, then in the working directory's folders, then in the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import bench
from bench.errors import UsageError
from bench.spec.load import load_storage, load_workload

KNOWN = "known: cosmoflow, resnet50, retinanet, smoke, unet3d"


def renamed(text: str, name: str) -> str:
    return text.replace("name: smoke", f"name: {name}")


def test_a_path_comes_before_the_folder_and_the_folder_before_the_package(
    here: Path, repository: Path
) -> None:
    text = (repository / "workloads/smoke.yaml").read_text()
    assert load_workload("smoke").metadata.name == "smoke"
    (here / "workloads").mkdir()
    (here / "workloads/smoke.yaml").write_text(renamed(text, "in-folder"))
    assert load_workload("smoke").metadata.name == "in-folder"
    assert load_workload("smoke.yaml").metadata.name == "in-folder"
    (here / "smoke").write_text(renamed(text, "in-path"))
    assert load_workload("smoke").metadata.name == "in-path"
    assert load_workload(str(here / "smoke")).metadata.name == "in-path"


def test_a_wheel_holds_the_documents_beside_its_modules(
    here: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "site/bench/_packaged/workloads"
    folder.mkdir(parents=True)
    text = (repository / "workloads/smoke.yaml").read_text()
    (folder / "smoke.yaml").write_text(renamed(text, "in-wheel"))
    monkeypatch.setattr(bench, "__file__", str(here / "site/bench/__init__.py"))
    assert load_workload("smoke").metadata.name == "in-wheel"


MISSING = {
    "unet3": (
        "workload 'unet3': is no file, and none of that name is in ./workloads or packaged with "
        f"bench; did you mean unet3d? {KNOWN}"
    ),
    "zzz": (
        "workload 'zzz': is no file, and none of that name is in ./workloads or packaged with "
        f"bench; {KNOWN}"
    ),
    "local-dir": (
        "workload 'local-dir': is no file, and none of that name is in ./workloads or packaged "
        f"with bench; local-dir is a storage target; {KNOWN}"
    ),
    "./no/unet3d.yaml": f"workload './no/unet3d.yaml': is no file; did you mean unet3d? {KNOWN}",
    "./": f"workload './': is a directory; {KNOWN}",
    "": f"workload '': is no file; {KNOWN}",
}


@pytest.mark.parametrize("reference", MISSING)
def test_a_missing_name_lists_what_there_is_and_the_nearest(here: Path, reference: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_workload(reference)
    assert str(caught.value) == MISSING[reference]


def test_a_missing_target_lists_targets(here: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_storage("local_dir")
    assert str(caught.value).endswith(
        "did you mean local-dir? known: ephemeral-ssd, local-dir, lustre, object-s3, simulated"
    )
