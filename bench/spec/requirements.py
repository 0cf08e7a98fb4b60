"""The document that says when a storage class is good enough: Requirements.

Read by `bench.spec.load.load_requirements`; judged by `bench.policy`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.spec.documents import Metadata, Name, Strict
from bench.spec.quantities import BytesPerSecond, Seconds

__all__ = ["LIMITS", "Requirement", "Requirements", "RequirementsSpec"]

LIMITS = ("max_stall_ratio", "min_throughput", "max_time_to_first_batch", "worst_case")
"""Fields of a requirement that demand something of the figures."""


class Requirement(Strict):
    """What one workload demands of one target."""

    workload: Name
    """Name of the workload."""
    target: Name
    """Name of the storage target."""
    accelerator: Name
    """Accelerator of the workload."""
    nodes: int | None = Field(default=None, gt=0, le=100_000)
    """Nodes of the runs that count; None for those of the runs, which must agree."""
    gpus_per_node: int | None = Field(default=None, gt=0, le=256)
    """Accelerators on each node of the runs that count; None for those of the runs."""
    max_stall_ratio: float | None = Field(default=None, ge=0, le=1)
    """Largest share of time that the accelerator may wait."""
    min_throughput: BytesPerSecond | None = Field(default=None, gt=0)
    """Smallest throughput of the run."""
    max_time_to_first_batch: Seconds | None = Field(default=None, gt=0)
    """Longest wait for the first batch."""
    worst_case: float | None = Field(default=None, ge=0, le=1)
    """Stall ratio that no single repeat may exceed."""

    @model_validator(mode="after")
    def _demands_something(self) -> Requirement:
        if all(getattr(self, name) is None for name in LIMITS):
            raise ValueError(f"demands nothing; give at least one of {', '.join(LIMITS)}")
        if (
            self.worst_case is not None
            and self.max_stall_ratio is not None
            and self.worst_case < self.max_stall_ratio
        ):
            raise ValueError("worst_case is below max_stall_ratio, which bounds the mean")
        return self

    @property
    def key(self) -> tuple[object, ...]:
        """What tells this requirement's cell from others."""
        return (self.workload, self.target, self.accelerator, self.nodes, self.gpus_per_node)


class RequirementsSpec(Strict):
    """Conditions of an approval."""

    requirements: tuple[Requirement, ...] = Field(min_length=1)
    """One entry per workload and target."""
    min_repeats: int = Field(default=5, gt=0, le=1000)
    """Fewest repeats, over all runs of a cell; fewer than 5 make an approval provisional."""
    min_measured_seconds: Seconds = Field(default=300.0, gt=0)
    """Shortest measured phase of a repeat; less makes an approval provisional."""
    guards: tuple[str, ...] = ()
    """Validity guards that must pass in every repeat; `not measured` is not a pass."""
    review_after_days: int = Field(default=91, gt=0, le=36500)
    """Days until the approval ends, unless it is renewed."""

    @model_validator(mode="after")
    def _each_cell_once(self) -> RequirementsSpec:
        keys = [requirement.key for requirement in self.requirements]
        for requirement in self.requirements:
            if keys.count(requirement.key) > 1:
                raise ValueError(
                    f"requirements has {requirement.workload} on {requirement.target} with "
                    f"{requirement.accelerator} twice; put all limits into one entry"
                )
        return self


class Requirements(Strict):
    """What must hold for a storage class to be approved."""

    api_version: Literal["bench/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Requirements"]
    metadata: Metadata
    spec: RequirementsSpec
