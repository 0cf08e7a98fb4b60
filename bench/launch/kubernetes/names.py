"""Names, labels and annotations of everything that a run has in a cluster.

Pure text; the client is not imported. All names of a run derive from its id, so that any of
its objects leads to the others, and nothing here knows the clock.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from bench.results.ids import is_id
from bench.spec.documents import Pvc, StorageSpec
from bench.spec.plan import Plan

__all__ = [
    "ATTEMPT",
    "CELL_ID",
    "COMPONENT",
    "COORDINATOR_PORT",
    "DATASET",
    "DRY_RUN_ID",
    "MANAGED",
    "MAX_NAME",
    "PLAN_DIGEST",
    "RUN_ID",
    "STORAGE_CLASS",
    "STORAGE_TARGET",
    "TOOL_VERSION",
    "WORKLOAD",
    "Names",
    "cell_id",
    "dataset_claim_name",
    "exclusion_key",
    "label_value",
    "lease_name",
]

COORDINATOR_PORT = 7461
"""Where the first pod of a Job listens for the others; unassigned, and above 1024 because
pods have no capability."""

MAX_NAME = 52
"""Of a Job: its pods add an index and a suffix of six, and 63 is the limit of a host name."""

DRY_RUN_ID = "0" * 26
"""Stands for the id of a run that is only printed: the same text at any time."""

NAME_LABEL = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED = {NAME_LABEL: "bench", "app.kubernetes.io/part-of": "bench", MANAGED_BY: "bench"}
"""Labels of everything that we create."""

RUN_ID = "bench/run-id"
CELL_ID = "bench/cell-id"
ATTEMPT = "bench/attempt"
STORAGE_CLASS = "bench/storage-class"
STORAGE_TARGET = "bench/storage-target"
WORKLOAD = "bench/workload"
DATASET = "bench/dataset"
"""Label with the hash of a data set on a claim that outlives its run; annotation with the
name of its directory."""
PLAN_DIGEST = "bench/plan-digest"
TOOL_VERSION = "bench/tool-version"

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

NOT_OF_THE_CELL = ("schema_version", "run_id", "tool_version", "overrides")
SETTINGS_NOT_OF_THE_CELL = (
    *("cluster", "repeats", "seed", "barrier_timeout_seconds", "bytes_budget"),
)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def label_value(text: str) -> str:
    """Return the text as the value of a label: itself where it is one, else cut and hashed."""
    if LABEL_VALUE.fullmatch(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text)[:MAX_NAME].strip("-")
    return f"{slug}-{_digest(text)[:8]}".lstrip("-")


def cell_id(plan: Plan) -> str:
    """Return 12 hexadecimal digits over what is measured, whichever run and version does it."""
    value = plan.model_dump(mode="json", by_alias=True)
    for name in NOT_OF_THE_CELL:
        value.pop(name, None)
    for name in SETTINGS_NOT_OF_THE_CELL:
        value["settings"].pop(name, None)
    value["dataset"].pop("manifest_digest")  # not known before the data set is made
    return _digest(value)[:12]


def dataset_claim_name(claim: Pvc, *, directory: str) -> str:
    """Return the name of a claim that keeps a data set, the same for every later run.

    Args:
        claim: What is to be created; class, access modes and sub-path count, size does not,
            so that a larger one can be found again.
        directory: Name of the data set's directory, which hashes all that shapes its bytes.
    """
    key = [claim.storage_class_name, sorted(claim.access_modes), claim.sub_path, directory]
    return f"bench-data-{_digest(key)[:16]}"


def exclusion_key(storage: StorageSpec, *, namespace: str, storage_class: str | None) -> str | None:
    """Return what two runs share when they would disturb each other; None for nothing.

    The class of a claim, since its volumes share servers; the claim itself where its class is
    not known; endpoint and bucket of an object target. Simulated storage shares nothing.
    """
    if storage_class is not None:
        return f"class/{storage_class}"
    if storage.pvc is not None:
        return f"claim/{namespace}/{storage.pvc.claim_name}"
    if storage.object is not None:
        bucket = "/".join(storage.object.url.split("/")[:3])
        return f"object/{storage.object.endpoint_url or ''}/{bucket}"
    return None


def lease_name(storage: StorageSpec, *, namespace: str, storage_class: str | None) -> str | None:
    """Return the name of the Lease that keeps other runs off the same storage, if any can.

    Args:
        storage: The target.
        namespace: Of the run.
        storage_class: Of the claim, where it is known.
    """
    key = exclusion_key(storage, namespace=namespace, storage_class=storage_class)
    if key is None:
        return None
    words = re.sub(r"[^a-z0-9]+", "-", key.lower())[:32].strip("-")
    return f"bench-{words}-{_digest(key)[:8]}"


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a run's objects, each at most MAX_NAME characters.

    Args:
        run_id: A lower-case ULID.

    Raises:
        ValueError: The id is none.
    """

    run_id: str

    def __post_init__(self) -> None:
        if not is_id(self.run_id):
            raise ValueError(f"{self.run_id!r} is no run id")

    @property
    def base(self) -> str:
        """What all of them begin with; the name of the headless Service."""
        return f"bench-{self.run_id}"

    @property
    def prepare(self) -> str:
        """The preparing Job, which owns all others, and the ConfigMap that it reads."""
        return f"{self.base}-prepare"

    @property
    def plan(self) -> str:
        """The ConfigMap with the plan that is measured."""
        return f"{self.base}-plan"

    @property
    def state(self) -> str:
        """The ConfigMap in which the launcher notes how far the run is."""
        return f"{self.base}-state"

    @property
    def claim(self) -> str:
        """The claim that goes with the run."""
        return f"{self.base}-data"

    @property
    def gpu(self) -> str:
        """The ResourceClaimTemplate."""
        return f"{self.base}-gpu"

    def measure(self, repeat: int, *, attempt: int = 1) -> str:
        """Return the name of the Job of one repeat.

        Args:
            repeat: 0-based.
            attempt: 1-based; a later attempt is another Job beside the first.
        """
        return f"{self.base}-m{repeat}" + (f"-a{attempt}" if attempt > 1 else "")

    def coordinator(self, repeat: int, *, attempt: int = 1) -> str:
        """Return host and port of the first pod of a repeat, as the others reach it."""
        return f"{self.measure(repeat, attempt=attempt)}-0.{self.base}:{COORDINATOR_PORT}"
