"""What stall costs, and what is not known about it."""

from __future__ import annotations

import pytest
from made_evidence import approved, run

from bench.errors import UsageError
from bench.policy.cost import Usage, cost, parse_usage

HEADER = "namespace,storage_class,workload,gpu_hours_per_week\n"


def cells(**changes: object) -> list:
    return approved([run((0.09, 0.11, 0.10, 0.095, 0.105), **changes)]).cells


def test_the_managers_sentence_multiplies_hours_stall_and_rate() -> None:
    found = cost(cells(), gpus=64, rate=2.5, currency="EUR")
    (row,) = found["rows"]
    assert row["wasted_hours"] == pytest.approx(64 * 168 * 0.10)
    assert row["cost"] == pytest.approx(64 * 168 * 0.10 * 2.5)
    assert found["sentences"][0].startswith(
        "at 64 GPUs that train unet3d around the clock, fast wastes 1,075 GPU-hours a week (90 %: "
    )
    assert found["sentences"][0].endswith("10.0 % of 10,752, 2688 EUR at 2.5 EUR an hour")


def test_each_namespace_has_a_row() -> None:
    usage = parse_usage(f"{HEADER}team-a,fast,unet3d,1000\nteam-b,fast,unet3d,10\n", place="u.csv")
    found = cost(cells(), gpus=8, rate=None, currency="EUR", usage=usage)
    assert [row["wasted_hours"] for row in found["rows"][1:]] == pytest.approx([100, 1])
    assert all(row["cost"] is None for row in found["rows"])
    assert "namespace team-b wastes 1.00 GPU-hours a week" in found["sentences"][2]


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (Usage("team", "other", "unet3d", 10.0), "not measured"),
        (Usage("team", "fast", "resnet50", 10.0), "not measured"),
    ],
)
def test_what_was_not_measured_has_no_cost_rather_than_none(usage: Usage, why: str) -> None:
    row = cost(cells(), gpus=8, rate=1.0, currency="EUR", usage=[usage])["rows"][1]
    assert (row["wasted_hours"], row["cost"], row["why_not"]) == (None, None, why)


def test_figures_that_were_refused_are_not_priced() -> None:
    (row,) = cost(cells(division="exploratory"), gpus=8, rate=1.0, currency="EUR")["rows"]
    assert (row["wasted_hours"], row["why_not"]) == (None, "refused")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("namespace,workload\n", "u.csv: has no column storage_class, gpu_hours_per_week"),
        ("", "u.csv: has no column namespace"),
        (HEADER + "a,fast,unet3d,many\n", "u.csv:2: 'many' are no GPU hours"),
        (HEADER + "a,fast,unet3d,-1\n", "u.csv:2: '-1' are no GPU hours"),
        (HEADER + "a,fast,unet3d\n", "u.csv:2: '' are no GPU hours"),
        (HEADER + "a,fast,unet3d,nan\n", "u.csv:2: 'nan' are no GPU hours"),
    ],
)
def test_a_wrong_usage_file_is_named(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_usage(text, place="u.csv")
    assert str(caught.value).startswith(problem)
