"""From a reader's configuration to the engine that it names."""

from __future__ import annotations

import importlib
import mmap
from typing import Any

from bench.storage.base import Backend
from bench.storage.object.cell import CredentialReader
from bench.storage.object.engines.library import Fetch, LibraryBackend
from bench.storage.object.http import HttpBackend, HttpSettings, ObjectTable
from bench.storage.object.location import Location
from bench.storage.object.retry import RetryPolicy

__all__ = ["open_objects"]


def open_objects(settings: dict[str, Any]) -> Backend:
    """Return the backend of an object target; connects to nothing.

    Args:
        settings: From `bench.agent.source`.
    """
    memory = memoryview(mmap.mmap(settings["table_fd"], 0, prot=mmap.PROT_READ))
    sizes_at, etags_at = settings["sizes_at"], settings["etags_at"]
    count = settings["num_objects"]
    table = ObjectTable(
        memory[:sizes_at],
        settings["name_width"],
        memory[sizes_at : sizes_at + 8 * count],
        memory[etags_at:],
        settings["etag_width"],
    )
    retry = RetryPolicy(max_attempts=settings["max_attempts"], seed=settings["seed"])
    if settings["engine"] != "http":
        return LibraryBackend(table, prefix=settings["prefix"], fetch=_fetch(settings), retry=retry)
    http = HttpSettings(
        Location(*settings["location"]),
        settings["ca_bundle"],
        settings["timeout_seconds"],
        retry,
    )
    return HttpBackend(
        table,
        prefix=settings["prefix"],
        settings=http,
        credentials=CredentialReader(settings["credentials_fd"]),
    )


def _fetch(settings: dict[str, Any]) -> Fetch:
    """Import an engine's library now, and no other."""
    module = importlib.import_module(f"bench.storage.object.engines.{settings['engine']}")
    fetch: Fetch = module.open_fetch(settings)
    return fetch
