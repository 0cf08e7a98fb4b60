"""Two sides of made-up runs: pairing of cells, verdicts, refusals, and every kind of bad input."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import FIRST, compared, drawn, gathered, made, parameters, template

from bench.analysis.comparison.cells import suggested
from bench.analysis.comparison.document import Comparison
from bench.analysis.comparison.seal import comparison_text, parse_comparison, recompute
from bench.errors import BenchError
from bench.results.document import document_text, parse_document, seal

DAY = timedelta(days=1)


def side(mean: float = 1.9e9, *, number: int = 1, cv: float = 0.01, n: int = 5, **more):
    rates, stalls = drawn(mean, cv=cv, n=n, seed=number)
    return made(rates, stalls=stalls, number=number, start=FIRST + number * DAY, **more)


def only(comparison: Comparison):
    (cell,) = comparison.cells
    return cell


def codes(notes) -> set[str]:
    return {note.code for note in notes}


def test_a_loss_beyond_the_margin_is_regressed_and_its_mirror_improved() -> None:
    slower = only(compared(side(), side(1.7e9, number=2)))
    assert (slower.state, slower.verdict) == ("compared", "regressed")
    throughput, stall = slower.metrics[:2]
    assert throughput.effect == pytest.approx(-0.105, abs=0.02)
    assert throughput.low < throughput.effect < throughput.high < 0
    assert stall.effect > 0.02
    assert (throughput.baseline.n, throughput.candidate.n) == (5, 5)
    assert only(compared(side(1.7e9, number=2), side())).verdict == "improved"


def test_no_change_is_equivalent_and_noise_is_inconclusive_with_what_it_would_take() -> None:
    assert only(compared(side(), side(number=2))).verdict == "equivalent"
    noisy = only(compared(side(cv=0.1), side(number=2, cv=0.1)))
    assert noisy.verdict == "inconclusive"
    metric = noisy.metrics[0]
    assert metric.repeats_needed > 5
    assert f"{metric.repeats_needed - 5} more repeats" in noisy.reasons[0].text


def test_every_figure_can_be_worked_out_from_the_values_in_the_document() -> None:
    cell = only(compared(side(), side(1.7e9, number=2)))
    values = [one.values["throughput_bytes_per_second"] for one in (cell.baseline, cell.candidate)]
    means = [math.fsum(map(math.log, some)) / len(some) for some in values]
    assert cell.metrics[0].effect == pytest.approx(math.expm1(means[1] - means[0]))
    stalls = [one.values["stall_ratio"] for one in (cell.baseline, cell.candidate)]
    assert cell.metrics[1].effect == pytest.approx(sum(stalls[1]) / 5 - sum(stalls[0]) / 5)


def test_the_approval_rule_is_stricter() -> None:
    ci, approval = (
        only(compared(side(), side(1.79e9, number=2), rule=rule)).metrics[0]
        for rule in ("ci", "approval")
    )
    assert (ci.low, ci.high) == (approval.low, approval.high)
    assert ci.low < ci.margin < ci.high < 0  # real, and perhaps smaller than the margin
    assert (ci.verdict, approval.verdict) == ("regressed", "inconclusive")
    assert ci.p_worse < 0.05 < approval.p_worse


def test_missing_and_extra_cells_are_rows() -> None:
    left = gathered(side(), side(number=3, workload="resnet50"))
    right = gathered(side(number=2), side(number=4, workload="cosmoflow"))
    comparison = compared(left, right)
    states = {cell.key.workload: (cell.state, cell.verdict) for cell in comparison.cells}
    assert states == {
        "unet3d": ("compared", "equivalent"),
        "resnet50": ("missing", "inconclusive"),
        "cosmoflow": ("extra", "inconclusive"),
    }
    assert comparison.overall.verdict == "inconclusive"


def test_one_regressed_cell_decides_over_all_others() -> None:
    left = gathered(side(), side(number=3, workload="resnet50"))
    right = gathered(side(number=2), side(1.6e9, number=4, workload="resnet50"))
    comparison = compared(left, right)
    assert comparison.overall.verdict == "regressed"
    assert comparison.cells[0].key.workload == "resnet50"  # worst first
    assert comparison.overall.counts == {"regressed": 1, "equivalent": 1}


def test_p_values_are_adjusted_over_the_cells() -> None:
    names = [f"cell-{i}" for i in range(6)]
    left = gathered(*(side(number=i, workload=w) for i, w in enumerate(names, 1)))
    right = gathered(*(side(number=50 + i, workload=w) for i, w in enumerate(names, 1)))
    metrics = [cell.metrics[0] for cell in compared(left, right).cells]
    assert all(m.p_worse_holm >= m.p_worse for m in metrics)
    least = min(metrics, key=lambda m: m.p_worse)
    assert least.p_worse_holm >= min(1.0, 6 * least.p_worse)  # the larger p of two figures


@pytest.mark.parametrize(
    ("across", "path"),
    [
        ("kernel", "kernel__release"),
        ("loader", "loader__threads"),
        ("image", "tool__image_digest"),
        ("node", "node__num_cpus"),
        ("device", "device__name"),
        ("csi", "storage__facts__csi_drivers__images"),
        ("storage", "storage__facts__file_system"),
    ],
)
def test_what_differs_is_refused_until_it_is_named(across: str, path: str) -> None:
    other = side(number=2, print_changes={path: "another"})
    refused = only(compared(side(), other))
    assert (refused.state, refused.verdict) == ("refused", "refused")
    assert codes(refused.reasons) == {"mismatch"}
    assert path.replace("__", ".").removesuffix(".images") in refused.reasons[0].text
    assert suggested(refused.differences) == [across]
    named = only(compared(side(), other, across=[across]))
    assert named.verdict == "equivalent"
    assert [d.across for d in named.differences] == [across]
    wrong = "kernel" if across != "kernel" else "node"
    assert only(compared(side(), other, across=[wrong])).state == "refused"


def test_two_storage_targets_are_one_cell_across_storage() -> None:
    cell = only(compared(side(), side(1.7e9, number=2, target="nfs"), across=["storage"]))
    assert cell.verdict == "regressed"
    assert cell.label == "unet3d on nfs against ceph-a, h100"


def test_a_driver_of_another_name_is_csi_and_nothing_else() -> None:
    """Names of drivers hold dots; a path with them is still one key."""
    before = {"storage__facts__csi_drivers": {"rbd.csi.ceph.com": {"images": ["v1"]}}}
    after = {"storage__facts__csi_drivers": {"rbd.csi.ceph.com": {"images": ["v2"]}}}
    cell = only(
        compared(side(print_changes=before), side(number=2, print_changes=after), across=["csi"])
    )
    assert cell.verdict == "equivalent"


def test_a_mismatch_can_be_allowed_and_is_named_then() -> None:
    other = side(number=2, print_changes={"kernel__release": "another"})
    cell = only(compared(side(), other, allow_mismatch=True))
    assert cell.state == "compared"
    assert "mismatch" in codes(cell.notes)


def test_across_what_does_not_differ_says_so() -> None:
    cell = only(compared(side(), side(number=2), across=["kernel"]))
    assert "same" in codes(cell.notes)


# Bad input


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"accelerator": "a100"}, "mismatch"),
        ({"division": "exploratory"}, "division"),
        ({"fingerprint": {}}, "no_fingerprint"),
        (
            {
                "repeat_changes": {
                    "cache": template().repeats[0].cache.model_copy(update={"verdict": "warm"})
                }
            },
            "cache",
        ),
    ],
)
def test_unlike_sides_are_refused(changes: dict, code: str) -> None:
    cell = only(compared(side(), side(number=2, **changes)))
    assert cell.verdict == "refused"
    assert code in codes(cell.reasons)
    assert cell.metrics == []


def test_a_side_of_two_kinds_of_runs_is_refused() -> None:
    mixed = gathered(side(), side(number=3, print_changes={"kernel__release": "another"}))
    cell = only(compared(mixed, side(number=2)))
    assert "mixed_side" in codes(cell.reasons)
    across = only(compared(mixed, side(number=2), across=["kernel"]))
    assert "mixed_side" in codes(across.reasons)  # what differs has to differ between the sides


def test_a_run_on_both_sides_is_refused_whatever_is_allowed() -> None:
    run = side()
    assert codes(only(compared(run, run, allow_mismatch=True)).reasons) == {"same_run"}


def test_one_run_of_one_repeat_decides_nothing() -> None:
    cell = only(compared(side(), side(1.0e9, number=2, n=1)))
    assert cell.verdict == "inconclusive"
    assert "too few repeats: 1 of the candidate" in cell.reasons[0].text
    assert cell.metrics[0].low is None


def test_zero_variance_is_no_certainty() -> None:
    flat = {"stalls": [0.3] * 5}
    cell = only(compared(made([1e9] * 5, **flat), made([0.9e9] * 5, number=2, **flat)))
    assert cell.verdict == "inconclusive"
    assert "equal to the last digit" in cell.reasons[0].text
    assert cell.metrics[0].p_worse is None


def test_no_stall_at_all_on_both_sides_is_no_change() -> None:
    rates = drawn(1e9, cv=0.01)[0], drawn(1e9, cv=0.01, seed=2)[0]
    cell = only(compared(*(made(r, stalls=[0.0] * 5, number=i) for i, r in enumerate(rates))))
    assert cell.metrics[1].verdict == "equivalent"
    assert cell.verdict == "equivalent"


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_an_impossible_throughput_is_invalid(value: float) -> None:
    rates = [*drawn(1e9)[0][:4], value]
    cell = only(compared(side(), made(rates, stalls=[0.3] * 5, number=2)))
    assert (cell.state, cell.verdict) == ("invalid", "invalid")
    assert "impossible" in codes(cell.reasons)


def test_figures_in_other_units_are_invalid() -> None:
    """Megabytes per second: bytes over time say otherwise."""
    run = side(number=2)
    speed = run.repeats[0].throughput.model_copy(update={"bytes_per_second": 1900.0})
    repeats = [r.model_copy(update={"throughput": speed}) for r in run.repeats]
    cell = only(compared(side(), run.model_copy(update={"repeats": repeats})))
    assert codes(cell.reasons) == {"units"}


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_repeats_that_did_not_end_well_do_not_count_and_that_is_said(status: str) -> None:
    run = side(1.2e9, number=2, statuses=["ok"] * 4 + [status], status=status)
    cell = only(compared(side(1.2e9, number=3), run))
    assert cell.candidate.n == 4
    assert f"1 of 5 repeats do not count (1 {status})" in next(
        note.text for note in cell.notes if note.code == "dropped"
    )
    assert cell.verdict != "invalid"
    strict = only(compared(side(1.2e9, number=3), run, rule="approval"))
    assert codes(strict.reasons) == {"incomplete"}


def test_a_failed_guard_makes_the_cell_invalid() -> None:
    run = side(number=2, statuses=["ok"] * 4 + ["invalid"], status="invalid")
    cell = only(compared(side(), run))
    assert cell.verdict == "invalid"
    assert "made-up reason for invalid" in cell.reasons[0].text


def test_a_run_without_any_repeat_that_counts_is_invalid_and_never_a_pass() -> None:
    run = side(number=2, statuses=["failed"] * 5, status="failed")
    cell = only(compared(side(), run))
    assert cell.verdict == "invalid"
    assert "nothing_measured" in codes(cell.reasons)


def test_an_estimator_as_noisy_as_the_margin_decides_nothing_on_stall() -> None:
    run = side(number=2)
    repeats = [
        r.model_copy(update={"stall": r.stall.model_copy(update={"noise_ratio": 0.01})})
        for r in run.repeats
    ]
    noisy = run.model_copy(update={"repeats": repeats})
    found = only(compared(side(), noisy)).metrics[1]
    assert found.verdict == "inconclusive"
    assert "where there is none" in found.reason


def test_a_thousand_runs_against_one() -> None:
    rates = drawn(1.9e9, cv=0.02, n=1000)[0]
    many = gathered(
        *(
            made([rate], stalls=[0.3], number=i, start=FIRST + i * DAY)
            for i, rate in enumerate(rates)
        )
    )
    cell = only(compared(many, side(number=2000, n=1)))
    assert (cell.baseline.n, cell.candidate.n) == (1000, 1)
    assert cell.verdict == "inconclusive"


def test_a_document_of_another_version_or_with_nan_or_edited_is_refused() -> None:
    text = document_text(seal(side()))
    for old, new, words in (
        ('"schema_version": 1', '"schema_version": 2', "schema version 2"),
        ('"duration_seconds": 400.0', '"duration_seconds": NaN', "holds NaN"),
        ('"duration_seconds": 400.0', '"duration_seconds": 401.0', "does not match its checksum"),
    ):
        assert old in text
        with pytest.raises(BenchError, match=words):
            parse_document(text.replace(old, new, 1).encode(), place="run.json")
    with pytest.raises(BenchError, match="cut off"):
        parse_document(text[:500].encode(), place="run.json")


# Pairs


def in_turns(order: str, *, node: str = "node-a", change: float = 0.95):
    """Return two sides of single repeats measured in this order, on a drifting storage."""
    sides: dict[str, list] = {"A": [], "B": []}
    for i, who in enumerate(order):
        drift = 1.0 + 0.3 * math.sin(i / 3)
        jitter = 1.0 + 0.004 * ((i * 7) % 5 - 2)
        rate = 1.9e9 * drift * jitter * (change if who == "B" else 1.0)
        run = made(
            [rate], stalls=[1 - rate / 3e9], number=i + 1, start=FIRST + i * timedelta(hours=1)
        )
        if node != "node-a" and who == "B":
            ranks = [rank.model_copy(update={"node": node}) for rank in run.repeats[0].ranks]
            repeats = [run.repeats[0].model_copy(update={"ranks": ranks})]
            run = run.model_copy(update={"repeats": repeats})
        sides[who].append(run)
    return gathered(*sides["A"]), gathered(*sides["B"])


@pytest.mark.parametrize(
    ("order", "node", "method"),
    [
        ("ABBAABBA", "node-a", "paired"),
        ("ABABABAB", "node-a", "paired"),
        ("AAAABBBB", "node-a", "welch"),
        ("ABBAABBA", "node-b", "welch"),
    ],
)
def test_sides_measured_in_turns_on_the_same_nodes_are_paired(
    order: str, node: str, method: str
) -> None:
    cell = only(compared(*in_turns(order, node=node)))
    assert cell.metrics[0].method == method
    assert ("not_in_turns" in codes(cell.notes)) == (method == "welch")


def test_pairs_can_be_forbidden() -> None:
    sides = in_turns("ABBAABBA")
    assert only(compared(*sides, pairing="never")).metrics[0].method == "welch"


# Properties


@given(factor=st.floats(1e-3, 1e3), seed=st.integers(1, 1000))
@settings(max_examples=15, deadline=None)
def test_the_unit_of_rates_changes_nothing(factor: float, seed: int) -> None:
    def cells(scale: float):
        pair = [drawn(1.9e9 * f, cv=0.03, seed=seed + i)[0] for i, f in enumerate((1, 0.93))]
        return only(
            compared(*(made([scale * r for r in rates], number=i) for i, rates in enumerate(pair)))
        )

    plain, scaled = cells(1.0).metrics[0], cells(factor).metrics[0]
    assert plain.verdict == scaled.verdict
    assert plain.effect == pytest.approx(scaled.effect, rel=1e-6)
    assert plain.p_worse == pytest.approx(scaled.p_worse, rel=1e-5)


@given(order=st.permutations(range(5)), runs=st.permutations(range(3)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_repeats_and_of_runs_changes_nothing(order, runs) -> None:
    rates, stalls = drawn(1.8e9, cv=0.03, seed=9)
    many = [side(number=i) for i in range(1, 4)]
    shuffled = made([rates[i] for i in order], stalls=[stalls[i] for i in order], number=20)
    plain = made(rates, stalls=stalls, number=20)
    one = only(compared(gathered(*many), plain)).metrics[0]
    two = only(compared(gathered(*(many[i] for i in runs)), shuffled)).metrics[0]
    assert (one.effect, one.p_worse) == pytest.approx((two.effect, two.p_worse))


def test_swapping_the_sides_mirrors_the_comparison() -> None:
    one = only(compared(side(), side(1.8e9, number=2))).metrics
    two = only(compared(side(1.8e9, number=2), side())).metrics
    assert one[0].p_worse == pytest.approx(two[0].p_better)
    assert (1 + one[0].effect) * (1 + two[0].effect) == pytest.approx(1)
    assert one[1].effect == pytest.approx(-two[1].effect)


# The document


def test_the_same_runs_give_the_same_document() -> None:
    first, second = (comparison_text(compared(side(), side(number=2))) for _ in range(2))
    assert first == second


def test_the_document_is_verified_and_worked_out_anew() -> None:
    left, right = gathered(side()), gathered(side(1.7e9, number=2))
    text = comparison_text(compared(left, right))
    stored = parse_comparison(text.encode(), place="comparison.json")
    runs = {found.run.id: found for found in (*left.runs, *right.runs)}
    assert recompute(stored, runs) == stored
    with pytest.raises(BenchError, match="is not at hand"):
        recompute(stored, {})
    edited = text.replace('"regressed"', '"equivalent"', 1)
    with pytest.raises(BenchError, match="does not match its checksum"):
        parse_comparison(edited.encode(), place="comparison.json")
    with pytest.raises(BenchError, match="is no comparison"):
        parse_comparison(b"{}", place="comparison.json")


def test_an_unknown_rule_is_no_parameter() -> None:
    with pytest.raises(ValueError, match="rule"):
        parameters(rule="hope")
