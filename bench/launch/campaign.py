"""All repeats of one cell on this machine, one after the other, each kept as it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.agent.site import LocalSite, Site
from bench.errors import BenchError, ResultsError
from bench.launch.assemble import assemble_repeat
from bench.launch.local import run_repeat
from bench.results.schema import Repeat
from bench.results.store import RunKey, Store
from bench.spec.plan import Plan

__all__ = ["Campaign", "run_repeats", "scratch_directory"]

SCRATCH = ".scratch"

OnEvent = Callable[[int, int, dict[str, Any]], None]


@dataclass(slots=True)
class Campaign:
    """What came of all repeats.

    Attributes:
        repeats: In order; the last one may be partial.
        error: What stopped the campaign; None where every repeat was run.
        interrupted: The user stopped it.
        device: Facts of the device, from the first rank that told them.
    """

    repeats: list[Repeat] = field(default_factory=list)
    error: BenchError | None = None
    interrupted: bool = False
    device: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def scratch_directory(results: str, run_id: str) -> Iterator[Path]:
    """Make a directory for a run's raw tables, and remove it, and those of killed runs.

    A lock on the directory tells a run that lives from one that was killed.

    Raises:
        ResultsError: The results directory cannot be written.
    """
    base = Path(results) / SCRATCH
    try:
        base.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(base)
        path = base / run_id
        path.mkdir()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ResultsError(
            str(base), f"cannot be written ({error.strerror})", "choose another --results"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(fd)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            base.rmdir()  # unless another run is using it


def _remove_abandoned(base: Path) -> None:
    for path in base.iterdir():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)


def run_repeats(
    plan: Plan,
    *,
    local: LocalSite,
    site: Site,
    store: Store,
    key: RunKey,
    scratch: Path,
    on_event: OnEvent,
) -> Campaign:
    """Run every repeat of the plan.

    Args:
        plan: What to run.
        local: Where the data is.
        site: The machine and the target, for the documents.
        store: Where tables go, repeat by repeat.
        key: Of the run.
        scratch: Directory for raw tables.
        on_event: Called with (repeat, rank, event).

    Returns:
        What came of it. A repeat that fails ends the campaign; what was measured is kept.
    """
    campaign = Campaign()
    for index in range(plan.settings.repeats):
        directory = scratch / str(index)
        directory.mkdir()
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        outcome = run_repeat(
            plan,
            repeat=index,
            site=local,
            scratch=directory,
            on_event=lambda rank, event, index=index: on_event(index, rank, event),  # type: ignore[misc]
        )
        repeat, tables = assemble_repeat(
            plan, outcome, directory, site, index=index, started_at=started_at
        )
        campaign.repeats.append(repeat)
        for result in outcome.ranks.values():
            campaign.device = campaign.device or dict(result["device"])
        if tables is not None:
            for rank, steps in tables.steps.items():
                store.write_tables(
                    key,
                    repeat=index,
                    rank=rank,
                    steps=steps,
                    pieces=tables.pieces[rank],
                    start_ns=tables.start_ns[rank],
                )
        shutil.rmtree(directory, ignore_errors=True)
        campaign.error = outcome.error
        campaign.interrupted = outcome.interrupted
        if outcome.error is not None or outcome.interrupted:
            break
    return campaign
