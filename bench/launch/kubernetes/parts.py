"""What a run on a cluster is given to talk to, and what it learns of where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.agent.site import Site

__all__ = ["ClusterSite", "Listener"]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far a run is.

    Attributes:
        event: Takes (repeat, rank, event) of ranks, summed up by the first pod.
        making: Takes a preparing pod's events.
        waiting: Takes what the run waits for, in a few words.
    """

    event: Callable[[int, int, dict[str, Any]], None]
    making: Callable[[dict[str, Any]], None]
    waiting: Callable[[str], None]


@dataclass(slots=True)
class ClusterSite:
    """What is known of where a run was, for its document.

    Attributes:
        site: As the first pod of the first repeat saw it; None where none came to say.
        observed: What the API says of pods, nodes and volumes.
        image_digests: Of the images that really ran.
    """

    site: Site | None = None
    observed: dict[str, Any] = field(default_factory=dict)
    image_digests: set[str] = field(default_factory=set)
