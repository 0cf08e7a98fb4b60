"""How long a Job's pods waited for what, before they measured; from the cluster's time stamps.

Kubernetes stamps whole seconds, so each figure is right to a second; pulls are exact.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from bench.launch.kubernetes.picture import JobView, Notice, PodView

__all__ = ["Began", "waits_seconds"]

PULLED = re.compile(r"\bin ((?:\d+(?:\.\d+)?(?:h|ms|us|µs|ns|m|s))+)")
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _duration_seconds(text: str) -> float:
    """Return a duration as Go prints it: "1m2.5s", "850ms"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", text)
    return sum(float(amount) * UNITS[unit] for amount, unit in parts)


def waits_seconds(job: JobView, pods: list[PodView], notices: list[Notice]) -> dict[str, float]:
    """Return the longest wait over the pods for each of queue, schedule, pull and attach.

    Args:
        job: The Job.
        pods: Those that count, one for each index.
        notices: Events of the pods.
    """
    found: dict[str, float] = {}
    if job.created is not None and job.admitted is not None:
        found["queue"] = max(0.0, job.admitted - job.created)
    pulls = {
        notice.name: _duration_seconds(match.group(1))
        for notice in notices
        if notice.reason == "Pulled" and (match := PULLED.search(notice.message))
    }
    schedule, pull, attach = [], [], []
    for pod in pods:
        if job.admitted is not None and pod.scheduled is not None:
            schedule.append(max(0.0, pod.scheduled - job.admitted))
        pull.append(pulls.get(pod.name, 0.0))
        if pod.scheduled is not None and pod.started is not None:
            attach.append(max(0.0, pod.started - pod.scheduled - pull[-1]))
    for name, values in (("schedule", schedule), ("pull", pull), ("attach", attach)):
        if values:
            found[name] = max(values)
    return found


@dataclass(slots=True)
class Began:
    """When the measured phase began, by the launcher's clock."""

    created: float
    seconds: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, event: dict[str, Any]) -> None:
        """Take an event of the first pod, from any thread."""
        with self._lock:
            measuring = event["event"] == "phase" and event["phase"] == "measure"
            if measuring and self.seconds is None:
                self.seconds = time.monotonic() - self.created
