"""`bench prepare`: make or verify the data set that a run would use."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.agent.group import termination_as_interrupt
from bench.analysis.wording import data_bytes, rate
from bench.cli.follow import Follower
from bench.cli.live import LiveLine
from bench.cli.options import Request, cell_options, read_request
from bench.cli.run import UPLOAD_WORKERS
from bench.dataset.generate import Progress, ensure, remove
from bench.dataset.manifest import Manifest
from bench.dataset.object_verify import verify_objects
from bench.dataset.objects import ensure_objects, load_manifest, remove_objects
from bench.dataset.verify import verify
from bench.errors import Interrupted
from bench.launch.resolve import dataset_directory
from bench.storage.object.store import ObjectStore

__all__ = ["command"]

WORKERS = 2


class _Last:
    """Remembers the last progress, for the closing rate."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.progress: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.progress = progress
        self._follower.making(progress)


@click.command(name="prepare")
@cell_options
@click.option("--verify", "check_bytes", is_flag=True, help="Read and compare every byte.")
@click.option("--remake", is_flag=True, help="Remove the data set first.")
def command(
    *,
    workload: str,
    storage: str,
    overrides: tuple[str, ...],
    check_bytes: bool,
    remake: bool,
    dataset_size: str | None,
    **settings: Any,
) -> None:
    """Make the data set that `bench run` with the same options would use."""
    request = read_request(
        workload=workload,
        storage=storage,
        overrides=overrides,
        dataset_bytes=dataset_size,
        **settings,
    )
    if request.store is not None:
        _prepare_objects(request, request.store, check_bytes=check_bytes, remake=remake)
        return
    if request.root is None:
        print("a simulated target has no data set; there is nothing to prepare")
        return
    cell = request.cell
    directory = request.root / dataset_directory(cell)
    console = Console(stderr=True)
    with termination_as_interrupt(), LiveLine(console) as line:
        last = _Last(Follower(line, cell))
        try:
            if remake:
                remove(directory)
            if not check_bytes:
                manifest = ensure(
                    request.root,
                    cell.workload.metadata.name,
                    cell.workload.spec.dataset,
                    workers=WORKERS,
                    progress=last,
                )
            else:
                manifest = _verify(directory, last)
        except KeyboardInterrupt as error:
            raise Interrupted(
                str(directory), "stopped; whole files are kept, run again to go on"
            ) from error
    action = "verified" if check_bytes else "made" if last.progress else "found complete"
    print(_closing(directory, manifest, action, last.progress))


def _prepare_objects(
    request: Request, store: ObjectStore, *, check_bytes: bool, remake: bool
) -> None:
    cell = request.cell
    directory = dataset_directory(cell)
    with termination_as_interrupt(), LiveLine(Console(stderr=True)) as line:
        last = _Last(Follower(line, cell))
        try:
            if remake:
                remove_objects(store, directory)
            if check_bytes:
                manifest = load_manifest(store, directory)
                verify_objects(store, directory, manifest, workers=UPLOAD_WORKERS, progress=last)
            else:
                manifest = ensure_objects(
                    store,
                    cell.workload.metadata.name,
                    cell.workload.spec.dataset,
                    workers=UPLOAD_WORKERS,
                    progress=last,
                )
        except KeyboardInterrupt as error:
            raise Interrupted(
                store.url(directory), "stopped; whole objects are kept, run again to go on"
            ) from error
    action = "verified" if check_bytes else "made" if last.progress else "found complete"
    print(_summary(manifest, action, last.progress, what="objects"))
    print(store.url(directory))


def _verify(directory: Path, last: _Last) -> Manifest:
    manifest = Manifest.load(directory)
    verify(
        directory,
        manifest,
        workers=WORKERS,
        progress=lambda files, count, done, total, seconds: last(
            Progress("verifying", files, count, done, total, seconds)
        ),
    )
    return manifest


def _closing(directory: Path, manifest: Manifest, action: str, last: Progress | None) -> str:
    free = data_bytes(shutil.disk_usage(directory).free)
    return f"{_summary(manifest, action, last, what='files')}\n{directory} ({free} free)"


def _summary(manifest: Manifest, action: str, last: Progress | None, *, what: str) -> str:
    size = data_bytes(manifest.total_bytes)
    pace = ""
    if last is not None and last.seconds > 0 and last.bytes:
        pace = f", {rate(last.bytes / last.seconds)}"
    return f"{action}: {len(manifest.names)} {what}, {manifest.total_samples} samples, {size}{pace}"
