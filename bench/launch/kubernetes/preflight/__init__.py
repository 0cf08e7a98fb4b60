"""Preflight: every refusal of a cluster by name, before anything is created.

`gather` asks the API server and decides nothing; `decide` is a pure function of what was
gathered. What may not be read is noted as unknown and refuses nothing.
"""

from bench.launch.kubernetes.preflight.decide import decide
from bench.launch.kubernetes.preflight.facts import existing_claim, gather
from bench.launch.kubernetes.preflight.model import Facts, Note, Refusal, Unknown, Verdict

__all__ = [
    "Facts",
    "Note",
    "Refusal",
    "Unknown",
    "Verdict",
    "decide",
    "existing_claim",
    "gather",
]
