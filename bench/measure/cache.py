"""Cold or warm: the verdict on the client's page cache, and what is not known of other tiers.

Evidence comes from `bench.measure.pagecache` (probes before the run) and from the kernel's
meter over the readers (/proc/PID/io read_bytes during it). It proves the client's tier only.
Verdicts: "cold-verified" has evidence, "cold-requested" was asked for and is not provable,
"warm" has evidence of hits, "unknown" is everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.measure.mounts import Mode, MountFacts, Proof, Verdict, proof_of
from bench.measure.pagecache import Probes, evict, probe
from bench.results.schema import Cache, CacheTierState
from bench.spec.documents import CacheTier

__all__ = [
    "MAX_COLD_HIT_RATIO",
    "CacheEvidence",
    "Probes",
    "evict",
    "hit_ratio",
    "judge_cache",
    "object_cache",
    "probe",
]

MAX_COLD_HIT_RATIO = 0.01
"""A run is cold when at most this share of its bytes came from the client's page cache."""

MAX_OVERREAD_RATIO = 1.05
"""Beyond this the kernel read so much more than was asked for (readahead of small records)
that its meter could hide hits: then probes must tell."""

SAFE_SIZE_FACTOR = 5.0
"""A data set of so many times a cache's size is read from behind it (docs/method.md)."""

SERVER_TYPES = ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "gpfs", "virtiofs")


@dataclass(frozen=True, slots=True)
class CacheEvidence:
    """What is known when a repeat has ended.

    Attributes:
        mount: Mount of the data set; None where /proc did not say.
        mode: How files were read.
        requested: State that was asked for.
        transferred_bytes: What readers took from the storage, alignment included.
        kernel_read_bytes: Growth of read_bytes over all readers; None where not readable.
        probes: Probes after eviction and before the measured phase; None without.
        dataset_bytes: Bytes of the data set.
        memory_limit_bytes: Memory that could hold a page cache: the limit or the machine's.
    """

    mount: MountFacts | None
    mode: Mode
    requested: Literal["cold", "hot", "as-is"]
    transferred_bytes: int
    kernel_read_bytes: int | None
    probes: Probes | None
    dataset_bytes: int
    memory_limit_bytes: int | None


def hit_ratio(transferred_bytes: int, kernel_read_bytes: int | None) -> float | None:
    """Return the share of bytes that no device delivered, 0 to 1; None where not known."""
    if kernel_read_bytes is None or transferred_bytes <= 0:
        return None
    return min(1.0, max(0.0, 1.0 - kernel_read_bytes / transferred_bytes))


def judge_cache(evidence: CacheEvidence, *, tiers: Sequence[CacheTier] = ()) -> Cache:
    """Return the verdict of a repeat with its evidence and all tiers that are known of.

    Args:
        evidence: What was seen.
        tiers: Caches behind the client as declared in the storage target.
    """
    verdict, reason = _verdict(evidence)
    size = evidence.dataset_bytes
    limit = evidence.memory_limit_bytes
    client = CacheTierState(
        tier="client page cache",
        capacity_bytes=limit,
        state=verdict,
        evidence=f"{reason}; {_size_against(size, limit)}",
    )
    found = [client, *_implied_tiers(evidence)]
    found += [_declared_tier(tier, size) for tier in tiers]
    return Cache(
        requested=evidence.requested,
        verdict=verdict,
        tiers=found,
        evidence=_figures(evidence) | {"reason": reason},
    )


def object_cache(
    *,
    requested: Literal["cold", "hot", "as-is"],
    transferred_bytes: int,
    dataset_bytes: int,
    tiers: Sequence[CacheTier] = (),
) -> Cache:
    """Return the verdict on an object store's bytes: sockets have no cache on the client.

    Args:
        requested: State that was asked for.
        transferred_bytes: What came over the network.
        dataset_bytes: Bytes of the data set.
        tiers: Caches of the server as declared.
    """
    reason = "every byte came over the network; the client caches none"
    found = [
        CacheTierState(
            tier="client", capacity_bytes=0, state="cold-verified", evidence="no cache there"
        )
    ]
    found += [_declared_tier(tier, dataset_bytes) for tier in tiers] or [
        CacheTierState(
            tier="server",
            capacity_bytes=None,
            state="unknown",
            evidence="not visible to the client, capacity not declared",
        )
    ]
    return Cache(
        requested=requested,
        verdict="cold-verified",
        tiers=found,
        evidence={
            "file_system": "object store",
            "reason": reason,
            "transferred_bytes": transferred_bytes,
            "dataset_bytes": dataset_bytes,
        },
    )


def _verdict(evidence: CacheEvidence) -> tuple[Verdict, str]:
    mount = evidence.mount
    if mount is None:
        return "unknown", "the file system is not known"
    proof = proof_of(mount.fs_type, mount.options)
    if proof is Proof.MEMORY:
        return "warm", f"{mount.fs_type} is memory"
    if proof is Proof.ASKED and evidence.mode == "direct" and evidence.requested == "cold":
        return "cold-requested", f"O_DIRECT on {mount.fs_type}, which no meter here confirms"
    if proof in {Proof.ASKED, Proof.OPAQUE}:
        return "unknown", f"the client's meters say nothing reliable about {mount.fs_type}"
    ratio = hit_ratio(evidence.transferred_bytes, evidence.kernel_read_bytes)
    if ratio is None:
        return _without_meter(evidence)
    return _by_meter(evidence, ratio, proof)


def _without_meter(evidence: CacheEvidence) -> tuple[Verdict, str]:
    probes = evidence.probes
    if probes is not None and probes.num_hits:
        return "warm", f"{probes.num_hits} of {probes.num_probes} probed pages were cached"
    if evidence.requested != "cold":
        return "unknown", "the kernel's read meter is not readable"
    if evidence.mode == "direct":
        return "cold-requested", "O_DIRECT, but the kernel's read meter is not readable"
    if probes is not None and probes.supported and probes.num_probes:
        return "cold-requested", "no probed page was cached before the run; no meter during it"
    return "unknown", "neither the kernel's read meter nor probes are readable"


def _by_meter(evidence: CacheEvidence, ratio: float, proof: Proof) -> tuple[Verdict, str]:
    probes = evidence.probes
    stated = f"{ratio:.2%} of the bytes read came from no device"
    if ratio > MAX_COLD_HIT_RATIO:
        if proof is Proof.METERED_ONE_WAY and not (probes is not None and probes.num_hits):
            return "unknown", f"{stated}, which a layered file system leaves open"
        return "warm", stated
    overread = (evidence.kernel_read_bytes or 0) / evidence.transferred_bytes
    if evidence.mode != "direct" and overread > MAX_OVERREAD_RATIO:
        hides = f"{stated}, but the device delivered {overread:.2f} times what was asked for"
        if probes is None or not probes.supported or probes.num_probes == 0:
            return "unknown", f"{hides}, which could hide hits"
        if probes.num_hits:
            return "warm", f"{hides}, and probes found cached pages"
        return "cold-requested", f"{hides}; no probed page was cached before the run"
    return "cold-verified", f"{stated} (at most {MAX_COLD_HIT_RATIO:.0%})"


def _size_against(dataset_bytes: int, capacity_bytes: int | None) -> str:
    if not capacity_bytes:
        return "memory limit unknown"
    return f"the data set is {dataset_bytes / capacity_bytes:.2f} times the memory limit"


def _implied_tiers(evidence: CacheEvidence) -> list[CacheTierState]:
    """Return the tiers that a file system type is known to have, and that we cannot see."""
    if evidence.mount is None:
        return []
    fs_type = evidence.mount.fs_type
    names = []
    if fs_type == "fuse" or fs_type.startswith("fuse."):
        names = ["client daemon", "server"]
    elif fs_type == "gpfs":
        names = ["client daemon (pagepool)", "server"]
    elif fs_type in SERVER_TYPES:
        names = ["server"]
    return [
        CacheTierState(
            tier=name,
            capacity_bytes=None,
            state="unknown",
            evidence=f"{fs_type}: not visible to the client, capacity not declared",
        )
        for name in names
    ]


def _declared_tier(tier: CacheTier, dataset_bytes: int) -> CacheTierState:
    if tier.capacity_bytes == 0:
        exceeded, text = True, "declared to have no capacity"
    else:
        factor = dataset_bytes / tier.capacity_bytes
        exceeded = factor >= SAFE_SIZE_FACTOR
        text = f"declared; the data set is {factor:.2f} times its capacity"
    if not exceeded:
        text += f", {SAFE_SIZE_FACTOR:.0f} times would exceed it"
    return CacheTierState(
        tier=tier.name,
        capacity_bytes=tier.capacity_bytes,
        state="cold-requested" if exceeded else "unknown",
        evidence=text,
    )


def _figures(evidence: CacheEvidence) -> dict[str, Any]:
    mount, probes, limit = evidence.mount, evidence.probes, evidence.memory_limit_bytes
    return {
        "file_system": mount.fs_type if mount else "unknown",
        "mount_point": mount.mount_point if mount else "unknown",
        "mode": evidence.mode,
        "transferred_bytes": evidence.transferred_bytes,
        "kernel_read_bytes": evidence.kernel_read_bytes,
        "hit_ratio": hit_ratio(evidence.transferred_bytes, evidence.kernel_read_bytes),
        "probes_supported": probes.supported if probes else None,
        "probed_files": probes.num_files if probes else None,
        "probes": probes.num_probes if probes else None,
        "probe_hits": probes.num_hits if probes else None,
        "dataset_bytes": evidence.dataset_bytes,
        "memory_limit_bytes": limit,
        "dataset_to_memory_ratio": evidence.dataset_bytes / limit if limit else None,
    }
