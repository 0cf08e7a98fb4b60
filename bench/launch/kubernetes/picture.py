"""What is known of a run's Jobs and pods: a small record of each, kept up to date by changes.

Objects themselves are not kept, so that a thousand pods fit. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bench.launch.kubernetes.connect import JsonObject
from bench.launch.kubernetes.watch import Change

__all__ = ["JobView", "Notice", "Picture", "PodView", "instant"]

JOB_LABEL = "batch.kubernetes.io/job-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


def instant(text: str | None) -> float | None:
    """Return a Kubernetes time stamp as seconds of the epoch."""
    if not text:
        return None
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Notice:
    """An event, in the cluster's own words."""

    kind: str
    name: str
    reason: str
    message: str
    warning: bool
    count: int
    at: float | None


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod."""

    name: str
    uid: str
    job: str
    index: int
    phase: str
    node: str
    created: float | None
    scheduled: float | None
    started: float | None
    """Its container runs."""
    finished: float | None
    unschedulable: str
    """The scheduler's message; empty where it found a node or has not tried."""
    waiting: tuple[str, str]
    """Reason and message of a container that cannot start."""
    exit_code: int | None
    exit_reason: str
    """Why the container ended: Completed, Error, OOMKilled."""
    reason: str
    """Why the pod ended, where that was not its container: Evicted, ..."""
    disrupted: str
    verdict: str
    """The termination message."""
    image_id: str
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class JobView:
    """One Job."""

    name: str
    uid: str
    created: float | None
    admitted: float | None
    """It may make pods: the queue, where there is one, has let it in."""
    suspended: bool
    active: int
    complete: bool
    failed: str
    """Reason and message of the failure; empty while there is none."""
    deleted: bool = False


@dataclass(slots=True)
class Picture:
    """A run as the streams have told it.

    Attributes:
        pods: By name, gone ones as well.
        jobs: By name.
        claims: Phase of each claim by name.
        notices: Events by (kind, name, reason), the newest of each.
        prefix: Names of the run's objects begin with it; events of others are not kept.
        others: Names of further objects whose events matter: a claim that outlives the run.
    """

    pods: dict[str, PodView] = field(default_factory=dict)
    jobs: dict[str, JobView] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    notices: dict[tuple[str, str, str], Notice] = field(default_factory=dict)
    prefix: str = ""
    others: frozenset[str] = frozenset()

    def take(self, change: Change) -> None:
        """Note a change.

        Raises:
            BenchError: The stream has ended for good.
        """
        if change.error is not None:
            raise change.error
        name = change.value["metadata"]["name"]
        match change.kind:
            case "Pod":
                self._take_pod(name, change)
            case "Job":
                before = self.jobs.get(name)
                if change.deleted and before is not None:
                    self.jobs[name] = _gone_job(before)
                elif not change.deleted:
                    self.jobs[name] = _job(change.value)
            case "PersistentVolumeClaim":
                phase = change.value.get("status", {}).get("phase", "Pending")
                self.claims[name] = "Deleted" if change.deleted else phase
            case "Event":
                self._take_event(change.value)

    def pods_of(self, job: str) -> list[PodView]:
        """Return the pods of a Job, by index and then by age."""
        found = [pod for pod in self.pods.values() if pod.job == job]
        return sorted(found, key=lambda pod: (pod.index, pod.created or 0.0))

    def notices_of(self, names: Iterable[str], *, kind: str | None = None) -> list[Notice]:
        """Return what was said about objects, oldest first."""
        wanted = set(names)
        found = [
            notice
            for notice in self.notices.values()
            if notice.name in wanted and kind in (None, notice.kind)
        ]
        return sorted(found, key=lambda notice: notice.at or 0.0)

    def _take_pod(self, name: str, change: Change) -> None:
        if not change.deleted:
            self.pods[name] = _pod(change.value)
        elif "status" in change.value:
            self.pods[name] = _pod(change.value, deleted=True)
        elif name in self.pods:
            self.pods[name] = _gone_pod(self.pods[name])

    def _take_event(self, value: JsonObject) -> None:
        about = value.get("involvedObject") or value.get("regarding") or {}
        name = about.get("name", "")
        if not name.startswith(self.prefix) and name not in self.others:
            return
        notice = Notice(
            kind=about.get("kind", ""),
            name=name,
            reason=value.get("reason") or "",
            message=" ".join((value.get("message") or value.get("note") or "").split()),
            warning=value.get("type") == "Warning",
            count=value.get("count") or 1,
            at=instant(value.get("lastTimestamp") or value.get("eventTime")),
        )
        self.notices[notice.kind, notice.name, notice.reason] = notice


def _gone_job(job: JobView) -> JobView:
    return replace(job, deleted=True)


def _gone_pod(pod: PodView) -> PodView:
    return replace(pod, deleted=True)


def _conditions(value: JsonObject) -> dict[str, JsonObject]:
    return {c["type"]: c for c in value.get("status", {}).get("conditions") or []}


def _job(value: JsonObject) -> JobView:
    status, conditions = value.get("status", {}), _conditions(value)
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    words = ""
    if failed.get("status") == "True":
        words = f"{failed.get('reason', 'Failed')}: {failed.get('message', '')}".strip(": ")
    complete = any(
        conditions.get(kind, {}).get("status") == "True"
        for kind in ("Complete", "SuccessCriteriaMet")
    )
    metadata = value["metadata"]
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        created=instant(metadata.get("creationTimestamp")),
        admitted=instant(status.get("startTime")),
        suspended=bool(value.get("spec", {}).get("suspend")),
        active=status.get("active") or 0,
        complete=complete,
        failed=words,
        deleted="deletionTimestamp" in metadata,
    )


def _container(value: JsonObject) -> dict[str, Any]:
    status = value.get("status", {})
    for one in status.get("containerStatuses") or []:
        if one.get("name") == "bench":
            found: dict[str, Any] = one
            return found
    return {}


def _pod(value: JsonObject, *, deleted: bool = False) -> PodView:
    metadata, status = value["metadata"], value.get("status", {})
    conditions, container = _conditions(value), _container(value)
    scheduled = conditions.get("PodScheduled", {})
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    running = state.get("running") or {}
    target = conditions.get("DisruptionTarget", {})
    labels = metadata.get("labels") or {}
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        job=labels.get(JOB_LABEL, ""),
        index=int(labels.get(INDEX_LABEL, "0")),
        phase=status.get("phase", "Pending"),
        node=value.get("spec", {}).get("nodeName") or "",
        created=instant(metadata.get("creationTimestamp")),
        scheduled=(
            instant(scheduled.get("lastTransitionTime"))
            if scheduled.get("status") == "True"
            else None
        ),
        started=instant(running.get("startedAt") or ended.get("startedAt")),
        finished=instant(ended.get("finishedAt")),
        unschedulable=(
            scheduled.get("message", "")
            if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
            else ""
        ),
        waiting=(waiting.get("reason") or "", waiting.get("message") or ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason") or "",
        reason=" ".join(
            part for part in (status.get("reason") or "", status.get("message") or "") if part
        ),
        disrupted=(
            f"{target.get('reason', '')}: {target.get('message', '')}"
            if target.get("status") == "True"
            else ""
        ),
        verdict=ended.get("message") or "",
        image_id=container.get("imageID") or "",
        deleted=deleted or "deletionTimestamp" in metadata,
    )
