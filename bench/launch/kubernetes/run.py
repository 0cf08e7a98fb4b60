"""A run on a cluster: prepare, measure each repeat, collect, whatever happens in between.

Every step finds what an earlier launcher has left: objects that exist are adopted, Jobs that
have ended are collected. So taking up a run whose launcher died is the same walk once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.agent.group import RepeatOutcome
from bench.agent.site import Site
from bench.errors import BenchError, InfrastructureError
from bench.launch.assemble import assemble_repeat
from bench.launch.campaign import Campaign
from bench.launch.kubernetes import objects
from bench.launch.kubernetes.blueprint import ExistingClaim
from bench.launch.kubernetes.collect import counted, outcome_of, quiet_log
from bench.launch.kubernetes.connect import Connection, JsonObject
from bench.launch.kubernetes.heartbeat import Heartbeat
from bench.launch.kubernetes.lease import HeldLease
from bench.launch.kubernetes.logs import Follower, PodLog, read_logs
from bench.launch.kubernetes.manifests import Manifests, build
from bench.launch.kubernetes.observed import observe
from bench.launch.kubernetes.parts import ClusterSite, Listener
from bench.launch.kubernetes.picture import Picture, PodView
from bench.launch.kubernetes.timing import Began, waits_seconds
from bench.launch.kubernetes.waiting import Waiter
from bench.launch.kubernetes.watch import Watcher
from bench.results.store import RunKey, Store
from bench.spec.plan import DatasetRef, Plan

__all__ = ["ClusterRun"]

LOG_SECONDS = 15.0
"""For the followed log to deliver its last lines after the pod has ended."""


@dataclass(slots=True, kw_only=True)
class ClusterRun:
    """One run on one cluster.

    Attributes:
        connection: To the cluster.
        namespace: Where everything is created.
        plan: What to run; its manifest digest is empty until the data set is made.
        existing: The target's claim, as preflight found it.
        ca_bundle: PEM text for object targets.
        store: Where tables go, repeat by repeat.
        key: Of the run in the store.
        scratch: Local directory for tables on their way.
        listener: Is told how far it is.
        request: What `attach` needs to build the run again, plain values.
        nodes: Names of nodes that alone may run it; empty for any.
        leases: Held for it; they go with its objects, should the launcher be killed.
    """

    connection: Connection
    namespace: str
    plan: Plan
    store: Store
    key: RunKey
    scratch: Path
    listener: Listener
    request: dict[str, Any]
    existing: ExistingClaim | None = None
    ca_bundle: str | None = None
    nodes: tuple[str, ...] = ()
    leases: Sequence[HeldLease] = ()
    place: ClusterSite = field(default_factory=ClusterSite)
    campaign: Campaign = field(default_factory=Campaign)
    _picture: Picture = field(default_factory=Picture)
    _intended: dict[str, JsonObject] = field(default_factory=dict)
    _known: DatasetRef | None = None

    def steps(self) -> Generator[None, None, None]:
        """Run step by step: the data set, each repeat, and what the cluster says of it all.

        Yields after the data set and after each repeat, so that others can run in between. A
        failure ends the steps and is in the campaign. Objects stay: see `remove`.
        """
        blueprint = self._build(None).blueprint
        self._picture.prefix = blueprint.names.base
        self._picture.others = frozenset(filter(None, [blueprint.claim_name]))
        try:
            owner = self._create_all()
            with (
                Heartbeat(self._note),
                Watcher(
                    self.connection.api_client,
                    namespace=self.namespace,
                    run_id=self.plan.run_id,
                ) as watcher,
            ):
                waiter = Waiter(
                    connection=self.connection,
                    namespace=self.namespace,
                    cluster=self.plan.settings.cluster,
                    picture=self._picture,
                    watcher=watcher,
                    told=self.listener.waiting,
                )
                self._prepare(waiter)
                yield
                self._create(self._build(owner).plan_config)
                for repeat in range(self.plan.settings.repeats):
                    if not self._repeat(waiter, owner, repeat):
                        break
                    yield
            self.place.observed = observe(
                self.connection,
                self._build(owner).blueprint,
                namespace=self.namespace,
                intended=self._intended,
            )
        except KeyboardInterrupt:
            self.campaign.interrupted = True
        except BenchError as error:
            self.campaign.error = self.campaign.error or error

    def remove(self, *, timeout_seconds: float = 90.0) -> list[str]:
        """Remove the run's objects; return the names of those that are still there.

        Goes on after one Ctrl-C: who has pressed it once may well do so again.
        """
        try:
            return self._remove(timeout_seconds)
        except KeyboardInterrupt:
            return self._remove(timeout_seconds)

    def _remove(self, timeout_seconds: float) -> list[str]:
        return objects.remove_run(
            self.connection.api_client,
            self.plan.run_id,
            namespace=self.namespace,
            timeout_seconds=timeout_seconds,
        )

    # Creating

    def _build(self, owner: str | None) -> Manifests:
        return build(
            self.plan,
            cluster=self.plan.settings.cluster,
            namespace=self.namespace,
            owner_uid=owner,
            existing=self.existing,
            state={"request": json.dumps(self.request)},
            ca_bundle=self.ca_bundle,
            nodes=self.nodes,
        )

    def _create(self, value: Any) -> JsonObject:
        return objects.create(self.connection.api_client, value, namespace=self.namespace)

    def _create_all(self) -> str:
        """Create all that the pods need; return the UID of the owner.

        The owner comes first: whatever follows goes with it, also where we die in between.
        """
        anchor = self._create(self._build(None).anchor)
        owner = str(anchor["metadata"]["uid"])
        for lease in self.leases:
            if lease.namespace == self.namespace:  # owners have no say elsewhere
                lease.own_by(str(anchor["metadata"]["name"]), owner)
        manifests = self._build(owner)
        state = objects.state_data(self._create(manifests.state))
        if "dataset" in state:
            self._known = DatasetRef.model_validate(state["dataset"])
        for value in (
            manifests.claim,
            manifests.claim_template,
            manifests.service,
            manifests.prepare_config,
        ):
            if value is not None:
                self._create(value)
        return owner

    def _note(self, **entries: Any) -> None:
        names = self._build(None).blueprint.names
        objects.patch_state(
            self.connection.api_client,
            names.state,
            {key: json.dumps(value) for key, value in entries.items()},
            namespace=self.namespace,
        )

    # Preparing and measuring

    def _prepare(self, waiter: Waiter) -> None:
        """Wait for the preparing Job, and take from it what the data set is."""
        if self._known is not None:  # an earlier launcher has noted it; the pod may be gone
            self.plan = self.plan.model_copy(update={"dataset": self._known})
            return
        job = self._build(None).blueprint.names.prepare
        directory = self.scratch / "prepare"
        directory.mkdir(exist_ok=True)
        logs: dict[str, PodLog] = {}

        def log_of(pod: str) -> PodLog:
            return logs.setdefault(pod, PodLog(pod, directory, self.listener.making))

        begun = time.monotonic()
        error, follower = waiter.wait(job, log_of)
        ended = [p for p in self._picture.pods_of(job) if p.exit_code is not None]
        self._finish_logs(follower, [log_of(pod.name) for pod in ended])
        if error is not None:
            raise error
        if self._build(None).blueprint.bound_to_a_node and not self.nodes:
            self.nodes = tuple(sorted({pod.node for pod in ended if pod.node}))
        found = [log.dataset for log in logs.values() if log.dataset is not None]
        if not found:
            words = "; ".join(f"{log.pod}: {log.missing()}" for log in logs.values())
            raise InfrastructureError(
                f"Job {job}", f"its log does not say what the data set is ({words})", "run again"
            )
        dataset = DatasetRef.model_validate(found[-1]["dataset"])
        self.plan = self.plan.model_copy(update={"dataset": dataset})
        self._note(dataset=dataset.model_dump(mode="json"), prepared=time.monotonic() - begun)

    def _repeat(self, waiter: Waiter, owner: str, repeat: int) -> bool:
        """Measure or collect one repeat; return whether to go on."""
        manifests = self._build(owner)
        job = manifests.measure(repeat)
        name = str(job.metadata.name if job.metadata is not None else "")
        created = time.monotonic()
        self._create(job)
        self._intended[name] = self.connection.api_client.sanitize_for_serialization(  # type: ignore[no-untyped-call]
            job.spec.template.spec if job.spec is not None else None
        )
        directory = self.scratch / str(repeat)
        directory.mkdir()
        began = Began(created)
        logs: dict[str, PodLog] = {}

        def on_event(event: dict[str, Any]) -> None:
            began.note(event)
            if event["event"] == "making":
                self.listener.making(event)
            else:
                self.listener.event(repeat, 0, event)

        def log_of(pod: str) -> PodLog:
            return logs.setdefault(pod, PodLog(pod, directory, on_event))

        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        outcome = RepeatOutcome()
        try:
            error, follower = waiter.wait(name, log_of)
            pods = counted(self._picture.pods_of(name))
            self._finish_logs(
                follower,
                [
                    log_of(pod.name) if pod.index == 0 else quiet_log(logs, pod.name, directory)
                    for pod in pods
                    if pod.exit_code is not None
                ],
            )
            # One that was replaced does not count, nor what is missing of it.
            logs = {pod.name: logs[pod.name] for pod in pods if pod.name in logs}
            outcome = outcome_of(self.plan, directory, list(logs.values()), error)
        except KeyboardInterrupt:
            outcome.interrupted = True
            pods = counted(self._picture.pods_of(name))
        self._keep(repeat, name, outcome, directory, logs, pods, began, started_at)
        if self.plan.storage.ephemeral is not None:
            self._remove_job(waiter, name)
        elif not self.nodes:
            # Other nodes would be another measurement.
            self.nodes = tuple(sorted({pod.node for pod in pods if pod.node}))
        return outcome.error is None and not outcome.interrupted

    def _finish_logs(self, follower: Follower | None, logs: list[PodLog]) -> None:
        if follower is not None:
            follower.join(LOG_SECONDS)
            follower.stop()
        read_logs(
            self.connection.api_client,
            namespace=self.namespace,
            logs=[log for log in logs if not log.whole],
        )

    def _keep(
        self,
        repeat: int,
        job: str,
        outcome: RepeatOutcome,
        directory: Path,
        logs: dict[str, PodLog],
        pods: list[PodView],
        began: Began,
        started_at: str,
    ) -> None:
        """Put the repeat's document together and store its tables."""
        sites = [log.site for log in logs.values() if log.site is not None]
        first = min(sites, key=lambda site: int(site["index"]), default=None)
        site = Site.from_json(first) if first is not None else None
        self.place.site = self.place.site or site
        self.place.image_digests |= {pod.image_id for pod in pods if pod.image_id}
        if len(self.place.image_digests) > 1 and outcome.error is None:
            outcome.error = InfrastructureError(
                f"Job {job}",
                f"its pods ran {len(self.place.image_digests)} different images: "
                f"{', '.join(sorted(self.place.image_digests))}",
                "pin plan.cluster.image by digest",
            )
        plan = self.plan
        if first is not None and plan.storage.ephemeral is not None:
            dataset = DatasetRef.model_validate(first["dataset"])
            plan = self.plan = plan.model_copy(update={"dataset": dataset})
        document, tables = assemble_repeat(
            plan, outcome, directory, site, index=repeat, started_at=started_at
        )
        view = self._picture.jobs.get(job)
        waits = {}
        if view is not None:
            notices = self._picture.notices_of([pod.name for pod in pods], kind="Pod")
            waits = waits_seconds(view, pods, notices)
        if began.seconds is not None:
            waits["launch"] = began.seconds
        for one in sites:
            for phase, seconds in one["seconds"].items():
                waits[phase] = max(waits.get(phase, 0.0), seconds)
        document = document.model_copy(update={"phases_seconds": document.phases_seconds | waits})
        self.campaign.repeats.append(document)
        for result in outcome.ranks.values():
            self.campaign.device = self.campaign.device or dict(result["device"])
        if tables is not None:
            for rank, steps in tables.steps.items():
                self.store.write_tables(
                    self.key,
                    repeat=repeat,
                    rank=rank,
                    steps=steps,
                    pieces=tables.pieces[rank],
                    start_ns=tables.start_ns[rank],
                )
        self.campaign.error = outcome.error
        self.campaign.interrupted = outcome.interrupted

    def _remove_job(self, waiter: Waiter, name: str) -> None:
        """Remove a Job whose pods hold volumes of their own, before the next one needs room."""
        api = self.connection.api_client
        view = self._picture.jobs.get(name)
        if view is None:
            return
        objects.remove_job(api, name, namespace=self.namespace)
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            if all(pod.deleted for pod in self._picture.pods_of(name)):
                return
            waiter.pump()
