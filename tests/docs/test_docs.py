"""The documentation says what is there: commands, links, words, tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest

from bench import errors
from bench.cli.main import VERBS, bench
from bench.measure import guards
from bench.measure.mounts import verdict_table
from bench.results.schema import CAUSES, STATES, Repeat, Run
from bench.spec.documents import StorageTarget, Workload
from bench.spec.load import load_requirements, load_storage, load_workload
from bench.spec.overrides import plan_settings
from bench.spec.plan import PlanSettings
from bench.spec.requirements import Requirements

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
USER_PAGES = [p for p in PAGES if p.parent.name != "decisions"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.<])/(wo" + r"rk|ro" + r"ot|ho" + r"me|t" + r"mp|Users)/")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    for found, body in FENCE.findall(page.read_text()):
        if found == language:
            yield body


def commands() -> list[tuple[str, str]]:
    """Return every `bench` line of every `sh` block with its page."""
    return [
        (relative(page), line)
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith("bench")
    ]


def parse(line: str) -> click.Context | None:
    """Parse a command line as `bench` would, and run nothing; None where it asks for help."""
    words = shlex.split(line, comments=True)
    assert words[0] == "bench"
    if words[1:] == ["--help"]:
        return None
    verb, arguments = words[1], words[2:]
    command = bench.get_command(click.Context(bench), verb)
    assert command is not None, f"no verb {verb}"
    if "--help" in arguments:
        return None
    return command.make_context(verb, arguments)


def test_there_are_commands_to_check() -> None:
    found = commands()
    assert {shlex.split(line)[1] for _, line in found} >= set(VERBS)
    assert {page for page, _ in found} >= {"README.md", "docs/get-started.md", "docs/documents.md"}


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_parses_down_to_its_overrides(page: str, line: str) -> None:
    context = parse(line)
    if context is None or context.info_name not in ("run", "prepare"):
        return
    given = context.params
    overrides = given["overrides"]
    workload = load_workload(given["workload"], overrides=overrides)
    targets = given["storage"]
    for target in (targets,) if isinstance(targets, str) else targets:
        load_storage(target, overrides=overrides)
    settings = plan_settings(
        overrides,
        **{
            name: given.get(name)
            for name in ("accelerator", "repeats", "gpus_per_node", "max_steps", "max_seconds")
        },
        dataset_bytes=given["dataset_size"],
    )
    if "accelerator" in settings.model_fields_set:
        assert settings.accelerator in ("none", *workload.spec.accelerators), page


@pytest.mark.parametrize(
    "line",
    ["bench rum smoke -s simulated", "bench run smoke", "bench run smoke -s simulated --repeat 3"],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        parse(line)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for block in blocks(page, "sh")
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE)
    }
    assert {"run", "test"} <= named <= targets


LOADERS = {"Workload": load_workload, "Requirements": load_requirements}


def test_yaml_examples_are_valid_documents(tmp_path: Path) -> None:
    kinds: set[type] = set()
    for page in PAGES:
        for block in blocks(page, "yaml"):
            file = tmp_path / "document.yaml"
            file.write_text(block)
            load = next(
                (f for kind, f in LOADERS.items() if f"kind: {kind}" in block), load_storage
            )
            kinds.add(type(load(str(file))))
    assert kinds == {Workload, StorageTarget, Requirements}


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} of {relative(page)}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target} of {relative(page)}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    assert MACHINE_PATHS.findall(page.read_text()) == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in LINK.findall((ROOT / "README.md").read_text())}
    pages = {relative(p) for p in USER_PAGES} - {"README.md"}
    assert pages <= linked


def method() -> str:
    return (ROOT / "docs/method.md").read_text()


def test_the_verdict_table_is_the_programs() -> None:
    text = method().partition("<!-- verdict-table -->")[2]
    rows = re.findall(r"^\| (\w+) \| ([\w-]+) \| ([\w-]+) \| ([\w-]+) \|$", text, re.MULTILINE)
    stated = [
        (fs, mode, verdict)
        for fs, *verdicts in rows
        for mode, verdict in zip(("direct", "buffered", "dontcache"), verdicts, strict=True)
        if (fs, mode) != ("file", "direct")
    ]
    assert stated == verdict_table()


def test_the_method_explains_every_cause_and_state_in_order() -> None:
    states, _, causes = method().partition("| state |")[2].partition("| cause |")
    for names, text in ((STATES, states), (CAUSES, causes)):
        places = [text.find(f"\n| `{name}` |") for name in names]
        assert -1 not in places
        assert all(before < after for before, after in pairwise(places))


def test_the_method_states_the_bounds_of_every_guard() -> None:
    text = method().partition("## Guards")[2].partition("\n## ")[0]
    source = Path(guards.__file__).read_text()
    launch = (ROOT / "bench/launch/assemble.py").read_text()
    names = set(re.findall(r'_guard\(\s*"(\w+)"', source))
    names |= set(re.findall(r'name = "(\w+)"', source))
    names |= set(re.findall(r'"(\w+)"', launch.partition("LATER_GUARDS = (")[2].partition(")")[0]))
    names.discard("compute_dilation")  # no device reports it yet
    assert len(names) >= 16
    assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("model", [Run, Repeat])
def test_the_result_page_names_every_field(model: type[Run | Repeat]) -> None:
    text = (ROOT / "docs/read-a-result.md").read_text()
    assert {name for name in model.model_fields if f"`{name}`" not in text} == set()


def test_the_documents_page_names_every_plan_setting() -> None:
    text = (ROOT / "docs/documents.md").read_text()
    named = {
        name.partition(".")[0] for name in re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
    }
    assert set(PlanSettings.model_fields) <= named


def test_exit_codes_are_those_of_the_errors() -> None:
    text = (ROOT / "docs/exit-codes.md").read_text()
    stated = {
        name: int(code) for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)
    }
    actual = {
        name: getattr(errors, name).exit_code for name in errors.__all__ if name != "BenchError"
    }
    assert stated == actual
