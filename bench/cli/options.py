"""Options that `bench run` and `bench prepare` share, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from bench.agent.site import LocalSite, Site, open_site, open_store
from bench.errors import UsageError
from bench.launch.resolve import Cell, resolve_cell, target_root
from bench.spec.division import division
from bench.spec.documents import StorageTarget, Workload
from bench.spec.load import load_storage, load_workload
from bench.spec.overrides import plan_settings
from bench.spec.plan import PlanSettings
from bench.storage.object.store import ObjectStore

__all__ = [
    "ClusterOptions",
    "Documents",
    "Request",
    "cell_options",
    "read_documents",
    "read_request",
]

Command = Callable[..., Any]

ENGINES = ("http", "boto3", "obstore", "s3torchconnector", "s3fs")


def cell_options(command: Command, *, many_targets: bool = False) -> Command:
    """Add the arguments and options that describe a cell.

    Args:
        command: Takes them.
        many_targets: -s may be repeated; `storage` is a tuple then.
    """
    overrides = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override workload.*, storage.* or plan.*; may be repeated.",
    )
    decorators = (
        click.argument("workload"),
        click.option(
            "-s",
            "--storage",
            required=True,
            multiple=many_targets,
            help="Storage target: name or file.",
        ),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Where and how, beside the cell itself."""

    context: str | None
    kubeconfig: str | None
    namespace: str | None
    results: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class Documents:
    """What the user wrote, with overrides applied, before any machine was asked.

    Attributes:
        workload: To run.
        target: To run it on.
        settings: Of the run, with an accelerator that the workload knows.
        division: Certified or exploratory.
        overrides: As given, those of options included.
    """

    workload: Workload
    target: StorageTarget
    settings: PlanSettings
    division: Literal["certified", "exploratory"]
    overrides: tuple[str, ...]


def read_documents(
    *,
    workload: str,
    storage: str,
    overrides: tuple[str, ...],
    engine: str | None = None,
    **settings: Any,
) -> Documents:
    """Load the documents and apply overrides.

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
    declared_workload, declared_target = load_workload(workload), load_storage(storage)
    wanted = load_workload(workload, overrides=overrides)
    target = load_storage(storage, overrides=overrides)
    plan = plan_settings(overrides, **settings)
    if "accelerator" not in plan.model_fields_set and (
        plan.accelerator not in wanted.spec.accelerators
    ):
        plan = plan.model_copy(update={"accelerator": min(wanted.spec.accelerators)})
    return Documents(
        wanted,
        target,
        plan,
        division(
            declared_workload=declared_workload,
            workload=wanted,
            declared_storage=declared_target,
            storage=target,
            settings=plan,
        ),
        overrides,
    )


def read_request(**asked: Any) -> Request:
    """Load the documents, apply overrides and check that the cell can be measured here.

    Args:
        asked: As `read_documents` takes it.

    Raises:
        UsageError: Something is wrong with what the user wrote.
    """
    given = read_documents(**asked)
    target, plan = given.target, given.settings
    if plan.nodes > 1:
        raise UsageError(
            "--nodes",
            f"{plan.nodes} nodes cannot be measured by the local launcher",
            "use --gpus-per-node on this machine, or --launcher kubernetes",
        )
    root = _make_root(target)
    store = open_store(target.spec)
    local, site = open_site(target.spec, root, store)
    direct = target.spec.io.mode == "direct" or root is None or plan.cache != "cold"
    memory_fs = site.mount is not None and site.mount.fs_type in ("tmpfs", "ramfs")
    usable = site.host.usable_memory_bytes
    cell = resolve_cell(
        given.workload,
        target,
        plan,
        memory_bytes=usable,
        cacheable_bytes=0 if direct or memory_fs else usable or 0,
    )
    return Request(
        cell=cell,
        root=root,
        store=store,
        division=given.division,
        overrides=given.overrides,
        local=local,
        site=site,
    )
