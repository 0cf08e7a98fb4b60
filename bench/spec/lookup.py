"""Where input documents are found: a path, ./workloads or ./storageclasses, the package."""

from __future__ import annotations

import os
from pathlib import Path

import bench
from bench.errors import UsageError
from bench.spec.keys import nearest

__all__ = ["Folder", "find", "read_text"]

Folder = str
"""Name of the folder of a kind: "workloads" or "storageclasses"."""

WORDS = {"workloads": "workload", "storageclasses": "storage target"}
SUFFIXES = (".yaml", ".yml")
MAX_FILE_BYTES = 2**20
"""Documents have a few kilobytes; this keeps a data file named by mistake out of memory."""


def _packaged(folder: Folder) -> Path:
    """Return the packaged folder: beside the modules in a wheel, at the top of a checkout."""
    package = Path(bench.__file__).parent
    in_wheel = package / "_packaged" / folder
    return in_wheel if in_wheel.is_dir() else package.parent / folder


def _names(folders: list[Path]) -> list[str]:
    found = {p.stem for d in folders if d.is_dir() for p in d.iterdir() if p.suffix in SUFFIXES}
    return sorted(found)


def _other(folder: Folder) -> str:
    return next(word for name, word in WORDS.items() if name != folder)


def find(reference: str, folder: Folder) -> Path:
    """Return the file that a reference names.

    Args:
        reference: A path, or a name with or without .yaml.
        folder: Where names of this kind are looked up.

    Raises:
        UsageError: There is none; names what there is and the nearest.
    """
    word = WORDS[folder]
    path = Path(reference).expanduser() if reference else Path()
    if reference and path.is_file():
        return path
    folders = [Path(folder), _packaged(folder)]
    is_name = bool(reference) and os.sep not in reference
    if is_name:
        stem = reference.removesuffix(".yaml").removesuffix(".yml")
        for directory in folders:
            for suffix in SUFFIXES:
                candidate = directory / f"{stem}{suffix}"
                if candidate.is_file():
                    return candidate
    known = _names(folders)
    near = nearest(Path(reference).stem, known) if reference else None
    problem = f"is no file, and none of that name is in ./{folder} or packaged with bench"
    if not is_name:
        problem = "is a directory" if reference and path.is_dir() else "is no file"
    remedy = f"did you mean {near}? " if near else ""
    if is_name and any(reference in _names([Path(o), _packaged(o)]) for o in WORDS if o != folder):
        remedy = f"{reference} is a {_other(folder)}; "
    raise UsageError(f"{word} {reference!r}", problem, f"{remedy}known: {', '.join(known)}")


def read_text(path: Path) -> tuple[str, str]:
    """Return the text of a document and the name to call it by in messages.

    Raises:
        UsageError: It cannot be read, or is no text.
    """
    try:
        label = str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        label = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(label, f"cannot be read: {reason}", "check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(label, "is not UTF-8 text", "save it as UTF-8") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(label, f"is larger than {MAX_FILE_BYTES} bytes", "name a document")
    return text, label
