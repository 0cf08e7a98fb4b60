"""Why a Job cannot go on, in the cluster's own words; a pure function of the picture.

A Job is created even where no pod of it may ever be: only events tell. What mends itself (a
mount that is tried again, a claim that waits for its first consumer) is no reason to give up
before the start timeout; what cannot mend itself is one within seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.agent.group import rebuild_error
from bench.errors import BenchError, InfrastructureError, Interrupted, PeerLost, UsageError
from bench.launch.kubernetes.collect import counted
from bench.launch.kubernetes.picture import Picture, PodView
from bench.spec.cluster import ClusterSettings

__all__ = ["diagnose", "ended_badly", "verdict_of"]

PATIENCE_SECONDS = 15.0
"""Some refusals pass: a quota is freed a moment later, a scheduler sees a new volume late."""

RECENT_SECONDS = 60.0
"""What was said of a claim longer before the pod was made is about an older one."""

HOPELESS_IMAGES = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
IMAGE_FAULTS = frozenset({"ImagePullBackOff", "ErrImagePull", "RegistryUnavailable"})
CONTAINER_FAULTS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
)

IMAGE_REMEDY = "push the image, correct plan.cluster.image, or name plan.cluster.image_pull_secrets"


PREPARE = "-prepare"


class _TakenAwayError(InfrastructureError):
    """A pod was evicted, preempted or deleted: no fault of its own."""


def verdict_of(pod: PodView) -> dict[str, object] | None:
    """Return the pod's own verdict; None where it left none."""
    try:
        found = json.loads(pod.verdict)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("bench") == 1 else None


def ended_badly(pod: PodView) -> BenchError | None:
    """Return what ended a pod; None where it ended well or has not ended."""
    place = f"pod {pod.name}" + (f" on {pod.node}" if pod.node else "")
    if pod.exit_reason == "OOMKilled":
        return InfrastructureError(
            place, "was killed: out of memory (OOMKilled)", "raise plan.cluster.memory_bytes"
        )
    if pod.disrupted:
        return _TakenAwayError(place, f"was taken away: {pod.disrupted}", "run again")
    verdict = verdict_of(pod)
    if verdict is not None and isinstance(verdict.get("error"), dict):
        error = rebuild_error(verdict["error"])  # type: ignore[arg-type]
        if isinstance(error, Interrupted):
            words = "was deleted" if pod.deleted else "was told to end"
            return _TakenAwayError(place, f"{words} by somebody else", "run again")
        return type(error)(f"{error.place} (pod {pod.name})", error.problem, error.remedy)
    if pod.deleted and pod.exit_code != 0:
        return _TakenAwayError(place, "was deleted by somebody else", "run again")
    if pod.phase == "Failed" or (pod.exit_code or 0) != 0:
        words = pod.reason or f"ended with status {pod.exit_code}"
        if pod.exit_reason and pod.exit_reason != "Error":
            words += f" ({pod.exit_reason})"
        if pod.exit_code == 137:
            words += ", killed by SIGKILL"
        said = pod.verdict.strip().splitlines()
        if said:
            words += f", saying {said[-1]!r}"
        return InfrastructureError(place, words, "see the pod's log and the node's")
    return None


def diagnose(
    picture: Picture, job: str, cluster: ClusterSettings, *, now: float
) -> BenchError | None:
    """Return why a Job cannot come to its end; None while it may.

    Args:
        picture: What is known.
        job: Its name.
        cluster: Time limits.
        now: Seconds of the epoch.
    """
    view = picture.jobs.get(job)
    if view is None:
        return None
    if view.deleted:
        return InfrastructureError(f"Job {job}", "was deleted by somebody else", "run again")
    pods = counted(picture.pods_of(job))
    lost: BenchError | None = None
    for pod in pods:
        error = ended_badly(pod)
        if isinstance(error, (PeerLost, _TakenAwayError)):
            # Others say more than who lost a peer. Whether a pod that was taken away is
            # replaced is the Job's to say, and at its deadline the Job itself takes them.
            lost = error if lost is None or isinstance(lost, PeerLost) else lost
        elif error is not None:
            return error
    if view.failed and (lost is None or "DeadlineExceeded" in view.failed):
        return _of_job(job, view.failed)  # its pods' last words may be still to come
    if lost is not None and (view.failed or not _passes(lost, job)):
        return lost
    since = view.admitted or view.created or now
    for error in (*_refused(picture, job, now=now, since=since), *_stuck(picture, pods, now=now)):
        return error
    return _late(picture, job, pods, cluster, now=now, since=since)


def _passes(lost: BenchError, job: str) -> bool:
    """Whether a Job may go on after what befell a pod: a preparing one is replaced."""
    return isinstance(lost, PeerLost) or job.endswith(PREPARE)


def _of_job(job: str, words: str) -> BenchError:
    remedy = "see the pods' logs"
    if "DeadlineExceeded" in words:
        remedy = "set a larger plan.cluster.deadline_seconds, or measure less"
    return InfrastructureError(f"Job {job}", words, remedy)


def _refused(picture: Picture, job: str, *, now: float, since: float) -> Iterator[BenchError]:
    """Pods that may not be created: quota, limits, Pod Security, an account, a webhook."""
    if picture.pods_of(job) or now - since < 1.0:
        return
    for notice in picture.notices_of([job], kind="Job"):
        if notice.reason != "FailedCreate":
            continue
        passing = "exceeded quota" in notice.message
        if passing and now - since < PATIENCE_SECONDS:
            continue
        yield UsageError(
            f"Job {job}",
            f"its pods may not be created (FailedCreate): {notice.message}",
            "correct what the cluster names, and run again",
        )


def _stuck(picture: Picture, pods: list[PodView], *, now: float) -> Iterator[BenchError]:
    for pod in pods:
        if pod.phase != "Pending":
            continue
        place = f"pod {pod.name}" + (f" on {pod.node}" if pod.node else "")
        reason, message = pod.waiting
        age = now - (pod.scheduled or pod.created or now)
        if reason in HOPELESS_IMAGES or (reason in IMAGE_FAULTS and _final(message, age)):
            yield UsageError(place, f"{reason}: {message}", IMAGE_REMEDY)
        if reason in CONTAINER_FAULTS and age > PATIENCE_SECONDS:
            yield UsageError(place, f"{reason}: {message}", "correct what the kubelet names")
        if pod.unschedulable and age > PATIENCE_SECONDS and not _grows(picture, pod):
            claims = _claim_words(picture, pod)
            yield InfrastructureError(
                place,
                f"cannot be scheduled: {pod.unschedulable}" + (f" ({claims})" if claims else ""),
                "free or add nodes that fit, or ask for less with plan.cluster.cpu and "
                "plan.cluster.memory_bytes",
            )
        if not pod.node:
            words = _claim_words(picture, pod)
            if "ProvisioningFailed" in words and age > PATIENCE_SECONDS:
                yield InfrastructureError(
                    place, f"has no volume: {words}", "see the storage class and its provisioner"
                )


def _final(message: str, age: float) -> bool:
    words = ("not found", "denied", "unauthorized", "no such host", "manifest unknown", "refused")
    return age > PATIENCE_SECONDS or any(word in message.lower() for word in words)


def _grows(picture: Picture, pod: PodView) -> bool:
    """Whether an autoscaler has said that it makes room."""
    reasons = {notice.reason for notice in picture.notices_of([pod.name])}
    return bool(reasons & {"TriggeredScaleUp", "Nominated"})


def _claim_words(picture: Picture, pod: PodView) -> str:
    names = {name for name, phase in picture.claims.items() if phase == "Pending"}
    since = (pod.created or 0.0) - RECENT_SECONDS
    said = [
        f"claim {notice.name}: {notice.reason}: {notice.message}"
        for notice in picture.notices_of(names | picture.others, kind="PersistentVolumeClaim")
        if notice.warning and (notice.at is None or notice.at > since)
    ]
    return said[-1] if said else ""


def _late(
    picture: Picture,
    job: str,
    pods: list[PodView],
    cluster: ClusterSettings,
    *,
    now: float,
    since: float,
) -> BenchError | None:
    view = picture.jobs[job]
    if view.suspended:
        if now - (view.created or now) > cluster.queue_timeout_seconds:
            return InfrastructureError(
                f"Job {job}",
                f"was not admitted by queue {cluster.queue_name} within "
                f"{cluster.queue_timeout_seconds:g} s",
                "raise plan.cluster.queue_timeout_seconds, or use another queue",
            )
        return None
    waiting = [pod for pod in pods if pod.phase == "Pending"]
    if (waiting or not pods) and now - since > cluster.start_timeout_seconds:
        names = [job, *(pod.name for pod in waiting), *picture.claims, *picture.others]
        words = [
            f"{notice.reason}: {notice.message}"
            for notice in picture.notices_of(names)
            if notice.warning
        ]
        return InfrastructureError(
            f"Job {job}",
            f"{len(waiting) or 'its'} pods did not start within "
            f"{cluster.start_timeout_seconds:g} s" + (f"; {words[-1]}" if words else ""),
            "correct what the cluster names, or raise plan.cluster.start_timeout_seconds",
        )
    return None
