"""What a run will take is known, in bounds, before it starts."""

from __future__ import annotations

from typing import Any

import pytest
from made_plans import EPHEMERAL, NEW_CLAIM, OBJECT, OLD_CLAIM, SIMULATED, plan

from bench.errors import UsageError
from bench.launch.kubernetes.estimate import Rates, check_budget, estimate, lines

DATA = 168 * 146_600_628  # unet3d
EPOCHS = 5


def gpus(**given: Any) -> dict[str, Any]:
    return {"cluster": {"gpu": "device-plugin"}} | given


def test_reads_are_repeats_times_epochs_times_the_data_set() -> None:
    found = estimate(plan(NEW_CLAIM, repeats=3, nodes=2))
    assert found.read_bytes == pytest.approx(3 * EPOCHS * DATA, rel=0.01)
    blocks = -(-146_600_628 // 4194304)
    assert found.requests == 3 * EPOCHS * 168 * blocks


def test_steps_and_a_limit_for_a_time_bound_the_reads() -> None:
    few = estimate(plan(NEW_CLAIM, max_steps=2))
    assert few.read_bytes == pytest.approx(2 * 7 * 146_600_628, rel=0.01)
    slow = plan(NEW_CLAIM, bytes_per_second_limit="1MB/s", max_seconds=10, repeats=2)
    assert estimate(slow).read_bytes == 2 * 10_000_000


def test_warming_reads_the_data_set_once_more_on_each_node() -> None:
    cold, hot = (estimate(plan(NEW_CLAIM, cache=c, nodes=2)) for c in ("cold", "hot"))
    assert hot.read_bytes - cold.read_bytes == pytest.approx(2 * DATA, rel=0.01)


@pytest.mark.parametrize(
    ("storage", "copies", "volumes"),
    [(NEW_CLAIM, 1, 1), (OLD_CLAIM, 1, 0), (OBJECT, 1, 0), (SIMULATED, 0, 0), (EPHEMERAL, 6, 2)],
)
def test_what_is_written_and_held(storage: dict[str, Any], copies: int, volumes: int) -> None:
    found = estimate(plan(storage, nodes=2, repeats=3))
    assert found.written_bytes == pytest.approx(copies * DATA, rel=0.01)
    assert found.volume_bytes == volumes * 200 * 2**30
    assert found.data_bytes <= found.volume_bytes


def test_gpus_are_held_for_the_steps_at_least_and_the_deadline_at_most() -> None:
    found = estimate(plan(NEW_CLAIM, repeats=2, **gpus(nodes=2, gpus_per_node=4)))
    seconds = 168 * EPOCHS / (7 * 8) * plan(NEW_CLAIM).step_seconds * 2
    assert found.least_seconds == pytest.approx(seconds)
    assert found.least_gpu_hours == pytest.approx(8 * seconds / 3600)
    assert found.most_gpu_hours > found.least_gpu_hours
    assert estimate(plan(NEW_CLAIM, gpus_per_node=4)).most_gpu_hours == 0  # emulated


def test_a_limit_makes_it_longer() -> None:
    found = estimate(plan(NEW_CLAIM, bytes_per_second_limit="100MB/s"))
    assert found.least_seconds == pytest.approx(EPOCHS * DATA / 100e6, rel=0.01)


def test_cost_is_said_where_there_are_rates() -> None:
    made = plan(NEW_CLAIM, **gpus())
    assert estimate(made).least_cost is None
    rates = Rates(gpu_hour=3, million_requests=0.4, gigabyte_read=0.1, gigabyte_written=0.2)
    found = estimate(made, rates=rates)
    fixed = 0.4 * found.requests / 1e6 + 0.1 * found.read_bytes / 1e9 + 0.2 * DATA / 1e9
    assert found.least_cost == pytest.approx(fixed + 3 * found.least_gpu_hours, rel=0.001)
    assert found.most_cost == pytest.approx(fixed + 3 * found.most_gpu_hours, rel=0.001)
    assert any("costs" in line for line in lines(found))


def test_a_run_over_its_budget_is_refused() -> None:
    for budget, allowed in (("10TB", True), ("1GB", False)):
        made = plan(NEW_CLAIM, bytes_budget=budget)
        if allowed:
            check_budget(made, estimate(made))
        else:
            with pytest.raises(UsageError, match=r"plan.bytes_budget: the run reads up to \d+"):
                check_budget(made, estimate(made))
