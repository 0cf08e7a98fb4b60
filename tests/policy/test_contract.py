"""The platform contract, and what of it a policy may allow."""

from __future__ import annotations

from datetime import timedelta

from made_evidence import GOOD, NOW, approved, requirements, run, three_occasions

from bench.policy.contract import contract, enforceable

BAD = tuple(3 * value for value in GOOD)
LATER = "2026-12-31T12:00:00Z"


def test_an_approved_class_is_listed_with_its_scale_and_end() -> None:
    approval = approved(three_occasions())
    (row,) = contract([approval])
    assert (row.workload, row.storage_class, row.state) == ("unet3d", "fast", "approved")
    assert row.scales == ("1 x 1 x h100 (emulated)",)
    assert row.approvals == (approval.id,)
    assert enforceable([row], now=NOW, provisional=False) == {"unet3d": {"fast": LATER}}


def test_a_class_that_is_not_approved_is_not_listed() -> None:
    assert contract([approved(three_occasions(BAD))]) == []


def test_a_target_without_a_class_cannot_be_enforced() -> None:
    approval = approved(three_occasions(storage_class=None))
    assert approval.cells[0].verdict == "approved"
    assert contract([approval]) == []


def test_a_provisional_class_is_enforced_only_on_request() -> None:
    rows = contract([approved([run()])])
    assert rows[0].state == "provisional"
    assert enforceable(rows, now=NOW, provisional=False) == {}
    assert enforceable(rows, now=NOW, provisional=True) == {"unet3d": {"fast": LATER}}


def test_the_newest_decision_counts_whichever_way_it_went() -> None:
    good = approved(three_occasions())
    bad = approved(three_occasions(BAD), now=NOW + timedelta(days=1))
    again = approved(three_occasions(), now=NOW + timedelta(days=2))
    assert contract([good, bad]) == contract([bad, good]) == []
    (row,) = contract([again, bad, good])
    assert row.approvals == (again.id,)


def test_a_class_that_fails_on_another_scale_is_mixed_and_never_enforced() -> None:
    eight = {"plan": run().plan | {"gpus_per_node": 8}}
    runs = [*three_occasions(), *three_occasions(BAD, **eight)]
    # ids of both sets would be the same instant: give the second other ones
    runs = [r.model_copy(update={"id": r.id[:-2] + f"{n:02d}"}) for n, r in enumerate(runs)]
    wanted = requirements(
        {"gpus_per_node": 1, "max_stall_ratio": 0.02}, {"gpus_per_node": 8, "max_stall_ratio": 0.02}
    )
    (row,) = contract([approved(runs, wanted)])
    assert row.state == "mixed"
    assert enforceable([row], now=None, provisional=True) == {}


def test_what_has_ended_is_left_out_where_a_time_is_given() -> None:
    rows = contract([approved(three_occasions())])
    after = NOW + timedelta(days=91, seconds=1)
    assert enforceable(rows, now=after, provisional=True) == {}
    assert enforceable(rows, now=None, provisional=True) != {}
