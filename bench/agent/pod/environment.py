"""What Kubernetes tells a pod of itself, from the environment that its manifest sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UsageError
from bench.spec.plan import Plan

__all__ = ["PodEnvironment", "read_plan"]


@dataclass(frozen=True, slots=True)
class PodEnvironment:
    """Where a pod runs and what it has.

    Attributes:
        plan_file: The plan document.
        scratch: Writable directory for tables.
        data_root: Where data sets lie; None for targets without a volume.
        node: Name of the node.
        pod: Name of the pod.
        uid: Of the pod: two pods can have the same index, and one of them counts.
        index: Completion index in the Job; 0 for the preparing pod.
        coordinator: Host and port of the first pod; empty for the preparing pod.
    """

    plan_file: Path
    scratch: Path
    data_root: Path | None
    node: str
    pod: str
    uid: str
    index: int
    coordinator: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> PodEnvironment:
        """Return what the environment says.

        Raises:
            UsageError: A variable is missing.
        """
        try:
            root = environ.get("BENCH_DATA_ROOT")
            return cls(
                plan_file=Path(environ["BENCH_PLAN"]),
                scratch=Path(environ["BENCH_SCRATCH"]),
                data_root=Path(root) if root else None,
                node=environ["BENCH_NODE_NAME"],
                pod=environ["BENCH_POD_NAME"],
                uid=environ["BENCH_POD_UID"],
                index=int(environ.get("JOB_COMPLETION_INDEX", "0")),
                coordinator=environ.get("BENCH_COORDINATOR", ""),
            )
        except KeyError as error:
            raise UsageError(
                str(error.args[0]), "is not set", "start pods by the manifests of `bench run`"
            ) from error

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        return host, int(port)


def read_plan(path: Path) -> Plan:
    """Return the plan document.

    Raises:
        UsageError: It cannot be read, or another version of `bench` wrote it.
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UsageError(
            str(path),
            f"is no plan of this version ({error.error_count()} problems)",
            "use the image of the launcher's own version",
        ) from error
