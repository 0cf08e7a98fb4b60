"""Guards: the conditions under which a repeat's figures may be believed.

Pure functions, one a condition, each returning a `Guard` whose detail states the figure and
its bound. "fail" makes the repeat invalid, "warn" is for the reader, and what could not be
measured reads "not measured": never "pass". The bounds are those of docs/method.md.
"""

from __future__ import annotations

from typing import Literal

from bench.measure.mounts import Proof, proof_of
from bench.results.schema import Cache, Errors, Guard

__all__ = [
    "attribution_guard",
    "bytes_guard",
    "cache_guard",
    "clock_guard",
    "dilation_guard",
    "emulation_guard",
    "errors_guard",
    "identity_guard",
    "memory_guard",
    "noise_guard",
    "not_measured",
    "prefixes_guard",
    "short_guard",
    "throttling_guard",
]

Status = Literal["pass", "warn", "fail", "not measured"]

MAX_UNATTRIBUTED_OF_STALL = 0.01
MAX_UNATTRIBUTED_OF_WALL = 0.001
MAX_IDENTITY_ERROR = 0.005
MAX_LATE_OF_WALL = 0.005
MAX_DILATION = 1.02
MIN_STEPS = 30
MIN_RING_FILLS = 20
MAX_NOISE_OF_MARGIN = 0.25
STALL_MARGIN = 0.02
"""Default margin of a decision on stall, which noise is held against: 2 points."""
MAX_METER_MISMATCH = 0.01
"""Direct reads are counted exactly; what is left are descriptors' metadata reads."""
MIN_FREE_MEMORY_RATIO = 0.1
MAX_CLOCK_ERROR_OF_STEP = 0.01
MAX_THROTTLED_OF_WALL = 0.01


def _guard(name: str, status: Status, detail: str) -> Guard:
    return Guard(name=name, status=status, detail=detail)


def not_measured(name: str, reason: str) -> Guard:
    """Return a guard that this version or this machine cannot measure."""
    return _guard(name, "not measured", reason)


def attribution_guard(*, unattributed_ns: int, stall_ns: int, wall_ns: int) -> Guard:
    """Unattributed stall is at most 1 % of the stall or 0.1 % of wall time x ranks.

    Args:
        unattributed_ns: Stall without a cause, over all ranks.
        stall_ns: All stall, over all ranks.
        wall_ns: Wall time x ranks.
    """
    bound = max(MAX_UNATTRIBUTED_OF_STALL * stall_ns, MAX_UNATTRIBUTED_OF_WALL * wall_ns)
    detail = f"{unattributed_ns / 1e9:.3f} s of stall without a cause (at most {bound / 1e9:.3f} s)"
    return _guard("attribution", "pass" if unattributed_ns <= bound else "fail", detail)


def identity_guard(*, error_ratio: float) -> Guard:
    """Utilization + stall + floor is the host's wall time within 0.5 %, on every rank."""
    detail = (
        f"utilization + stall + floor is off the host's wall time by {error_ratio:.3%} "
        f"(at most {MAX_IDENTITY_ERROR:.1%})"
    )
    return _guard("identity", "pass" if error_ratio <= MAX_IDENTITY_ERROR else "fail", detail)


def bytes_guard(
    *,
    payload_bytes: int,
    requested_bytes: int,
    transferred_bytes: int,
    kernel_read_bytes: int | None,
    mode: Literal["direct", "buffered", "dontcache"],
    proof: Proof,
) -> Guard:
    """Bytes in slots are what was asked for; those of direct reads are what the kernel fetched.

    Args:
        payload_bytes: Payload that arrived in slots.
        requested_bytes: Payload of the same pieces by the plan.
        transferred_bytes: What the readers took from the storage, alignment included.
        kernel_read_bytes: Growth of the readers' read_bytes; None where not readable.
        mode: How files were read; buffered reads may come from the cache or read ahead, so
            they are not held against the kernel.
        proof: Whether the kernel's meter can be trusted on this file system.
    """
    name = "bytes_cross_check"
    if payload_bytes != requested_bytes:
        detail = f"{payload_bytes} bytes arrived where the plan asked for {requested_bytes}"
        return _guard(name, "fail", detail)
    if transferred_bytes < payload_bytes:
        detail = f"{payload_bytes} bytes arrived but only {transferred_bytes} were transferred"
        return _guard(name, "fail", detail)
    agreed = f"{payload_bytes} bytes arrived, as planned"
    if mode != "direct" or proof is not Proof.METERED:
        return _guard(name, "pass", f"{agreed}; {mode} reads here have no exact kernel meter")
    if kernel_read_bytes is None:
        return _guard(name, "warn", f"{agreed}; the kernel's meter is not readable")
    mismatch = abs(kernel_read_bytes - transferred_bytes) / max(1, transferred_bytes)
    detail = (
        f"{agreed}; {transferred_bytes} transferred and {kernel_read_bytes} by the kernel's "
        f"meter differ by {mismatch:.3%} (at most {MAX_METER_MISMATCH:.0%})"
    )
    return _guard(name, "pass" if mismatch <= MAX_METER_MISMATCH else "fail", detail)


def emulation_guard(*, late_ns: int, wall_ns: int) -> Guard:
    """Late wake-ups of the emulated device that reached a gap are at most 0.5 % of wall time.

    Args:
        late_ns: Sum over steps of min(STEP_DTYPE late_ns, stall), over all ranks.
        wall_ns: Wall time x ranks.
    """
    ratio = late_ns / wall_ns if wall_ns > 0 else 0.0
    detail = f"late wake-ups delayed batches for {ratio:.3%} of the time (at most 0.5 %)"
    return _guard("emulation_fidelity", "pass" if ratio <= MAX_LATE_OF_WALL else "fail", detail)


def dilation_guard(*, dilation_ratio: float | None) -> Guard:
    """Steps take at most 1.02 times their calibrated time; else something shares the GPU."""
    if dilation_ratio is None:
        return not_measured("compute_dilation", "steps are not timed by a device")
    detail = f"steps took {dilation_ratio:.3f} times their calibrated time (at most {MAX_DILATION})"
    return _guard("compute_dilation", "pass" if dilation_ratio <= MAX_DILATION else "fail", detail)


def short_guard(*, num_steps: int, payload_bytes: int, ring_bytes: int) -> Guard:
    """At least 30 steps and 20 ring fills; a shorter phase is for trying things out.

    Args:
        num_steps: Steps of a rank.
        payload_bytes: Bytes that arrived in its slots.
        ring_bytes: Its ring.
    """
    fills = payload_bytes / ring_bytes if ring_bytes > 0 else 0.0
    long_enough = num_steps >= MIN_STEPS and fills >= MIN_RING_FILLS
    detail = (
        f"{num_steps} steps and {fills:.1f} ring fills (at least {MIN_STEPS} and {MIN_RING_FILLS})"
    )
    return _guard("short", "pass" if long_enough else "warn", detail)


def noise_guard(*, noise_ratio: float | None, margin_ratio: float = STALL_MARGIN) -> Guard:
    """The estimator's noise is at most a quarter of the margin of a decision on stall.

    Args:
        noise_ratio: What the estimator finds on replay R0; None where R0 did not run.
        margin_ratio: Margin of the decision.
    """
    if noise_ratio is None:
        return not_measured("noise", "no replay phase was run")
    bound = MAX_NOISE_OF_MARGIN * margin_ratio
    detail = f"{noise_ratio:.3%} of stall found where there is none (at most {bound:.2%})"
    return _guard("noise", "pass" if noise_ratio <= bound else "fail", detail)


def errors_guard(errors: Errors, *, wall_seconds: float = 0.0) -> Guard:
    """No read failed; retries, short reads and fall-backs are for the reader to know.

    Args:
        errors: Of the repeat.
        wall_seconds: Of the measured phase, for rates; 0 for no rates.
    """
    if errors.reads_failed:
        return _guard("errors", "fail", f"{errors.reads_failed} reads failed")
    odd = {
        "retries": errors.retries,
        "short reads": errors.short_reads,
        "fall-back reads": errors.fallback_reads,
        "slow-downs": errors.slow_downs,
    }
    seen = ", ".join(f"{count} {name}" for name, count in odd.items() if count)
    if errors.slow_downs and wall_seconds > 0:
        seen += f" ({errors.slow_downs * 60 / wall_seconds:.1f} a minute)"
    return _guard("errors", "warn" if seen else "pass", seen or "none")


def prefixes_guard(*, num_prefixes: int, num_files: int) -> Guard:
    """Objects are spread over several key prefixes: stores limit request rates for each.

    Args:
        num_prefixes: Key prefixes of the data set, up to the last slash.
        num_files: Its objects.
    """
    detail = f"{num_files} objects in {num_prefixes} key prefixes"
    if num_prefixes == 1 and num_files > 1:
        return _guard("prefixes", "warn", f"all {num_files} objects share one key prefix")
    return _guard("prefixes", "pass", detail)


def memory_guard(*, peak_bytes: int | None, limit_bytes: int | None) -> Guard:
    """A tenth of the memory limit stays free, so that reclaim does not disturb the run.

    Args:
        peak_bytes: Largest memory of all processes of the node; None where not readable.
        limit_bytes: The limit, else the machine's memory; None where not readable.
    """
    name = "memory_headroom"
    if peak_bytes is None or not limit_bytes:
        return not_measured(name, "memory use or memory limit is not readable")
    free = 1.0 - peak_bytes / limit_bytes
    detail = f"{free:.0%} of {limit_bytes} bytes stayed free (at least {MIN_FREE_MEMORY_RATIO:.0%})"
    enough = limit_bytes - peak_bytes >= MIN_FREE_MEMORY_RATIO * limit_bytes
    return _guard(name, "pass" if enough else "warn", detail)


def throttling_guard(*, throttled_seconds: float | None, wall_seconds: float) -> Guard:
    """The CPU limit held the processes back for at most 1 % of wall time.

    Args:
        throttled_seconds: Growth of `bench.measure.cgroup.throttled_seconds`; None where the
            group has no such figure.
        wall_seconds: Wall time of the measured phase.
    """
    if throttled_seconds is None:
        return not_measured("throttling", "no cpu.stat with throttling is readable")
    ratio = throttled_seconds / wall_seconds if wall_seconds > 0 else 0.0
    detail = f"throttled for {throttled_seconds:.3f} s, {ratio:.2%} of the time (at most 1 %)"
    return _guard("throttling", "pass" if ratio <= MAX_THROTTLED_OF_WALL else "fail", detail)


def cache_guard(cache: Cache | None, *, num_epochs: int = 1) -> Guard:
    """The cache's verdict is what was asked for before the repeat.

    A warm verdict against a cold request fails, but warns where it is no surprise: on a file
    system that is memory, and in later epochs of files read through the page cache.

    Args:
        cache: The repeat's verdict; None for a target without files.
        num_epochs: Passes over the data set.
    """
    if cache is None:
        return not_measured("cache", "the target has no files")
    wanted, found = cache.requested, cache.verdict
    detail = f"{wanted} asked for, {found}: {cache.evidence.get('reason', 'no reason given')}"
    if wanted == "as-is" or found == {"hot": "warm", "cold": "cold-verified"}[wanted]:
        return _guard("cache", "pass", detail)
    if found == "unknown" or (wanted == "cold" and found == "cold-requested"):
        return _guard("cache", "warn", detail)
    if wanted == "cold" and proof_of(str(cache.evidence.get("file_system"))) is Proof.MEMORY:
        return _guard("cache", "warn", detail)
    if wanted == "cold" and num_epochs > 1 and cache.evidence.get("mode") != "direct":
        return _guard("cache", "warn", f"{detail}; later epochs may find what the first one read")
    return _guard("cache", "fail", detail)


def clock_guard(*, clock_error_seconds: float | None, step_seconds: float | None) -> Guard:
    """The error of mapping device time to host time is at most 1 % of a step.

    Args:
        clock_error_seconds: Residual by the device; None where it did not say.
        step_seconds: Step time; None in unthrottled mode.
    """
    if clock_error_seconds is None or not step_seconds:
        return not_measured("clock", "no clock error or no step time to hold it against")
    bound = MAX_CLOCK_ERROR_OF_STEP * step_seconds
    detail = f"device clock known to {clock_error_seconds:.2e} s (at most {bound:.2e} s)"
    return _guard("clock", "pass" if clock_error_seconds <= bound else "fail", detail)
