"""What is approved, what is not, and the reason that is given."""

from __future__ import annotations

from datetime import timedelta

import pytest
from made_evidence import (
    FIRST,
    GOOD,
    NOW,
    UNET,
    approved,
    codes,
    decided,
    given,
    guards,
    requirements,
    run,
    three_occasions,
)

from bench.errors import ResultsError
from bench.policy.decide import EXIT_CODES, decide, overall, unused
from bench.results.document import seal

BAD = (0.031, 0.034, 0.029, 0.032, 0.030)
WIDE = (0.001, 0.035, 0.004, 0.030, 0.012)


def test_three_good_occasions_on_two_days_are_approved() -> None:
    # a guard that no repeat has measured would make it provisional
    runs = three_occasions()
    cell = decided(runs)
    assert (cell.verdict, cell.reasons, cell.provisional_because) == ("approved", [], [])
    assert len(cell.occasions) == 3
    assert cell.days == ["2026-09-24", "2026-09-25"]
    assert cell.nodes == ["node-a"]
    assert cell.storage_class == "fast"
    assert cell.valid_until == "2026-12-31T12:00:00+00:00"  # 91 days
    assert {reference.id for reference in cell.runs} == {r.id for r in runs}
    assert "emulated" in codes(cell.conditions)


def test_one_occasion_is_provisional() -> None:
    cell = decided([run()])
    assert cell.verdict == "provisional"
    assert codes(cell.provisional_because) == ["few_occasions"]
    assert "1 occasion on 1 day; 3 on 2 are wanted" in cell.provisional_because[0].text


def test_three_occasions_on_one_day_are_provisional() -> None:
    starts = [FIRST - timedelta(hours=9) + timedelta(hours=7 * n) for n in range(3)]
    runs = [
        run([s * (1 + n / 50) for s in GOOD], number=n, start=s) for n, s in enumerate(starts, 1)
    ]
    cell = decided(runs)
    assert len(cell.occasions) == 3
    assert codes(cell.provisional_because) == ["few_occasions"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"repeat_changes": {"duration_seconds": 299.0}}, "brief"),
        ({"tool": run().tool.model_copy(update={"image_digest": None})}, "image"),
    ],
)
def test_what_makes_an_approval_provisional(changes: dict, code: str) -> None:
    cell = decided(three_occasions(**changes))
    assert cell.verdict == "provisional"
    assert code in codes(cell.provisional_because)


def test_a_guard_that_was_not_measured_makes_it_provisional() -> None:
    first = run().repeats[0]
    unknown = {"guards": guards(first, stationarity="not measured")}
    cell = decided(three_occasions(repeat_changes=unknown))
    assert cell.verdict == "provisional"
    assert "stationarity" in cell.provisional_because[0].text


def test_old_measurements_make_it_provisional() -> None:
    cell = decided(three_occasions(), now=NOW + timedelta(days=100))
    assert codes(cell.provisional_because) == ["old"]


def test_a_copied_run_is_noticed() -> None:
    first, second, third = three_occasions()
    copied = [r.model_copy(update={"started_at": third.repeats[0].started_at})
              for r in second.repeats]  # fmt: skip
    copy = seal(third.model_copy(update={"repeats": copied}))
    assert "same_figures" in codes(decided([first, second, copy]).provisional_because)


def test_stall_beyond_the_limit_is_not_met() -> None:
    cell = decided(three_occasions(BAD))
    assert cell.verdict == "not met"
    assert cell.valid_until is None
    assert "95 % sure of at least" in cell.reasons[0].text


def test_one_repeat_beyond_the_worst_case_is_not_met() -> None:
    cell = decided([run([*GOOD, *GOOD, 0.051])])
    assert cell.verdict == "not met"
    assert codes(cell.reasons) == ["worst_case"]


def test_an_interval_around_the_limit_is_inconclusive_and_says_how_many_more() -> None:
    cell = decided([run(WIDE)])
    assert cell.verdict == "inconclusive"
    (limit,) = [c for c in cell.criteria if c.name == "max_stall_ratio"]
    assert limit.more_needed is not None
    assert f"about {limit.more_needed} more repeats" in cell.reasons[0].text


def with_repeat(runs: list, index: int = 0, **changes: object) -> list:
    first, *rest = runs
    repeats = list(first.repeats)
    repeats[index] = repeats[index].model_copy(update=changes)
    return [seal(first.model_copy(update={"repeats": repeats})), *rest]


def cache(verdict: str) -> dict:
    first = run().repeats[0]
    assert first.cache is not None
    return {"cache": first.cache.model_copy(update={"verdict": verdict})}


def guard(**states: str) -> dict:
    return {"guards": guards(run().repeats[0], **states)}


def with_plan(**changes: object) -> dict:
    return {"plan": run().plan | changes}


REFUSED = {
    "exploratory": lambda: three_occasions(division="exploratory"),
    "incomplete": lambda: three_occasions(status="interrupted"),
    "warm_cache": lambda: with_repeat(three_occasions(), **cache("warm")),
    "unknown_cache": lambda: with_repeat(three_occasions(), **cache("unknown")),
    "mixed_cache": lambda: with_repeat(three_occasions(), **cache("cold-requested")),
    "short": lambda: with_repeat(three_occasions(), **guard(short="warn")),
    "few_repeats": lambda: [run(GOOD[:4])],
    "unlike": lambda: [
        *three_occasions()[1:],
        run(fingerprint={"workload": {"name": "x"}, "hash": "0" * 64}),
    ],
    "no_fingerprint": lambda: [run(fingerprint={})],
    "several_scales": lambda: [*three_occasions()[1:], run(**with_plan(gpus_per_node=8))],
    "several_classes": lambda: [*three_occasions()[1:], run(storage_class="slow")],
    "changed_workload": lambda: [run(workload=run().workload | {"batch_size": 1})],
    "simulated": lambda: [run(storage={"name": "shared-fs", "simulated": {}})],
    "unknown_device": lambda: [run(**with_plan(device="unknown"))],
    "noise": lambda: with_repeat(
        three_occasions(),
        stall=run().repeats[0].stall.model_copy(update={"noise_ratio": 0.006}),
    ),
    "future": lambda: [run(start=NOW + timedelta(days=1))],
}


@pytest.mark.parametrize("code", REFUSED)
def test_runs_that_cannot_carry_a_decision_are_refused_by_name(code: str) -> None:
    cell = decided(REFUSED[code]())
    assert cell.verdict == "refused"
    assert code in codes(cell.reasons)
    assert cell.valid_until is None
    assert cell.sentence.startswith("not approved, the runs cannot carry a decision")
    assert {criterion.verdict for criterion in cell.criteria} <= {"not decided", "not measured"}


def test_a_step_time_other_than_the_declared_one_is_refused() -> None:
    cell = decided([run(**with_plan(step_seconds=3.23))])
    assert "step_seconds" in cell.reasons[0].text


def test_more_samples_than_declared_are_the_same_workload() -> None:
    spec = run().workload
    more = spec | {"dataset": spec["dataset"] | {"samples": spec["dataset"]["samples"] + 168}}
    assert decided([run(workload=more)]).verdict == "provisional"
    less = spec | {"dataset": spec["dataset"] | {"samples": 1}}
    assert codes(decided([run(workload=less)]).reasons) == ["changed_workload"]


def test_a_workload_that_the_approver_does_not_have_is_refused() -> None:
    assert codes(decided([run()], workloads={}).reasons) == ["unknown_workload"]


def test_a_named_guard_must_pass_and_not_measured_is_no_pass() -> None:
    wanted = requirements(guards=["stationarity", "canary"])
    assert codes(decided([run()], wanted).reasons) == ["guard"]
    both = run(repeat_changes=guard(canary="pass"))
    assert decided([both], wanted).verdict == "provisional"
    warned = run(repeat_changes=guard(canary="warn"))
    assert decided([warned], wanted).verdict == "refused"


def test_a_limit_without_figures_is_refused() -> None:
    unthrottled = run(
        [None] * 5, **with_plan(accelerator="none", step_seconds=None, device={"kind": "emulated"})
    )
    wanted = requirements({"accelerator": "none", "max_stall_ratio": 0.02})
    cell = decided([unthrottled], wanted)
    assert cell.verdict == "refused"
    assert codes(cell.reasons) == ["not_measured"]
    rate = requirements({"accelerator": "none", "min_throughput": 2e9})
    assert decided([unthrottled], rate).verdict == "provisional"


def test_a_failed_guard_makes_it_invalid() -> None:
    cell = decided(with_repeat(three_occasions(), **guard(errors="fail")))
    assert cell.verdict == "invalid"
    assert "guard errors failed in repeat 0 of run" in cell.reasons[0].text


def test_a_repeat_that_was_marked_invalid_makes_it_invalid() -> None:
    cell = decided(with_repeat(three_occasions(), status="invalid", problem="made up"))
    assert cell.verdict == "invalid"
    assert cell.reasons[0].text.endswith("made up")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_impossible_figures_make_it_invalid_and_reach_no_interval(value: float) -> None:
    first = run()
    speed = first.repeats[0].throughput.model_copy(update={"bytes_per_second": value})
    repeats = [first.repeats[0].model_copy(update={"throughput": speed}), *first.repeats[1:]]
    cell = decided([first.model_copy(update={"repeats": repeats})])
    assert (cell.verdict, cell.criteria, cell.stall) == ("invalid", [], None)
    assert f"is {value}" in cell.reasons[0].text


def test_without_runs_nothing_is_approved() -> None:
    cell = decided([])
    assert (cell.verdict, codes(cell.reasons)) == ("not measured", ["no_runs"])
    other = decided([run()], requirements({"target": "other", "max_stall_ratio": 0.5}))
    assert other.verdict == "not measured"


def test_runs_nobody_asks_for_are_listed() -> None:
    wanted = requirements({"target": "other", "max_stall_ratio": 0.5})
    (note,) = approved([run()], wanted).unused_runs
    assert note.code == run().id
    assert "unet3d on shared-fs with h100, 1 x 1" in note.text


def test_the_scale_picks_runs_where_the_requirement_names_it() -> None:
    runs = [*three_occasions(), run(BAD, number=9, **with_plan(gpus_per_node=8))]
    wanted = requirements(
        {"nodes": 1, "gpus_per_node": 1, "max_stall_ratio": 0.02},
        {"nodes": 1, "gpus_per_node": 8, "max_stall_ratio": 0.02},
    )
    approval = approved(runs, wanted)
    assert [cell.verdict for cell in approval.cells] == ["approved", "not met"]
    assert approval.exit_code == 1


def test_a_run_that_is_given_twice_counts_once() -> None:
    assert decided([run(), run()]).criteria[0].n == 5


def test_two_documents_of_one_id_are_refused() -> None:
    with pytest.raises(ResultsError, match="has the id of another run"):
        decide(
            requirements(),
            given([run(), run(BAD)]),
            workloads={"unet3d": UNET},
            now=NOW,
        )


def test_order_does_not_matter() -> None:
    runs = three_occasions()
    assert decided(runs) == decided(runs[::-1])


def test_unused_is_empty_where_every_run_counts() -> None:
    assert unused(requirements(), given(three_occasions())) == []


class TestExitCodes:
    def test_each_verdict_has_the_code_of_the_design(self) -> None:
        assert {v: EXIT_CODES[v] for v in ("approved", "provisional", "not met", "invalid")} == {
            "approved": 0, "provisional": 0, "not met": 1, "invalid": 4,
        }  # fmt: skip
        assert {EXIT_CODES[v] for v in ("refused", "inconclusive", "not measured")} == {3}

    def test_of_several_cells_1_comes_before_4_before_3_before_0(self) -> None:
        cell = decided([run()])
        cells = {v: cell.model_copy(update={"verdict": v}) for v in EXIT_CODES}
        ranked = ["approved", "refused", "invalid", "not met"]
        for worse in range(1, 4):
            found = overall([cells[v] for v in ranked[: worse + 1]])
            assert found == ranked[worse]


class TestConditions:
    def test_caches_that_could_have_held_the_data_are_named(self) -> None:
        tier = {"name": "OSS read cache", "capacity_bytes": 2**39}
        cell = decided(three_occasions(storage=run().storage | {"cache_tiers": [tier]}))
        (note,) = [note for note in cell.conditions if note.code == "unproven_tiers"]
        assert "OSS read cache of 550 GB, for a data set of 1.10 TB" in note.text
        assert cell.verdict == "approved"  # approvable, with the tiers named

    def test_servers_that_declare_no_caches_are_named_and_small_caches_are_not(self) -> None:
        none = decided(three_occasions(storage=run().storage | {"cache_tiers": []}))
        assert "of which the target declares none" in none.conditions[-1].text
        assert "unproven_tiers" not in codes(decided(three_occasions()).conditions)

    def test_a_clients_cache_that_is_only_asked_to_be_cold_is_named(self) -> None:
        first = run().repeats[0].cache
        tiers = [first.tiers[0].model_copy(update={"state": "cold-requested"})]
        changed = first.model_copy(update={"verdict": "cold-requested", "tiers": tiers})
        cell = decided(three_occasions(repeat_changes={"cache": changed}))
        assert cell.verdict == "approved"
        assert "client page cache (cold-requested)" in cell.conditions[-1].text

    def test_warnings_of_guards_are_passed_on(self) -> None:
        cell = decided(with_repeat(three_occasions(), **guard(memory_headroom="warn")))
        assert cell.verdict == "approved"
        assert "guard memory_headroom warns in 1 of 15 repeats" in cell.conditions[-1].text

    def test_paced_copies_are_said(self) -> None:
        device = {"kind": "emulated", "name": "h100", "copy": "none"}
        cell = decided(three_occasions(**with_plan(device=device)))
        assert codes(cell.conditions)[:2] == ["emulated", "no_copies"]

    def test_a_real_gpu_is_not_called_emulated(self) -> None:
        cell = decided(three_occasions(**with_plan(device={"kind": "cuda", "name": "H100"})))
        assert cell.device == "cuda"
        assert "emulated" not in codes(cell.conditions)
        assert "emulated" not in cell.sentence
