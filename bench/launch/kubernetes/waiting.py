"""Waiting for the end of a Job: its streams, its first pod's log, and why it does not end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kubernetes.client.exceptions import ApiException

from bench.errors import BenchError, InfrastructureError
from bench.launch.kubernetes import objects
from bench.launch.kubernetes.collect import counted
from bench.launch.kubernetes.connect import API_FAULTS, Connection, request_json
from bench.launch.kubernetes.diagnosis import diagnose
from bench.launch.kubernetes.logs import Follower, PodLog
from bench.launch.kubernetes.picture import Picture, PodView
from bench.launch.kubernetes.watch import Watcher
from bench.spec.cluster import ClusterSettings

__all__ = ["Waiter"]

POLL_SECONDS = 0.5

SETTLE_SECONDS = 20.0
"""For the other pods to end and say why, once one of them has failed."""

UNSEEN_SECONDS = 5.0
"""After so long without a word of a Job that was created, ask whether it is still there."""

NOT_FOUND = 404


@dataclass(slots=True, kw_only=True)
class Waiter:
    """Waits for Jobs of one run.

    Attributes:
        connection: To the cluster.
        namespace: Of the run.
        cluster: Time limits.
        picture: Is kept up to date.
        watcher: Where changes come from.
        told: Takes what the run waits for, in a few words.
    """

    connection: Connection
    namespace: str
    cluster: ClusterSettings
    picture: Picture
    watcher: Watcher
    told: Callable[[str], None]

    def pump(self) -> None:
        """Take all changes that have come, or wait a moment for one.

        Raises:
            BenchError: A stream has ended for good.
        """
        change = self.watcher.next(timeout_seconds=POLL_SECONDS)
        while change is not None:
            self.picture.take(change)
            change = self.watcher.next(timeout_seconds=0)

    def wait(
        self, job: str, log_of_first: Callable[[str], PodLog]
    ) -> tuple[BenchError | None, Follower | None]:
        """Wait for the end of a Job, following its first pod's log.

        Returns:
            What ended it, None where it ended well; and who follows the log.
        """
        follower: Follower | None = None
        waited_for = ""
        unseen = time.monotonic() + UNSEEN_SECONDS
        while True:
            pods = counted(self.picture.pods_of(job))
            follower = self._follow(pods, follower, log_of_first)
            error = diagnose(self.picture, job, self.cluster, now=time.time())
            view = self.picture.jobs.get(job)
            if view is None and time.monotonic() > unseen:
                error = error or self._vanished(job)
                unseen = time.monotonic() + UNSEEN_SECONDS
            if error is not None:
                return self._settled(job, error), follower
            if view is not None and view.complete and self._all_ended(job):
                return None, follower
            if follower is None:
                words = self._waits_for(job, pods)
                if words != waited_for:
                    waited_for = words
                    self.told(words)
            self.pump()

    def _follow(
        self,
        pods: list[PodView],
        follower: Follower | None,
        log_of_first: Callable[[str], PodLog],
    ) -> Follower | None:
        """Return who follows the first pod: of one that was replaced, the newest."""
        if not pods or pods[0].index != 0 or pods[0].started is None:
            return follower
        if follower is not None:
            if follower.log.pod == pods[0].name:
                return follower
            follower.stop()
        log = log_of_first(pods[0].name)
        follower = Follower(self.connection.api_client, namespace=self.namespace, log=log)
        follower.start()
        return follower

    def _all_ended(self, job: str) -> bool:
        pods = self.picture.pods_of(job)
        return bool(pods) and all(p.exit_code is not None or p.deleted for p in pods)

    def _waits_for(self, job: str, pods: list[PodView]) -> str:
        view = self.picture.jobs.get(job)
        if view is not None and view.suspended:
            return "the queue"
        if not pods:
            return "pods"
        waiting = [pod for pod in pods if pod.started is None]
        for pod in waiting:
            if not pod.node:
                return f"a node for {len(waiting)} of {len(pods)} pods"
            return pod.waiting[0] or f"{len(waiting)} of {len(pods)} pods to start"
        return "pods"

    def _settled(self, job: str, error: BenchError) -> BenchError:
        """Give the pods of a failed Job time to end, and return the best reason there is."""
        deadline = time.monotonic() + SETTLE_SECONDS
        started = [p.name for p in self.picture.pods_of(job) if p.started is not None]
        while time.monotonic() < deadline:
            pods = [self.picture.pods[name] for name in started]
            if all(pod.exit_code is not None or pod.deleted for pod in pods):
                break
            self.pump()
        lost = self._lost_namespace()
        return lost or diagnose(self.picture, job, self.cluster, now=time.time()) or error

    def _vanished(self, job: str) -> BenchError | None:
        """Return an error where a Job went before the watch of it began."""
        if objects.read(self.connection.api_client, "Job", job, namespace=self.namespace) is None:
            return InfrastructureError(f"Job {job}", "was deleted by somebody else", "run again")
        return None

    def _lost_namespace(self) -> BenchError | None:
        """Return an error where the namespace goes, which ends everything in it at once."""
        path = f"/api/v1/namespaces/{self.namespace}"
        try:
            found = request_json(self.connection.api_client, "GET", path)
            gone = "deletionTimestamp" in found["metadata"]
        except API_FAULTS as error:
            # Who may not read it, or cannot now, learns less.
            gone = isinstance(error, ApiException) and error.status == NOT_FOUND
        if not gone:
            return None
        return InfrastructureError(
            f"Namespace {self.namespace}",
            "was deleted by somebody else while the run was in it",
            "create it again with what `bench render namespace` and `bench render rbac` print",
        )
