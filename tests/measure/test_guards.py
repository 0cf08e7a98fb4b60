"""Each guard passes inside its bound, fails outside, and never passes unmeasured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.measure import guards
from bench.measure.mounts import Proof
from bench.results.schema import Cache, Errors, Guard

SECOND = 10**9


def bytes_guard(**changes: Any) -> Guard:
    values: dict[str, Any] = {
        "payload_bytes": 1000,
        "requested_bytes": 1000,
        "transferred_bytes": 1024,
        "kernel_read_bytes": 1024,
        "mode": "direct",
        "proof": Proof.METERED,
    }
    return guards.bytes_guard(**(values | changes))


CASES: list[tuple[Callable[..., Guard], dict[str, Any], str]] = [
    (guards.attribution_guard, {"unattributed_ns": 10, "stall_ns": 1000, "wall_ns": 0}, "pass"),
    (guards.attribution_guard, {"unattributed_ns": 11, "stall_ns": 1000, "wall_ns": 0}, "fail"),
    (guards.attribution_guard, {"unattributed_ns": 9, "stall_ns": 9, "wall_ns": 9000}, "pass"),
    (guards.attribution_guard, {"unattributed_ns": 10, "stall_ns": 9, "wall_ns": 9000}, "fail"),
    (guards.identity_guard, {"error_ratio": 0.005}, "pass"),
    (guards.identity_guard, {"error_ratio": 0.0051}, "fail"),
    (guards.emulation_guard, {"late_ns": 5, "wall_ns": 1000}, "pass"),
    (guards.emulation_guard, {"late_ns": 6, "wall_ns": 1000}, "fail"),
    (guards.dilation_guard, {"dilation_ratio": 1.02}, "pass"),
    (guards.dilation_guard, {"dilation_ratio": 1.03}, "fail"),
    (guards.dilation_guard, {"dilation_ratio": None}, "not measured"),
    (guards.short_guard, {"num_steps": 30, "payload_bytes": 200, "ring_bytes": 10}, "pass"),
    (guards.short_guard, {"num_steps": 29, "payload_bytes": 200, "ring_bytes": 10}, "warn"),
    (guards.short_guard, {"num_steps": 30, "payload_bytes": 199, "ring_bytes": 10}, "warn"),
    (guards.noise_guard, {"noise_ratio": 0.005}, "pass"),
    (guards.noise_guard, {"noise_ratio": 0.006}, "fail"),
    (guards.noise_guard, {"noise_ratio": None}, "not measured"),
    (guards.memory_guard, {"peak_bytes": 90, "limit_bytes": 100}, "pass"),
    (guards.memory_guard, {"peak_bytes": 91, "limit_bytes": 100}, "warn"),
    (guards.memory_guard, {"peak_bytes": None, "limit_bytes": 100}, "not measured"),
    (guards.throttling_guard, {"throttled_seconds": 0.1, "wall_seconds": 10}, "pass"),
    (guards.throttling_guard, {"throttled_seconds": 0.2, "wall_seconds": 10}, "fail"),
    (guards.throttling_guard, {"throttled_seconds": None, "wall_seconds": 10}, "not measured"),
    (guards.clock_guard, {"clock_error_seconds": 1e-6, "step_seconds": 1e-3}, "pass"),
    (guards.clock_guard, {"clock_error_seconds": 2e-5, "step_seconds": 1e-3}, "fail"),
    (guards.clock_guard, {"clock_error_seconds": None, "step_seconds": 1e-3}, "not measured"),
    (bytes_guard, {}, "pass"),
    (bytes_guard, {"payload_bytes": 999}, "fail"),
    (bytes_guard, {"transferred_bytes": 999}, "fail"),
    (bytes_guard, {"kernel_read_bytes": 500}, "fail"),
    (bytes_guard, {"kernel_read_bytes": 2048}, "fail"),
    (bytes_guard, {"kernel_read_bytes": None}, "warn"),
    (bytes_guard, {"kernel_read_bytes": 0, "mode": "buffered"}, "pass"),
    (bytes_guard, {"kernel_read_bytes": 0, "proof": Proof.OPAQUE}, "pass"),
]


@pytest.mark.parametrize(("guard", "values", "status"), CASES)
def test_status_at_the_bound(
    guard: Callable[..., Guard], values: dict[str, Any], status: str
) -> None:
    found = guard(**values)
    assert found.status == status
    assert found.detail


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        (Errors(), "pass"),
        (Errors(short_reads=2), "warn"),
        (Errors(reads_failed=1, retries=3), "fail"),
    ],
)
def test_errors(errors: Errors, status: str) -> None:
    assert guards.errors_guard(errors).status == status


@pytest.mark.parametrize(
    ("requested", "verdict", "evidence", "num_epochs", "status"),
    [
        ("cold", "cold-verified", {}, 1, "pass"),
        ("cold", "cold-requested", {}, 1, "warn"),
        ("cold", "unknown", {}, 1, "warn"),
        ("cold", "warm", {"file_system": "ext4", "mode": "buffered"}, 1, "fail"),
        ("cold", "warm", {"file_system": "ext4", "mode": "buffered"}, 2, "warn"),
        ("cold", "warm", {"file_system": "ext4", "mode": "direct"}, 2, "fail"),
        ("cold", "warm", {"file_system": "tmpfs"}, 1, "warn"),
        ("hot", "warm", {}, 1, "pass"),
        ("hot", "cold-verified", {}, 1, "fail"),
        ("as-is", "warm", {}, 1, "pass"),
    ],
)
def test_the_verdict_is_held_against_what_was_asked_for(
    requested: Any, verdict: Any, evidence: dict[str, Any], num_epochs: int, status: str
) -> None:
    cache = Cache(requested=requested, verdict=verdict, tiers=[], evidence=evidence)
    assert guards.cache_guard(cache, num_epochs=num_epochs).status == status


def test_a_target_without_files_has_no_cache_verdict() -> None:
    assert guards.cache_guard(None).status == "not measured"
