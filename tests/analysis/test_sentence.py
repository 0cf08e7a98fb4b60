"""The one sentence names what the accelerator waited for, or why nothing can be said."""

from __future__ import annotations

from typing import Any

import pytest
from made_runs import make_run

from bench.analysis.causes import CAUSE_LABELS, GROUPS, UNATTRIBUTED
from bench.analysis.summary import sentence
from bench.results.schema import CAUSES, SyncRoot


def said(**shape: Any) -> str:
    return make_run(**shape).run.sentence


def test_storage_is_named_with_rate_demand_and_depth() -> None:
    assert said() == (
        "waiting on storage: 87 % of the stall, which is 37 % of the time; the storage delivers "
        "1.87 of the 2.97 GB/s that this accelerator needs at 16 requests in flight"
    )


def test_several_accelerators_are_counted() -> None:
    words = said(num_ranks=2, num_steps=30)
    assert "that these 2 accelerators need at 32 requests in flight" in words


@pytest.mark.parametrize(
    ("cause", "begin", "reason"),
    [
        ("storage_open", "waiting on storage: ", "the storage delivers"),
        ("ring_full", "waiting on the loader's ring: ", "raise plan.ring_bytes (now 256 MiB)"),
        ("reader_idle", "waiting on the harness: ", "says little about the storage"),
        ("handoff", "waiting on the harness: ", "says little about the storage"),
        ("decode", "waiting on the host's CPU: ", "waited to be decoded"),
        ("client_cpu", "waiting on the host's CPU: ", "computing in the client"),
        ("run_delay", "waiting on the host's CPU: ", "ready to run and got no CPU"),
        ("h2d", "waiting on the link to the accelerator: ", "waited for the copy"),
        ("sync", "waiting on other ranks: ", "one rank kept the others waiting"),
    ],
)
def test_each_cause_has_its_words(cause: str, begin: str, reason: str) -> None:
    words = said(mix={cause: 1.0})
    assert words.startswith(f"{begin}100 % of the stall")
    assert reason in words


def test_a_second_cause_is_named_when_it_is_large() -> None:
    words = said(mix={"ring_full": 0.6, "storage_read": 0.4})
    assert "of the time (then storage, 3" in words


def test_enough_data_is_not_waiting() -> None:
    words = said(step_seconds=0.7, first_seconds=0.0)
    assert words.startswith("not waiting: the accelerator stalled 1.")
    assert words.endswith(
        "the data kept up with the 1.37 GB/s that this accelerator needs at 16 requests in flight"
    )


def test_a_slow_start_alone_is_said_to_be_that() -> None:
    words = said(step_seconds=0.7, first_seconds=5.0)
    assert words.startswith("waiting at the start only: the first batch came after 5.")
    assert "once running it is 0.0 %" in words


def test_unthrottled_mode_speaks_of_the_pipe() -> None:
    words = said(accelerator="none")
    assert words.startswith("the pipe delivers 1.86 GB/s at 16 requests in flight")
    assert "stall" not in words


def test_reads_from_the_page_cache_are_not_called_storage() -> None:
    words = said(mix={"client_cpu": 1.0}, mode="buffered", requested="hot", verdict="warm")
    assert "copying out of the page cache, not waiting for the storage" in words


@pytest.mark.parametrize(
    ("requested", "words"),
    [("hot", "page cache, as asked"), ("cold", "page cache, not the medium")],
)
def test_warm_data_is_always_mentioned(requested: str, words: str) -> None:
    assert said(requested=requested, verdict="warm").endswith(f"the data came from the {words}")


def test_a_failed_guard_forbids_the_figures() -> None:
    words = said(guards=(("identity", "fail", "off by 3 %"),))
    assert (
        words
        == "these figures must not be used: guard identity failed in 3 of 3 repeats, off by 3 %"
    )


def test_invalid_repeats_alone_forbid_the_figures() -> None:
    words = said(statuses=("invalid",), guards=(("identity", "fail", "off by 3 %"),))
    assert words.startswith(
        "these figures must not be used: guard identity failed in the only repeat"
    )


def test_repeats_that_are_left_out_are_mentioned() -> None:
    assert said(statuses=("ok", "invalid")).endswith(
        "; left out: made-up reason for invalid (1 of 2 repeats)"
    )
    assert said(statuses=("ok", "failed")).endswith("; 1 of 2 repeats did not end well")


def test_nothing_measured_says_why() -> None:
    stopped = "no figures: stopped before a repeat had ended"
    assert said(statuses=("interrupted",)) == stopped
    assert sentence([], plan={}) == stopped
    assert said(statuses=("failed", "failed")) == (
        "no figures: 2 of 2 repeats failed, rank 0 (pid 4711): was killed by SIGKILL"
    )


def test_a_rank_that_others_wait_for_is_named() -> None:
    run = make_run(num_ranks=2, num_steps=20, statuses=("ok",)).run
    stall = run.repeats[0].stall
    assert stall is not None
    late = SyncRoot(rank=1, causes={"storage_read": 0.5 * stall.total_seconds})
    repeat = run.repeats[0].model_copy(
        update={"stall": stall.model_copy(update={"sync_root": late})}
    )
    assert sentence([repeat], plan=run.plan).endswith("; the others waited for rank 1 most")


def test_an_unknown_plan_is_no_error() -> None:
    words = sentence(make_run().run.repeats, plan={})
    assert words.endswith("the storage delivers 1.87 GB/s")


def test_every_cause_has_one_label_and_one_group() -> None:
    assert tuple(CAUSE_LABELS) == (*CAUSES, UNATTRIBUTED)
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(CAUSES)
