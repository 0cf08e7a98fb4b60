"""What pods send home in their logs: followed while they run, read again where lines are missing.

Numbered lines tell exactly what is missing. Files are written to the scratch directory as soon
as they are whole, so that a thousand pods' tables do not lie in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.agent.pod.wire import BadLineError, Line, lines_of, unpack
from bench.launch.kubernetes.connect import API_FAULTS
from bench.launch.kubernetes.pods import CONTAINER
from bench.launch.kubernetes.watch import stream_lines

__all__ = ["Follower", "PodLog", "read_logs"]

SILENCE_SECONDS = 3600.0
"""A pod that measures says something each second; one that makes data as well."""

READ_SECONDS = 60.0
NUM_READERS = 8
RETRY_SECONDS = 0.5

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class PodLog:
    """What has come from one pod.

    Attributes:
        pod: Its name.
        scratch: Where its files go.
        on_event: Called with each event that is none of ours to keep.
        site: The pod's own account of where it runs; None where it did not come.
        dataset: What a preparing pod says of the data set.
        error: The pod's last words, where it failed.
        total: Lines that it wrote; None where its end did not come.
        omitted: Tables that the pod did not send, since its log may take no more.
    """

    pod: str
    scratch: Path
    on_event: OnEvent
    site: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    total: int | None = None
    problems: list[str] = field(default_factory=list)
    omitted: tuple[str, ...] = ()
    files: set[str] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)
    _parts: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, line: Line) -> None:
        """Note one line, from any thread; lines that come again are passed over."""
        with self._lock:
            self._take(line)

    def _take(self, line: Line) -> None:
        if line.sequence in self._seen:
            return
        self._seen.add(line.sequence)
        event = line.event
        match event.get("event"):
            case "file":
                self._take_file(event)
            case "site":
                self.site = event
            case "dataset":
                self.dataset = event
            case "error":
                self.error = event
            case "omitted":
                self.omitted = tuple(event["tables"])
            case "end":
                self.total = int(event["lines"])
            case _:
                self.on_event(event)

    @property
    def whole(self) -> bool:
        """Every line has come."""
        return self.total is not None and len(self._seen) >= self.total

    def missing(self) -> str:
        """Return what has not come, for a person; empty where everything has."""
        words = list(self.problems)
        incomplete = [
            f"{len(parts)} of {next(iter(parts.values()))['parts']} parts of {name}"
            for name, parts in sorted(self._parts.items())
        ]
        if self.total is None and not self._seen:
            return "its whole log"
        if self.total is None:
            words.append(f"all lines after {max(self._seen)}")
        gaps = _ranges(set(range(self.total or max(self._seen) + 1)) - self._seen)
        if gaps:
            words.append(f"lines {gaps} of {self.total or 'unknown'}")
        if incomplete:
            words.append(f"only {', '.join(incomplete)} came")
        return "; ".join(words)

    def _take_file(self, event: dict[str, Any]) -> None:
        name = str(event["name"])
        parts = self._parts.setdefault(name, {})
        parts[int(event["part"])] = event
        if len(parts) < int(event["parts"]):
            return
        del self._parts[name]
        try:
            data = unpack(parts)
        except BadLineError as error:
            self.problems.append(str(error))
            return
        (self.scratch / Path(name).name).write_bytes(data)
        self.files.add(name)


def _ranges(numbers: set[int]) -> str:
    """Return numbers as ranges: "17-20, 25"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in found)


def _read(api: client.ApiClient, namespace: str, log: PodLog, *, follow: bool) -> None:
    opened: list[Any] = []
    query: dict[str, str | int] = {"container": CONTAINER}
    if follow:
        query["follow"] = "true"
    lines = stream_lines(
        api,
        f"/api/v1/namespaces/{namespace}/pods/{log.pod}/log",
        query=query,
        read_timeout_seconds=SILENCE_SECONDS if follow else READ_SECONDS,
        opened=opened,
    )
    for line in lines_of(one.decode("utf-8", "replace") for one in lines):
        log.take(line)


class Follower(threading.Thread):
    """Reads one pod's log while it is written, and again from its start after a break.

    Args:
        api: Of a connection.
        namespace: Of the pod.
        log: Takes what comes.
    """

    def __init__(self, api: client.ApiClient, *, namespace: str, log: PodLog) -> None:
        super().__init__(name=f"log {log.pod}", daemon=True)
        self._api = api
        self._namespace = namespace
        self.log = log
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Follow until the pod's last line has come."""
        while not self._stop_event.is_set() and not self.log.whole:
            try:
                _read(self._api, self._namespace, self.log, follow=True)
            except API_FAULTS as error:
                if isinstance(error, ApiException) and error.status == 404:
                    return  # the pod is gone
            self._stop_event.wait(RETRY_SECONDS)

    def stop(self) -> None:
        """Do not start again after the next break."""
        self._stop_event.set()


def read_logs(api: client.ApiClient, *, namespace: str, logs: list[PodLog]) -> None:
    """Read the logs of pods that have ended, several at a time; each twice where lines lack."""

    def read(log: PodLog) -> None:
        for _ in range(2):
            if log.whole:
                return
            try:
                _read(api, namespace, log, follow=False)
            except API_FAULTS as error:
                log.problems[:] = [f"its log cannot be read: {' '.join(str(error).split())[:200]}"]

    with ThreadPoolExecutor(NUM_READERS) as pool:
        list(pool.map(read, logs))
