"""Options that `bench run` and `bench prepare` share, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from bench.errors import UsageError
from bench.launch.assemble import Site, storage_facts
from bench.launch.local import LocalSite
from bench.launch.resolve import Cell, resolve_cell, target_root
from bench.measure.host import host_facts
from bench.measure.mounts import mount_facts
from bench.spec.division import division
from bench.spec.documents import StorageTarget
from bench.spec.load import load_storage, load_workload
from bench.spec.overrides import plan_settings
from bench.spec.plan import PlanSettings
from bench.storage.object.access import open_access
from bench.storage.object.engines.target import engine_version
from bench.storage.object.preflight import object_facts
from bench.storage.object.store import ObjectStore
from bench.storage.probe import check_mode

__all__ = ["Request", "cell_options", "open_site", "read_request"]

Command = Callable[..., Any]

ENGINES = ("http", "boto3", "obstore", "s3torchconnector", "s3fs")


def cell_options(command: Command) -> Command:
    """Add the arguments and options that describe a cell."""
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override workload.*, storage.* or plan.*; may be repeated.",
    )
    decorators = (
        click.argument("workload"),
        click.option("-s", "--storage", required=True, help="Storage target: name or file."),
        click.option("-a", "--accelerator", help="Accelerator of the workload, or none."),
        click.option("--nodes", type=int, help="Nodes that measure together."),
        click.option("--gpus-per-node", type=int, help="Accelerators on each node."),
        click.option("--engine", type=click.Choice(ENGINES), help="Client of an object store."),
        click.option("--dataset-size", help="Scale the number of files to this size."),
        overrides,
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, checked and completed.

    Attributes:
        cell: Workload, target and settings.
        root: Directory for data sets; None for a target that is none.
        store: Objects below the target's prefix; None for a target that is none.
        division: Certified or exploratory.
        overrides: As given.
    """

    cell: Cell
    root: Path | None
    store: ObjectStore | None
    division: Literal["certified", "exploratory"]
    overrides: tuple[str, ...]
    local: LocalSite
    site: Site


def _make_root(target: StorageTarget) -> Path | None:
    root = target_root(target)
    if root is None:
        return None
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            str(root),
            f"the target's directory cannot be made ({error.strerror})",
            "choose another one with --set storage.directory.path=DIR",
        ) from error
    return root


def open_site(
    target: StorageTarget, root: Path | None, store: ObjectStore | None = None
) -> tuple[LocalSite, Site]:
    """Try the target and gather facts of the machine.

    Raises:
        TargetError: The target refuses how it is to be read.
    """
    align = 1
    if store is not None:
        io = target.spec.io
        facts = object_facts(
            store.access, timeout_seconds=io.timeout_seconds, max_attempts=io.max_attempts
        )
        facts["engine_version"] = engine_version(io.engine) or "bench"
        return LocalSite("", align), Site(host_facts(), None, facts)
    if root is not None:
        mount = mount_facts(str(root))
        fs_type = mount.fs_type if mount is not None else "unknown"
        align = check_mode(root, target.spec.io.mode, fs_type=fs_type).offset_bytes
    mount, facts = storage_facts(root)
    return LocalSite(str(root or ""), align), Site(host_facts(), mount, facts)


def open_store(target: StorageTarget) -> ObjectStore | None:
    """Return the objects of an object target; None for another one.

    Raises:
        TargetError: There are no credentials for it, or the configuration is wrong.
    """
    if target.spec.object is None:
        return None
    io = target.spec.io
    if io.engine not in ("posix", "http") and engine_version(io.engine) is None:
        raise UsageError(
            "storage.io.engine",
            f"{io.engine} is not installed",
            "install the extra `engines` (pip install 'bench[engines]'), or use http",
        )
    return ObjectStore(
        open_access(
            target.spec.object, timeout_seconds=io.timeout_seconds, max_attempts=io.max_attempts
        )
    )


def read_request(
    *,
    workload: str,
    storage: str,
    overrides: tuple[str, ...],
    engine: str | None = None,
    **settings: Any,
) -> Request:
    """Load the documents, apply overrides and check that the cell can be measured here.

    Args:
        workload: Name or file.
        storage: Name or file.
        overrides: --set options.
        engine: --engine, short for --set storage.io.engine.
        settings: Plan settings by name; None for not given.

    Raises:
        UsageError: Something is wrong with what the user wrote.
    """
    if engine is not None:
        overrides = (*overrides, f"storage.io.engine={engine}")
    declared_workload, declared_storage = load_workload(workload), load_storage(storage)
    wanted = load_workload(workload, overrides=overrides)
    plan: PlanSettings = plan_settings(overrides, **settings)
    if "accelerator" not in plan.model_fields_set and (
        plan.accelerator not in wanted.spec.accelerators
    ):
        plan = plan.model_copy(update={"accelerator": min(wanted.spec.accelerators)})
    target = load_storage(storage, overrides=overrides)
    if plan.nodes > 1:
        raise UsageError(
            "--nodes",
            f"{plan.nodes} nodes cannot be measured by the local launcher",
            "use --gpus-per-node on this machine",
        )
    root = _make_root(target)
    store = open_store(target)
    local, site = open_site(target, root, store)
    direct = target.spec.io.mode == "direct" or root is None or plan.cache != "cold"
    memory_fs = site.mount is not None and site.mount.fs_type in ("tmpfs", "ramfs")
    usable = site.host.usable_memory_bytes
    cell = resolve_cell(
        wanted,
        target,
        plan,
        memory_bytes=usable,
        cacheable_bytes=0 if direct or memory_fs else usable or 0,
    )
    return Request(
        cell=cell,
        root=root,
        store=store,
        division=division(
            declared_workload=declared_workload,
            workload=wanted,
            declared_storage=declared_storage,
            storage=target,
            settings=plan,
        ),
        overrides=overrides,
        local=local,
        site=site,
    )
