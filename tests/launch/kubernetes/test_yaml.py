"""Manifests as text: what is read back is what was written."""

from __future__ import annotations

import yaml
from made_plans import NEW_CLAIM, UID, plan, settings

from bench.launch.kubernetes.manifests import build, dry_run
from bench.launch.kubernetes.yaml import dump, plain


def test_what_is_read_back_is_what_the_server_would_be_sent() -> None:
    made = build(plan(NEW_CLAIM, nodes=2, repeats=2), cluster=settings(), owner_uid=UID).objects()
    assert list(yaml.safe_load_all(dump(made))) == [plain(one) for one in made]


def test_no_key_without_a_value_is_sent_and_nothing_is_an_alias() -> None:
    text = dump(build(plan(NEW_CLAIM), cluster=settings()).objects())
    assert ": null" not in text
    assert "&id" not in text
    assert "*id" not in text


def test_kind_and_name_come_first() -> None:
    lines = dump(build(plan(NEW_CLAIM), cluster=settings()).objects()).splitlines()
    assert lines[:4] == ["---", "apiVersion: batch/v1", "kind: Job", "metadata:"]
    assert lines[4].startswith("  name: ")


def test_a_dry_run_says_what_it_leaves_out() -> None:
    text = dry_run(build(plan(NEW_CLAIM), cluster=settings()))
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert "owner" in " ".join(comment)
    assert "ownerReferences" not in text
    assert "namespace:" not in text
