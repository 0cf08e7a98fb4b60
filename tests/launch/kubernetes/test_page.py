"""docs/kubernetes.md says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_plans import NEW_CLAIM, RUN_ID, plan, settings

from bench.cli.render import command
from bench.launch.kubernetes.manifests import build
from bench.spec.cluster import ClusterSettings

PAGE = "docs/kubernetes.md"


def test_it_names_every_setting(repository: Path) -> None:
    table = (repository / PAGE).read_text().partition("## Settings")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", table, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(ClusterSettings.model_fields)


def test_it_names_every_object_in_the_order_of_creation(repository: Path) -> None:
    table = (repository / PAGE).read_text().partition("| object |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w+)[^|]* \| (?:`-([\w]+)`)?[^|]*\|", table, re.MULTILINE)
    made = build(plan(NEW_CLAIM), cluster=settings(gpu="dra")).objects()
    found = [
        (one.kind, one.metadata.name.removeprefix(f"bench-{RUN_ID}").removeprefix("-"))
        for one in made
    ]
    assert rows == found


def test_its_commands_print_what_they_say(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    lines = re.findall(r"^bench render (.*)$", (repository / PAGE).read_text(), re.MULTILINE)
    assert {shlex.split(line)[0] for line in lines} == {"namespace", "rbac", "schedule"}
    for line in lines:
        result = CliRunner().invoke(command, shlex.split(line))
        assert result.exit_code == 0, (line, result.output)
