"""How a repeat ended, by what came home of it; and what stops runs that take turns."""

from __future__ import annotations

import json

import pytest
from made_plans import SIMULATED
from made_plans import plan as made_plan

from bench.agent.pod.wire import Line
from bench.errors import InfrastructureError
from bench.launch.campaign import Campaign
from bench.launch.kubernetes.collect import outcome_of
from bench.launch.kubernetes.interleave import interleave
from bench.launch.kubernetes.logs import PodLog

TABLES = ("rank-0.json", "steps-0", "pieces-0", "replay-0")


@pytest.fixture
def plan():
    return made_plan(SIMULATED)


@pytest.fixture
def log(tmp_path):
    made = PodLog("pod-0", tmp_path, lambda _: None)
    made.take(Line(0, {"event": "site", "index": 0}))
    return made


def arrive(directory, names=TABLES):
    for name in names:
        (directory / name).write_text(json.dumps({"rank": 0}))


def test_all_tables_are_an_end_without_error_though_progress_was_lost(plan, log, tmp_path):
    arrive(tmp_path)
    log.take(Line(9, {"event": "end", "lines": 10}))
    assert log.missing() != ""
    outcome = outcome_of(plan, tmp_path, [log], None)
    assert outcome.error is None
    assert list(outcome.ranks) == [0]


def test_a_table_that_did_not_come_is_named(plan, log, tmp_path):
    arrive(tmp_path, TABLES[:2])
    log.take(Line(3, {"event": "end", "lines": 4}))
    error = outcome_of(plan, tmp_path, [log], None).error
    assert isinstance(error, InfrastructureError)
    assert "tables of 1 of 1 ranks" in str(error)
    assert "pod pod-0: lines 1-2 of 4" in str(error)


def test_a_table_that_the_pod_left_out_is_named_with_the_remedy(plan, log, tmp_path):
    arrive(tmp_path, TABLES[:2])
    log.take(Line(1, {"event": "omitted", "tables": ["pieces-0"]}))
    error = outcome_of(plan, tmp_path, [log], None).error
    assert "8 MiB of log" in str(error)
    assert "pieces-0" in str(error)
    assert "--duration" in str(error)


def test_ranks_of_an_unknown_machine_do_not_count(plan, tmp_path):
    arrive(tmp_path)
    outcome = outcome_of(plan, tmp_path, [PodLog("pod-0", tmp_path, lambda _: None)], None)
    assert outcome.ranks == {}
    assert outcome.error is not None


def test_what_the_pod_says_goes_before_what_is_missing(plan, log, tmp_path):
    said = {"event": "error", "class": "ReadFailed", "place": "a", "problem": "b", "remedy": "c"}
    log.take(Line(1, said))
    assert str(outcome_of(plan, tmp_path, [log], None).error) == "a: b; c"


class Arm:
    """Steps as a run takes them: the data set, and repeats; may fail at one of them."""

    def __init__(self, name, diary, *, repeats=2, fails_at=None, nodes=()):
        self.name, self.diary, self.repeats, self.fails_at = name, diary, repeats, fails_at
        self.campaign = Campaign()
        self.nodes = nodes
        self.closed = False

    def steps(self):
        try:
            for step in range(self.repeats + 1):
                self.diary.append(f"{self.name}{step}")
                if step == self.fails_at:
                    self.campaign.error = InfrastructureError(self.name, "failed")
                    return
                yield
        finally:
            self.closed = True


def test_turns_go_back_and_forth_and_share_the_first_nodes():
    diary = []
    arms = [Arm("a", diary, repeats=4, nodes=("n1",)), Arm("b", diary, repeats=4)]
    interleave(arms)
    assert diary == ["a0", "b0", "a1", "b1", "b2", "a2", "a3", "b3", "b4", "a4"]
    assert arms[1].nodes == ("n1",)
    assert not any(arm.campaign.interrupted for arm in arms)


def test_one_that_fails_stops_the_others_which_are_not_whole():
    diary = []
    arms = [Arm("a", diary), Arm("b", diary, fails_at=1)]
    interleave(arms)
    assert diary == ["a0", "b0", "a1", "b1"]
    assert all(arm.closed for arm in arms)
    assert arms[1].campaign.error is not None
    assert not arms[1].campaign.interrupted
    assert arms[0].campaign.interrupted
