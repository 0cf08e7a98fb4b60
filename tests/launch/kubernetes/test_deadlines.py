"""Jobs may live as long as slow storage needs, and end when it hangs."""

from __future__ import annotations

import pytest
from made_plans import EPHEMERAL, NEW_CLAIM, SIMULATED, plan, settings

from bench.launch.kubernetes.deadlines import (
    SLACK_SECONDS,
    SLOWEST_BYTES_PER_SECOND,
    anchor_ttl_seconds,
    measure_deadline_seconds,
    prepare_deadline_seconds,
)
from bench.spec.plan import Plan


def scaled(made: Plan, factor: int) -> Plan:
    dataset = made.dataset
    more = {
        "total_bytes": dataset.total_bytes * factor,
        "num_samples": dataset.num_samples * factor,
    }
    return made.model_copy(update={"dataset": dataset.model_copy(update=more)})


def test_a_deadline_covers_slow_storage_and_the_accelerators_own_time() -> None:
    made = plan(NEW_CLAIM, accelerator="v100")
    reading = made.dataset.total_bytes * 5 / SLOWEST_BYTES_PER_SECOND
    computing = 168 * 5 / 7 * 2.3807
    assert measure_deadline_seconds(made, settings()) >= reading + computing + 600 + 120
    assert measure_deadline_seconds(made, settings()) < 2 * (reading + computing)
    unthrottled = measure_deadline_seconds(plan(NEW_CLAIM, accelerator="none"), settings())
    assert measure_deadline_seconds(made, settings()) >= unthrottled + computing - 1


def test_more_data_fewer_steps_and_less_time_count() -> None:
    made, cluster = plan(NEW_CLAIM), settings()
    whole = measure_deadline_seconds(made, cluster)
    assert measure_deadline_seconds(scaled(made, 10), cluster) > 5 * whole
    assert measure_deadline_seconds(plan(NEW_CLAIM, max_steps=2), cluster) < whole / 3
    assert measure_deadline_seconds(plan(NEW_CLAIM, max_seconds=5), cluster) < whole / 3
    assert measure_deadline_seconds(plan(NEW_CLAIM, cache="hot"), cluster) > whole
    guarded = plan(NEW_CLAIM, bytes_per_second_limit="1MB/s")
    assert measure_deadline_seconds(guarded, cluster) > 10 * whole
    slow = {"simulated": {"bandwidth_bytes_per_second": "1MB/s"}}
    late = {"simulated": {"latency_seconds": 60}}
    for storage in (slow, late):
        simulated = measure_deadline_seconds(plan(storage), cluster)
        assert simulated > 3 * measure_deadline_seconds(plan(SIMULATED), cluster)


def test_the_data_set_is_made_where_it_is_read() -> None:
    making = plan(NEW_CLAIM).dataset.total_bytes / SLOWEST_BYTES_PER_SECOND
    cluster = settings()
    assert prepare_deadline_seconds(plan(NEW_CLAIM), cluster) >= 600 + making
    assert prepare_deadline_seconds(plan(EPHEMERAL), cluster) == 600 + SLACK_SECONDS
    more = measure_deadline_seconds(plan(EPHEMERAL), cluster)
    assert more == pytest.approx(measure_deadline_seconds(plan(NEW_CLAIM), cluster) + making, abs=1)


def test_given_deadlines_win() -> None:
    cluster = settings(deadline_seconds=90, prepare_deadline_seconds="2m")
    assert measure_deadline_seconds(plan(NEW_CLAIM), cluster) == 90
    assert prepare_deadline_seconds(plan(NEW_CLAIM), cluster) == 120


@pytest.mark.parametrize("queue", [None, "queue"])
def test_the_anchor_outlives_every_repeat(queue: str | None) -> None:
    cluster = settings(
        deadline_seconds=90,
        ttl_seconds_after_finished=7,
        queue_timeout_seconds=1000,
        queue_name=queue,
    )
    waiting = 1000 if queue else 0
    made = plan(NEW_CLAIM, repeats=3)
    assert anchor_ttl_seconds(made, cluster) == 3 * (90 + waiting) + 7


def test_no_number_is_larger_than_the_api_takes() -> None:
    made = scaled(plan(NEW_CLAIM, repeats=1000), 10**9)
    assert measure_deadline_seconds(made, settings()) == 2**31 - 1
    assert anchor_ttl_seconds(made, settings()) == 2**31 - 1
