"""Why a Job cannot go on, from what the API server tells of it."""

from __future__ import annotations

import json

import pytest

from bench.agent.events import error_event
from bench.errors import DatasetError, InfrastructureError, Interrupted, PeerLost, UsageError
from bench.launch.kubernetes.diagnosis import diagnose
from bench.launch.kubernetes.picture import Picture
from bench.launch.kubernetes.watch import Change
from bench.spec.cluster import ClusterSettings

CREATED = "2026-11-01T12:00:00Z"
NOON = 1793534400.0

BASE = "bench-run"
MEASURE, PREPARE = f"{BASE}-m0", f"{BASE}-prepare"


def job(picture, name=MEASURE, *, failed="", deleted=False, **status):
    conditions = []
    if failed:
        conditions = [{"type": "Failed", "status": "True", "reason": failed, "message": "words"}]
    value = {
        "metadata": {"name": name, "uid": name, "creationTimestamp": CREATED},
        "status": {"startTime": CREATED, "conditions": conditions} | status,
    }
    picture.take(Change(kind="Job", value=value, deleted=deleted))


def pod(picture, name="a", *, of=MEASURE, index=0, created=CREATED, deleted=False, node="node-1",
        state=None, phase="Running", conditions=()):  # fmt: skip
    value = {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": created,
            "labels": {
                "batch.kubernetes.io/job-name": of,
                "batch.kubernetes.io/job-completion-index": str(index),
            },
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "bench", "state": state or {}}],
        },
    }
    picture.take(Change(kind="Pod", value=value, deleted=deleted))


def ended(code, *, reason="Error", error=None):
    verdict = {"bench": 1, "status": "failed", "error": error_event(error) if error else None}
    message = json.dumps(verdict) if error else ""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def notice(picture, kind, name, reason, message, *, at=CREATED):
    value = {
        "metadata": {"name": f"{name}.{reason}"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason, "message": message, "type": "Warning", "lastTimestamp": at,
    }  # fmt: skip
    picture.take(Change(kind="Event", value=value))


DISRUPTED = {
    "type": "DisruptionTarget", "status": "True",
    "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
}  # fmt: skip


@pytest.fixture
def picture():
    return Picture(prefix=BASE)


def why(picture, name=MEASURE, *, after=5.0):
    return diagnose(picture, name, ClusterSettings(), now=NOON + after)


def test_nothing_is_wrong_with_a_job_of_running_pods(picture):
    assert why(picture) is None
    job(picture)
    pod(picture, state={"running": {"startedAt": CREATED}})
    assert why(picture) is None


def test_what_a_pod_says_comes_before_what_its_peers_lost(picture):
    job(picture, failed="BackoffLimitExceeded")
    pod(picture, "a", index=0, state=ended(5, error=PeerLost("rank 0", "a peer ended")))
    pod(picture, "b", index=1, state=ended(42, error=DatasetError("file-7", "is cut off", "again")))
    error = why(picture)
    assert isinstance(error, DatasetError)
    assert str(error) == "file-7 (pod b): is cut off; again"


def test_a_lost_peer_alone_waits_for_the_word_of_the_other(picture):
    job(picture)
    pod(picture, state=ended(5, error=PeerLost("rank 0", "a peer ended")))
    assert why(picture) is None
    job(picture, failed="BackoffLimitExceeded")
    assert isinstance(why(picture), PeerLost)


def test_a_pod_out_of_memory(picture):
    job(picture)
    pod(picture, state=ended(137, reason="OOMKilled"), phase="Failed")
    assert "out of memory (OOMKilled); raise plan.cluster.memory_bytes" in str(why(picture))


def test_a_pod_that_left_no_verdict(picture):
    job(picture)
    pod(picture, state=ended(137), phase="Failed")
    assert "ended with status 137, killed by SIGKILL" in str(why(picture))


@pytest.mark.parametrize("state", [None, ended(130, error=Interrupted("pod", "told to end"))])
def test_a_measuring_pod_that_is_evicted_ends_the_run_at_once(picture, state):
    job(picture)
    pod(picture, state=state, conditions=[DISRUPTED])
    assert "pod a on node-1: was taken away: EvictionByEvictionAPI" in str(why(picture))


def test_a_preparing_pod_that_is_evicted_is_replaced(picture):
    job(picture, PREPARE)
    pod(picture, of=PREPARE, state=ended(130), phase="Failed", conditions=[DISRUPTED])
    assert why(picture, PREPARE) is None
    job(picture, PREPARE, failed="BackoffLimitExceeded")
    assert "was taken away" in str(why(picture, PREPARE))


def test_a_replaced_pod_no_longer_counts(picture):
    job(picture)
    pod(picture, "a", state=ended(130), phase="Failed", conditions=[DISRUPTED])
    pod(picture, "b", created="2026-11-01T12:00:02Z", state={"running": {"startedAt": CREATED}})
    assert why(picture) is None


def test_a_deleted_pod_is_no_interruption_by_the_user(picture):
    job(picture)
    interrupted = ended(130, error=Interrupted("pod", "ended by the cluster or the launcher"))
    pod(picture, state=interrupted, phase="Failed", deleted=True)
    error = why(picture)
    assert isinstance(error, InfrastructureError)
    assert str(error) == "pod a on node-1: was deleted by somebody else; run again"


def test_a_pod_deleted_without_grace(picture):
    job(picture)
    pod(picture, state={"running": {"startedAt": CREATED}}, deleted=True)
    assert "was deleted by somebody else" in str(why(picture))


def test_pods_of_a_complete_job_may_go(picture):
    job(picture)
    pod(picture, state=ended(0, reason="Completed"), phase="Succeeded", deleted=True)
    assert why(picture) is None


def test_the_deadline_explains_pods_that_it_ended(picture):
    job(picture, failed="DeadlineExceeded")
    pod(picture, state=ended(130, error=Interrupted("pod", "ended")), deleted=True)
    assert "DeadlineExceeded" in str(why(picture))
    assert "plan.cluster.deadline_seconds" in str(why(picture))


def test_a_deleted_job(picture):
    job(picture)
    job(picture, deleted=True)
    assert "Job bench-run-m0: was deleted by somebody else" in str(why(picture))


def test_pods_that_may_not_be_created(picture):
    job(picture)
    notice(picture, "Job", MEASURE, "FailedCreate", "violates PodSecurity")
    assert isinstance(why(picture), UsageError)
    assert "violates PodSecurity" in str(why(picture))


def test_a_quota_may_be_freed_a_moment_later(picture):
    job(picture)
    notice(picture, "Job", MEASURE, "FailedCreate", "exceeded quota: tight")
    assert why(picture, after=5.0) is None
    assert "exceeded quota: tight" in str(why(picture, after=20.0))


def waiting(reason, message):
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("reason", "message", "soon"),
    [
        ("ErrImageNeverPull", "not present", True),
        ("InvalidImageName", "bad", True),
        ("ErrImagePull", "manifest unknown", True),
        ("ErrImagePull", "connection reset", False),
        ("ImagePullBackOff", "Back-off pulling", False),
        ("CreateContainerConfigError", "secret not found", False),
    ],
)
def test_a_container_that_cannot_start(picture, reason, message, soon):
    job(picture)
    pod(picture, phase="Pending", state=waiting(reason, message))
    assert (why(picture, after=5.0) is not None) == soon
    assert f"{reason}: {message}" in str(why(picture, after=20.0))


def unschedulable(message):
    return {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }  # fmt: skip


def test_a_pod_for_which_there_is_no_node(picture):
    job(picture)
    pod(picture, phase="Pending", node="", conditions=[unschedulable("0/2 nodes: no room")])
    assert why(picture, after=5.0) is None
    assert "cannot be scheduled: 0/2 nodes: no room" in str(why(picture, after=20.0))


def test_an_autoscaler_that_makes_room_is_waited_for(picture):
    job(picture)
    name = f"{MEASURE}-0-x"
    pod(picture, name, phase="Pending", node="", conditions=[unschedulable("no room")])
    notice(picture, "Pod", name, "TriggeredScaleUp", "one more")
    assert why(picture, after=20.0) is None
    assert "did not start within 600 s" in str(why(picture, after=700.0))


def test_a_claim_that_gets_no_volume_also_where_it_outlives_the_run(picture):
    job(picture)
    pod(picture, phase="Pending", node="")
    claim = "bench-data-0123"
    notice(picture, "PersistentVolumeClaim", claim, "ProvisioningFailed", "no room")
    assert why(picture, after=20.0) is None, "somebody else's claim"
    picture.others = frozenset({claim})
    notice(
        picture, "PersistentVolumeClaim", claim, "ProvisioningFailed", "no room",
        at="2026-11-01T11:00:00Z",
    )  # fmt: skip
    assert why(picture, after=20.0) is None, "an hour ago"
    notice(picture, "PersistentVolumeClaim", claim, "ProvisioningFailed", "no room")
    assert "ProvisioningFailed: no room" in str(why(picture, after=20.0))


def test_a_queue_that_does_not_admit(picture):
    value = {
        "metadata": {"name": MEASURE, "uid": "j", "creationTimestamp": CREATED},
        "spec": {"suspend": True},
    }
    picture.take(Change(kind="Job", value=value))
    cluster = ClusterSettings(queue_name="gpu", queue_timeout_seconds=60)
    assert diagnose(picture, MEASURE, cluster, now=NOON + 50) is None
    error = diagnose(picture, MEASURE, cluster, now=NOON + 70)
    assert "was not admitted by queue gpu within 60 s" in str(error)
