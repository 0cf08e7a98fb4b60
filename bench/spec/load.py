"""Read the documents that people write; every problem of a file at once, with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.spec.documents import StorageTarget, Workload
from bench.spec.draft import draft_of, validated
from bench.spec.lookup import find, read_text
from bench.spec.overrides import apply, parse_overrides
from bench.spec.requirements import Requirements

__all__ = ["load_requirements", "load_storage", "load_workload"]


def load_workload(reference: str, *, overrides: Sequence[str] = ()) -> Workload:
    """Return a workload.

    Args:
        reference: A path, or a name in ./workloads or among those packaged with bench.
        overrides: All --set options; those of other documents are left alone.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        DocumentError: The file or an override is wrong.
    """
    parsed = parse_overrides(overrides)
    text, label = read_text(find(reference, "workloads"))
    draft = draft_of(text, Workload, label)
    apply(draft, parsed.workload, "workload")
    return validated(draft, Workload)


def load_storage(reference: str, *, overrides: Sequence[str] = ()) -> StorageTarget:
    """Return a storage target.

    Args:
        reference: A path, or a name in ./storageclasses or among those packaged with bench.
        overrides: All --set options; those of other documents are left alone.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        DocumentError: The file or an override is wrong.
    """
    parsed = parse_overrides(overrides)
    text, label = read_text(find(reference, "storageclasses"))
    draft = draft_of(text, StorageTarget, label)
    apply(draft, parsed.storage, "storage")
    return validated(draft, StorageTarget)


def load_requirements(path: str | Path) -> Requirements:
    """Return the requirements of an approval.

    Raises:
        UsageError: The file cannot be read.
        DocumentError: It is wrong.
    """
    text, label = read_text(Path(path).expanduser())
    return validated(draft_of(text, Requirements, label), Requirements)
