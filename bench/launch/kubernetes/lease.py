"""A Lease on storage: two runs that share servers do not measure at the same time.

One object of coordination.k8s.io for each class, claim or bucket (`names.lease_name`), taken
before anything is created and renewed by a thread. What a launcher that died leaves behind
expires, and the next run takes it over. Times are the API server's own, from the Date of its
answers: launchers on different machines need not agree on a clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.errors import UsageError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.connect import API_FAULTS, JsonObject, api_error, exchange_json

__all__ = ["DURATION_SECONDS", "HeldLease", "Holder", "lease_of"]

DURATION_SECONDS = 60
"""Without renewal for so long, others may take it: an API server that restarts, or a laptop
that sleeps for half a minute, must not lose it."""

RENEWALS = 3
"""Tries of renewal within that time."""

JOIN_SECONDS = 5.0

NUM_TAKES = 5
"""Tries to take it while others change it under our hands."""

NOTE = "bench/lease-holder"
KEY = "bench/exclusion-key"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a Lease, for the one who is refused.

    Attributes:
        run_id: Of the run; the identity, so that a run that is taken up again has its Lease.
        words: User and machine.
    """

    run_id: str
    words: str


@dataclass(slots=True)
class _Clock:
    """The API server's clock, as far as its answers tell: whole seconds."""

    local: Callable[[], float]
    ahead_seconds: float = 0.0

    def note(self, date: str | None) -> None:
        if date is not None:
            self.ahead_seconds = parsedate_to_datetime(date).timestamp() - self.local()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.local() + self.ahead_seconds, UTC)


def _written(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(slots=True)
class HeldLease:
    """A Lease that is held while the context lasts.

    Attributes:
        api: Of a connection.
        name: Of the Lease.
        namespace: Of the Lease.
        key: What it stands for: "class/fast".
        holder: Who takes it.
        duration_seconds: How long it holds without renewal.
        clock: The wall clock, seconds.
        lost: Set when somebody else has it, or when it could not be renewed in time: what is
            measured from then on may be disturbed.
    """

    api: client.ApiClient
    name: str
    namespace: str
    key: str
    holder: Holder
    duration_seconds: int = DURATION_SECONDS
    clock: Callable[[], float] = time.time
    lost: threading.Event = field(default_factory=threading.Event)
    _owner: JsonObject | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _server: _Clock = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Start without knowledge of the server's clock."""
        self._server = _Clock(self.clock)

    @property
    def place(self) -> str:
        """The Lease, for messages."""
        return f"Lease {self.namespace}/{self.name}"

    def __enter__(self) -> Self:
        """Take the Lease and keep it.

        Raises:
            UsageError: Somebody holds it, or it may not be taken.
            InfrastructureError: The API server does not answer.
        """
        self._take()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the Lease back; what cannot be given back expires."""
        self._stop.set()
        if self._thread is not None:
            # One that waits for a server that is gone must not keep Ctrl-C waiting.
            self._thread.join(JOIN_SECONDS)
        try:
            found = self._get()
            if found is not None and self._is_ours(found):
                self._delete(found)
        except API_FAULTS:
            return

    def own_by(self, job: str, uid: str) -> None:
        """Let the Lease go with the preparing Job, should this process be killed.

        An owner must be in the same namespace: elsewhere the expired Lease stays until the
        next run takes it, or `bench clean` removes it.

        Args:
            job: Name of the preparing Job.
            uid: Of that Job.
        """
        with self._lock:
            self._owner = {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": job,
                "uid": uid,
                "blockOwnerDeletion": False,
            }
        with contextlib.suppress(*API_FAULTS):  # the next renewal says it as well
            self._renew()

    # Requests

    def _request(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        answer, headers = exchange_json(self.api, method, path, body=body)
        self._server.note(headers.get("Date"))
        return answer

    @property
    def _collection(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self.name}"

    def _get(self) -> JsonObject | None:
        try:
            return self._request("GET", self._path)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _delete(self, found: JsonObject) -> None:
        metadata = found["metadata"]
        conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        self._request("DELETE", self._path, body)

    # Holding

    def _is_ours(self, found: JsonObject) -> bool:
        return bool(found["spec"].get("holderIdentity") == self.holder.run_id)

    def _expires(self, found: JsonObject) -> datetime | None:
        spec = found["spec"]
        renewed = _read(spec.get("renewTime") or spec.get("acquireTime"))
        if renewed is None or not spec.get("holderIdentity"):
            return None
        return renewed + timedelta(seconds=spec.get("leaseDurationSeconds") or DURATION_SECONDS)

    def _body(self, found: JsonObject | None) -> JsonObject:
        """Return the Lease as ours; what others wrote into its metadata stays."""
        now = _written(self._server.now())
        spec = dict(found["spec"]) if found is not None else {}
        if found is None or not self._is_ours(found):
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (found is not None)
        spec |= {
            "holderIdentity": self.holder.run_id,
            "leaseDurationSeconds": self.duration_seconds,
            "renewTime": now,
        }
        metadata: JsonObject = {"name": self.name}
        if found is not None:
            metadata = dict(found["metadata"])
        metadata["labels"] = {
            **(metadata.get("labels") or {}),
            **n.MANAGED,
            n.COMPONENT: "lease",
            n.RUN_ID: self.holder.run_id,
        }
        notes = {NOTE: self.holder.words, KEY: self.key}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **notes}
        metadata["ownerReferences"] = [self._owner] if self._owner is not None else []
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    def _take(self) -> None:
        """Create, renew or take over the Lease.

        Raises:
            UsageError: Somebody holds it.
        """
        try:
            for _ in range(NUM_TAKES):
                found = self._get()
                if found is not None and not self._is_ours(found):
                    expires = self._expires(found)
                    if expires is not None and expires > self._server.now():
                        raise self._refusal(found, expires)
                if self._put(found):
                    return
        except API_FAULTS as error:
            raise api_error(error, place=f"{self.place}: take") from error
        raise UsageError(self.place, "others keep taking it", "try again")

    def _put(self, found: JsonObject | None) -> bool:
        """Write the Lease as ours; return False where somebody else was faster."""
        body = self._body(found)
        try:
            if found is None:
                self._request("POST", self._collection, body)
            else:
                self._request("PUT", self._path, body)
        except ApiException as error:
            if error.status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND} and (
                found is not None or error.status == HTTPStatus.CONFLICT
            ):
                return False
            raise
        return True

    def _refusal(self, found: JsonObject, expires: datetime) -> UsageError:
        notes = found["metadata"].get("annotations") or {}
        run = found["spec"].get("holderIdentity")
        who = notes.get(NOTE) or "somebody"
        since = str(found["spec"].get("acquireTime") or "")[:19]
        return UsageError(
            self.place,
            f"{self.key} is being measured by {who} (run {run}) since {since}Z",
            f"wait for it (a run that died gives way at {expires:%H:%M:%S}Z), or measure at "
            "the same time with --set plan.cluster.exclusive=false",
        )

    def _renew(self) -> bool:
        """Renew; return whether it is still ours. Faults of the server count as yes for now."""
        with self._lock:
            found = self._get()
            if found is not None and not self._is_ours(found):
                return False
            return self._put(found)

    def _keep(self) -> None:
        """Renew until told to stop, or until it is lost."""
        renewed = time.monotonic()
        while not self._stop.wait(self.duration_seconds / RENEWALS):
            try:
                kept = self._renew() or self._renew()  # once more where it just changed
            except API_FAULTS:
                if time.monotonic() - renewed < self.duration_seconds:
                    continue
                kept = False
            if not kept:
                self.lost.set()
                return
            renewed = time.monotonic()


def lease_of(
    api: client.ApiClient,
    bp: Blueprint,
    *,
    namespace: str,
    holder: Holder,
    clock: Callable[[], float] = time.time,
) -> HeldLease | None:
    """Return the Lease that a run must hold; None where it needs none or wants none.

    Args:
        api: Of a connection.
        bp: The run; its settings say whether and where (`exclusive`, `lease_namespace`).
        namespace: Of the run.
        holder: Who takes it.
        clock: The wall clock, seconds.
    """
    storage, where = bp.plan.storage, bp.cluster.lease_namespace or namespace
    key = n.exclusion_key(storage, namespace=namespace, storage_class=bp.storage_class)
    name = n.lease_name(storage, namespace=namespace, storage_class=bp.storage_class)
    if not bp.cluster.exclusive or key is None or name is None:
        return None
    return HeldLease(api, name, where, key, holder, clock=clock)
