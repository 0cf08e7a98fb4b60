"""The comparison document: references, parameters, and a table that can be worked out anew.

Text, Markdown, HTML, CSV and JUnit are renderings of this document alone; they compute nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.analysis.comparison.verdicts import Rule
from bench.results.schema import Interval, Tool

__all__ = [
    "ACROSS",
    "Across",
    "CellKey",
    "CellSide",
    "Compared",
    "Comparison",
    "Difference",
    "Margins",
    "MetricComparison",
    "Note",
    "Overall",
    "Parameters",
    "Part",
    "RunReference",
    "Side",
    "Verdict",
]

Across = Literal["storage", "kernel", "csi", "loader", "image", "node", "device"]

ACROSS: dict[Across, str] = {
    "storage": "another storage target or class",
    "kernel": "another kernel release",
    "csi": "another CSI driver, or version of it",
    "loader": "other reader and loader settings",
    "image": "another container image, harness version or Python",
    "node": "another kind of node",
    "device": "another accelerator device, driver or link",
}
"""What may be meant to differ, and what that is."""

Verdict = Literal["regressed", "improved", "equivalent", "inconclusive", "invalid", "refused"]


class Part(BaseModel):
    """Base of all parts of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Note(Part):
    """A remark with a word that programs can rely on."""

    code: str
    text: str


class RunReference(Part):
    """A stored run that the comparison rests on."""

    id: str
    sha256: str
    """Of the stored document's bytes."""
    place: str
    """`<target>/<workload>/<id>/run.json`: where it is inside its store."""
    created_at: str


class Side(Part):
    """What was given as baseline or as candidate."""

    given: str
    """As the person named it."""
    baseline: str | None = None
    """Name of the stored baseline that it was."""
    runs: list[RunReference]


class Margins(Part):
    """Changes that do not matter."""

    throughput_ratio: float
    """Share of the baseline's throughput: 0.05 is 5 % less, and as a ratio as much more."""
    stall_ratio: float
    """Points of time: 0.02 is two points."""


class Parameters(Part):
    """What the verdicts depend on beside the runs."""

    rule: Rule
    across: list[Across]
    """What is meant to differ; all else has to match."""
    allow_mismatch: bool
    alpha: float
    """One-sided."""
    confidence: float
    """Two-sided, of the intervals: 1 - 2 alpha."""
    margins: Margins
    min_repeats: int
    """A side with fewer is not decided on."""
    pairing: Literal["auto", "never"]
    """auto: pairs where both sides were measured in turns on the same nodes."""


class CellKey(Part):
    """What names a cell; what is compared across is None."""

    workload: str
    storage: str | None
    accelerator: str
    nodes: int
    gpus_per_node: int
    loader: dict[str, Any] | None
    """Reader and loader settings."""

    @property
    def label(self) -> str:
        """Workload, storage and scale for people."""
        where = f" on {self.storage}" if self.storage is not None else ""
        count = self.nodes * self.gpus_per_node
        scale = "" if count == 1 else f"{self.nodes} x {self.gpus_per_node} "
        return f"{self.workload}{where}, {scale}{self.accelerator}"


class Difference(Part):
    """One place at which the fingerprints of a cell's two sides differ."""

    path: str
    baseline: Any
    candidate: Any
    across: Across | None
    """What it belongs to, where that is meant to differ; None: it ought to match."""


class CellSide(Part):
    """One side of a cell."""

    storage: str
    runs: list[str]
    """Ids, in the order of time."""
    num_repeats: int
    """All that were begun."""
    n: int
    """Those that count."""
    started_at: list[str]
    """Of the repeats that count, in the order of `values`."""
    nodes: list[str]
    """Nodes that they ran on."""
    division: str
    cache: str
    """Verdicts on the client's cache."""
    values: dict[str, list[float]]
    """Metric -> one value a repeat that counts, in the order of time."""


class MetricComparison(Part):
    """One figure of both sides."""

    name: str
    unit: Literal["bytes_per_second", "ratio", "seconds", "seconds_per_gb"]
    lower_is_worse: bool
    deciding: bool
    """Whether the cell's verdict rests on it; the others inform."""
    baseline: Interval
    candidate: Interval
    scale: Literal["ratio", "difference"]
    """ratio: `effect` is candidate / baseline - 1, by geometric means; difference: candidate -
    baseline."""
    method: Literal["welch", "paired", "none"]
    effect: float
    low: float | None
    """Ends of the effect's interval; None without one."""
    high: float | None
    degrees_of_freedom: float | None
    margin: float | None
    """In the direction of harm, as `effect`; None for figures that inform."""
    p_worse: float | None
    """One-sided: that the candidate is no worse. Under the rule `approval`: no worse than by
    the margin."""
    p_worse_holm: float | None
    """Adjusted over all hypotheses of this comparison (Holm); of a cell whose throughput and stall
    are one quantity, the larger p of the two stands for both."""
    p_better: float | None
    p_better_holm: float | None
    detectable: float | None
    """Least true change for the worse that this comparison calls so in 80 of 100 cases."""
    repeats_needed: int | None
    """A side, to tell no change from a change of the margin; None where that is known, not to
    be had, or past 1000."""
    verdict: Verdict | None
    reason: str
    """Why it is inconclusive; empty else."""


class Compared(Part):
    """One cell: a row of every rendering, whatever came of it."""

    key: CellKey
    state: Literal["compared", "missing", "extra", "refused", "invalid"]
    """missing: the candidate lacks it; extra: the baseline lacks it."""
    verdict: Verdict
    baseline: CellSide | None
    candidate: CellSide | None
    reasons: list[Note]
    """Why there is no better verdict."""
    notes: list[Note]
    """What limits it without forbidding it."""
    differences: list[Difference]
    metrics: list[MetricComparison]

    @property
    def label(self) -> str:
        """The cell for people, both targets where they differ."""
        sides = [side.storage for side in (self.baseline, self.candidate) if side is not None]
        if self.key.storage is not None or not sides:
            return self.key.label
        names = list(dict.fromkeys(sides))
        where = self.key.model_copy(update={"storage": " against ".join(reversed(names))})
        return where.label


class Overall(Part):
    """What the whole comparison comes to."""

    verdict: Verdict
    counts: dict[str, int]
    """Cells by verdict."""
    sentence: str


class Comparison(Part):
    """Candidate against baseline."""

    schema_version: Literal[1] = 1
    kind: Literal["comparison"] = "comparison"
    created_at: str
    """UTC, ISO 8601."""
    tool: Tool
    parameters: Parameters
    baseline: Side
    candidate: Side
    cells: list[Compared]
    overall: Overall
    not_measured: dict[str, str] = Field(default_factory=dict)
    """What this version cannot say, with the reason."""
    checksum: str = ""
    """sha256 of the document with this field empty; finds edits by hand."""
