"""The approval document: its text for people, its seal, hostile names."""

from __future__ import annotations

import json

import pytest
from made_evidence import GOOD, approved, requirements, run, three_occasions

from bench.errors import ResultsError
from bench.policy.contract import contract
from bench.policy.cost import cost
from bench.policy.document import approval_text, parse_approval
from bench.policy.markdown import markdown, safe

BAD = tuple(3 * value for value in GOOD)

SITUATIONS = {
    "approved": lambda: approved(
        three_occasions(),
        requirements(
            {"max_stall_ratio": 0.02, "worst_case": 0.05, "min_throughput": 2e9,
             "max_time_to_first_batch": 5}
        ),
        price=lambda cells: cost(cells, gpus=64, rate=2.5, currency="EUR"),
    ),
    "provisional": lambda: approved([run()]),
    "not-met": lambda: approved(three_occasions(BAD)),
    "inconclusive": lambda: approved([run((0.001, 0.035, 0.004, 0.030, 0.012))]),
    "refused": lambda: approved([run(division="exploratory", storage_class=None)]),
    "nothing": lambda: approved([]),
    "two-cells-and-an-extra": lambda: approved(
        [*three_occasions(), run(number=9, storage={"name": "other"})],
        requirements({"max_stall_ratio": 0.02}, {"accelerator": "b200", "min_throughput": 6e9}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_text_for_people(name: str, golden) -> None:
    approval = SITUATIONS[name]()
    golden(f"{name}.md", markdown(approval, contract=contract([approval])))


def test_a_document_survives_being_written_and_read() -> None:
    approval = approved(three_occasions())
    assert parse_approval(approval_text(approval).encode(), place="a.json") == approval


def test_the_same_evidence_gives_the_same_bytes() -> None:
    runs = three_occasions()
    assert approval_text(approved(runs)) == approval_text(approved(runs[::-1]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace('"provisional"', '"approved"'), "does not match its checksum"),
        (lambda text: text[:500], "is not complete JSON"),
        (lambda text: "{}", "is not an approval document"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "version 2"),
    ],
    ids=["edited", "cut", "other", "newer"],
)
def test_a_document_that_was_touched_is_refused(change, problem: str) -> None:
    text = change(approval_text(approved([run()])))
    with pytest.raises(ResultsError, match=problem):
        parse_approval(text.encode(), place="approval.json")


def test_hostile_names_stay_text() -> None:
    hostile = "x | <script>alert(1)</script>\n# [a](b) \x1b[31m *bold* _it_ `c` &amp;"
    approval = approved([run()], approved_by=hostile)
    text = markdown(approval, contract=[])
    (line,) = [line for line in text.splitlines() if line.startswith("| approved by")]
    assert "\x1b" not in text
    assert "\\<script\\>" in line
    assert line.replace("\\|", "").count("|") == 3
    assert safe("max_stall_ratio") == "max_stall_ratio"


def test_a_figure_that_is_missing_is_never_blank() -> None:
    text = markdown(SITUATIONS["nothing"](), contract=[])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert not [row for row in rows if "|  |" in row]
    assert "not measured" in text


def test_every_criterion_of_the_requirement_is_in_the_document() -> None:
    cell = SITUATIONS["approved"]().cells[0]
    assert [criterion.name for criterion in cell.criteria] == [
        "max_stall_ratio", "min_throughput", "max_time_to_first_batch", "worst_case",
    ]  # fmt: skip
    assert json.loads(approval_text(SITUATIONS["approved"]()))["cost"]["gpus"] == 64
