"""Streams of a run's objects: list, then watch, and again after every interruption.

One thread for each kind puts changes into one queue. A watch that ends, is cut off, or is told
that its place in history is gone (410) is taken up again; an API server that stays away for
longer than `GIVE_UP_SECONDS` ends it with an error in the queue. The number of calls depends on
neither ranks nor pods.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.errors import BenchError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.connect import API_FAULTS, JsonObject, api_error, request_json

__all__ = ["Change", "Watcher", "stream_lines"]

WATCH_SECONDS = 240
"""A server ends a watch after about this long; a new one takes its place."""

READ_TIMEOUT_SECONDS = WATCH_SECONDS + 30
CONNECT_TIMEOUT_SECONDS = 5.0

GIVE_UP_SECONDS = 300.0
"""An API server that is upgraded or restarted is back sooner."""

REFUSED_SECONDS = 20.0
"""An API server that has just started refuses everything until it has read the roles."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 5.0

GONE = 410
REFUSALS = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object as it is now.

    Attributes:
        kind: "Pod", "Job", "PersistentVolumeClaim", "Event"; "Error" for a stream that ended.
        value: The object; empty for an error.
        deleted: It is gone.
        error: Why the stream ended.
    """

    kind: str
    value: JsonObject
    deleted: bool = False
    error: BenchError | None = None


KINDS = {
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "Event": "/api/v1/namespaces/{namespace}/events",
}


def stream_lines(
    api: client.ApiClient,
    path: str,
    *,
    query: dict[str, str | int],
    read_timeout_seconds: float,
    opened: list[Any] | None = None,
) -> Iterator[bytes]:
    """Yield the lines of an answer as they come, each without its end.

    Args:
        api: Of a connection.
        path: From the root of the server.
        query: Parameters.
        read_timeout_seconds: Longest silence.
        opened: Takes the response, so that another thread can shut it down.

    Raises:
        ApiException: The server refuses; other faults are those of API_FAULTS.
    """
    request = api.param_serialize(
        "GET",
        path,
        query_params=list(query.items()),
        header_params={"Accept": "*/*"},
        auth_settings=["BearerToken"],
    )
    answer = api.call_api(
        *request, _request_timeout=(CONNECT_TIMEOUT_SECONDS, read_timeout_seconds)
    )
    response = answer.response
    try:
        if response.status != 200:
            body = response.read().decode("utf-8", "replace")
            raise ApiException(status=response.status, reason=response.reason, body=body)
        if opened is not None:
            opened[:] = [response]
        rest = b""
        for chunk in response.stream(1 << 16, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest
    finally:
        response.close()


class _Stream(threading.Thread):
    """Lists and watches one kind."""

    def __init__(
        self,
        api: client.ApiClient,
        kind: str,
        path: str,
        selector: dict[str, str | int],
        changes: queue.Queue[Change],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"watch {kind}", daemon=True)
        self._api = api
        self._kind = kind
        self._path = path
        self._selector = selector
        self._changes = changes
        self._stop_event = stop
        self._opened: list[Any] = []
        self._known: dict[str, JsonObject] = {}
        self._well = time.monotonic()
        self._refused_since: float | None = None

    def run(self) -> None:
        version: str | None = None
        pause = FIRST_PAUSE_SECONDS
        while not self._stop_event.is_set():
            try:
                if version is None:
                    version = self._list()
                version = self._watch(version)
                pause = FIRST_PAUSE_SECONDS
            except API_FAULTS as error:
                if self._stop_event.is_set():
                    return
                if isinstance(error, ApiException) and error.status == GONE:
                    version = None
                    continue
                if self._is_hopeless(error):
                    failure = api_error(error, place=f"watch of {self._kind}s")
                    self._changes.put(Change(kind="Error", value={}, error=failure))
                    return
                self._stop_event.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except ValueError:  # cut off in the middle of a line
                version = None

    def _is_hopeless(self, error: Exception) -> bool:
        """Whether a fault has lasted for too long to be one that passes."""
        now = time.monotonic()
        if not (isinstance(error, ApiException) and error.status in REFUSALS):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        since = self._refused_since
        refused = since is not None and now - since > REFUSED_SECONDS
        return refused or now - self._well > GIVE_UP_SECONDS

    def _note_well(self) -> None:
        self._well = time.monotonic()
        self._refused_since = None

    def shut_down(self) -> None:
        """Wake the thread from its read."""
        for response in self._opened:
            with contextlib.suppress(Exception):  # it may be in any state
                response.shutdown()

    def _list(self) -> str:
        query: dict[str, str | int] = dict(self._selector)
        found: dict[str, JsonObject] = {}
        while True:
            answer = request_json(self._api, "GET", self._path, query=query | {"limit": 500})
            for item in answer.get("items", []):
                found[item["metadata"]["uid"]] = _identity(item)
                self._changes.put(Change(kind=self._kind, value=item))
            more = answer.get("metadata", {}).get("continue")
            if not more:
                break
            query["continue"] = more
        self._note_well()
        for uid, item in self._known.items():
            if uid not in found:  # it went while nobody looked
                self._changes.put(Change(kind=self._kind, value=item, deleted=True))
        self._known = found
        return str(answer["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        query = self._selector | {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
        }
        for line in stream_lines(
            self._api,
            self._path,
            query=query,
            read_timeout_seconds=READ_TIMEOUT_SECONDS,
            opened=self._opened,
        ):
            if self._stop_event.is_set():
                return version
            self._note_well()
            told = json.loads(line)
            item = told["object"]
            if told["type"] == "ERROR":
                raise ApiException(status=int(item.get("code", 500)), reason=item.get("message"))
            version = str(item["metadata"]["resourceVersion"])
            if told["type"] == "BOOKMARK":
                continue
            uid, deleted = item["metadata"]["uid"], told["type"] == "DELETED"
            if deleted:
                self._known.pop(uid, None)
            else:
                self._known[uid] = _identity(item)
            self._changes.put(Change(kind=self._kind, value=item, deleted=deleted))
        return version


def _identity(item: JsonObject) -> JsonObject:
    """Return what must be known of an object that may vanish unseen."""
    metadata = item["metadata"]
    return {
        "kind": item.get("kind"),
        "metadata": {key: metadata[key] for key in ("name", "uid", "labels") if key in metadata},
    }


class Watcher:
    """All streams of a run while the context lasts.

    Args:
        api: Of a connection.
        namespace: Of the run.
        run_id: Selects by label; events are of all objects of the namespace.

    Attributes:
        changes: What happened, in the order of each stream.
    """

    def __init__(self, api: client.ApiClient, *, namespace: str, run_id: str) -> None:
        self.changes: queue.Queue[Change] = queue.Queue(maxsize=4096)
        self._stop = threading.Event()
        selector: dict[str, str | int] = {"labelSelector": f"{n.RUN_ID}={run_id}"}
        self._streams = [
            _Stream(
                api,
                kind,
                path.format(namespace=namespace),
                {} if kind == "Event" else selector,
                self.changes,
                self._stop,
            )
            for kind, path in KINDS.items()
        ]

    def __enter__(self) -> Self:
        """Start."""
        for stream in self._streams:
            stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; threads are daemons, so one that hangs in a read ends with the process."""
        self._stop.set()
        for stream in self._streams:
            stream.shut_down()
        with contextlib.suppress(queue.Empty):
            while True:  # a thread may be waiting for room
                self.changes.get_nowait()
        for stream in self._streams:
            stream.join(timeout=2)

    def next(self, *, timeout_seconds: float) -> Change | None:
        """Return the next change; None where none came in time."""
        try:
            return self.changes.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
