"""Names and labels: short, derived from the run's id, the same for whoever looks later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_plans import (
    EPHEMERAL,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    RUN_ID,
    SIMULATED,
    plan,
    settings,
)

from bench.launch.kubernetes.manifests import ExistingClaim, build
from bench.launch.kubernetes.names import (
    DRY_RUN_ID,
    LABEL_VALUE,
    Names,
    cell_id,
    label_value,
    lease_name,
)


def test_names_of_a_run() -> None:
    names = Names(RUN_ID)
    assert names.prepare == f"bench-{RUN_ID}-prepare"
    assert names.measure(0) == f"bench-{RUN_ID}-m0"
    assert names.measure(3, attempt=2) == f"bench-{RUN_ID}-m3-a2"
    assert names.coordinator(1) == f"bench-{RUN_ID}-m1-0.bench-{RUN_ID}:7461"
    assert len(names.measure(999, attempt=99)) <= 52
    assert Names(DRY_RUN_ID).base == "bench-" + "0" * 26


@pytest.mark.parametrize("text", ["", "x", RUN_ID.upper(), RUN_ID + "0", "../" + RUN_ID[3:]])
def test_what_is_no_id_makes_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="is no run id"):
        Names(text)


@given(st.text(min_size=1, max_size=300))
def test_any_text_becomes_a_label_value(text: str) -> None:
    value = label_value(text)
    assert LABEL_VALUE.fullmatch(value)
    assert label_value(value) == value


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_different_texts_that_are_cut_stay_different(one: str, other: str) -> None:
    if one != other and label_value(one) != one and label_value(other) != other:
        assert label_value(one) != label_value(other)


def test_a_cell_is_what_is_measured_not_when_and_how_often() -> None:
    cell = cell_id(plan(NEW_CLAIM))
    assert len(cell) == 12
    same = plan(NEW_CLAIM, run_id=DRY_RUN_ID, repeats=7, seed=9)
    unmade = same.model_copy(
        update={"dataset": same.dataset.model_copy(update={"manifest_digest": ""})}
    )
    assert cell_id(same) == cell_id(unmade) == cell
    for other in (plan(NEW_CLAIM, nodes=2), plan(LOCAL_CLAIM), plan(NEW_CLAIM, workload="smoke")):
        assert cell_id(other) != cell


def lease(storage, *, namespace="a", storage_class=None, **given) -> str | None:
    return lease_name(
        plan(storage, **given).storage, namespace=namespace, storage_class=storage_class
    )


def test_a_lease_is_that_of_the_class_wherever_it_is_known() -> None:
    one = lease(NEW_CLAIM, storage_class="lustre-fast")
    assert one is not None
    assert one.startswith("bench-class-lustre-fast-")
    assert lease(OLD_CLAIM, namespace="b", storage_class="lustre-fast") == one
    assert lease(NEW_CLAIM, storage_class="other") != one
    assert lease(OLD_CLAIM) != lease(OLD_CLAIM, namespace="b")
    assert lease(OBJECT) == lease(OBJECT, namespace="b")
    assert lease(SIMULATED) is None
    long = lease(EPHEMERAL, storage_class="x" * 253)
    assert long is not None
    assert len(long) <= 52


@pytest.mark.parametrize(
    ("storage", "found", "label"),
    [
        (NEW_CLAIM, None, "lustre-fast"),
        (EPHEMERAL, None, "local-nvme"),
        (OLD_CLAIM, ExistingClaim("gpfs", ("ReadWriteMany",)), "gpfs"),
        (OLD_CLAIM, None, "unknown"),
        (OBJECT, None, "none"),
        (SIMULATED, None, "none"),
    ],
)
def test_the_class_is_a_label(storage, found: ExistingClaim | None, label: str) -> None:
    made = build(plan(storage), cluster=settings(), existing=found)
    assert made.anchor.metadata is not None
    assert made.anchor.metadata.labels["bench/storage-class"] == label
    annotated = made.anchor.metadata.annotations.get("bench/storage-class")
    assert annotated == (label if label not in ("none", "unknown") else None)
