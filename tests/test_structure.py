"""Rules of the whole tree that no linter holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

MAX_MODULE_LINES = 400

HEAVY = ("numpy", "pandas", "pyarrow", "pydantic", "scipy", "matplotlib", "rich", "yaml", "torch")

# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = (
    r"py" + r"pi\.org",
    r"python" + r"hosted\.org",
    r"--(extra-)?index" + r"-url\s+http",
    r"(?<![\w.])/wo" + r"rk/",
    r"(?<![\w.])/ro" + r"ot/",
)
"""Registry hosts and paths of a machine."""


def tracked(repository: Path) -> list[Path]:
    """Return the files that git tracks; all text files where there is no git."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [repository / name for name in done.stdout.split("\0") if name]
    return [p for p in paths if p.is_file()]


def modules(repository: Path) -> list[Path]:
    return sorted((repository / "bench").rglob("*.py"))


def test_the_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from bench.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n"
        "    print('loaded:', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.partition("loaded:")[2].split())
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert not [m for m in loaded if m.startswith("bench.") and m.count(".") > 2]
    assert {m for m in loaded if m.startswith("bench.cli.")} == {"bench.cli.main"}


def test_modules_keep_to_their_budget(repository: Path) -> None:
    lengths = {
        str(p.relative_to(repository)): len(p.read_text().splitlines()) for p in modules(repository)
    }
    assert len(lengths) > 20
    assert {p: n for p, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_every_package_and_module_says_what_it_is(repository: Path) -> None:
    folders = {p.parent for p in modules(repository)}
    without_init = [str(d) for d in folders if not (d / "__init__.py").is_file()]
    undocumented = [
        str(p) for p in modules(repository) if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert (without_init, undocumented) == ([], [])


def test_no_tracked_file_names_a_registry_or_a_machine(repository: Path) -> None:
    pattern = re.compile("|".join(FORBIDDEN))
    found = []
    for path in tracked(repository):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(repository)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert found == []


def test_the_locks_are_pinned_hashed_and_agree(repository: Path) -> None:
    versions = []
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (repository / name).read_text()
        blocks = re.findall(
            r"^([\w.-]+)==([\w.+!]+)[^\n]*\\\n((?:    --hash=\S+.*\n?)+)", text, re.MULTILINE
        )
        names = re.findall(r"^[A-Za-z]\S*", text, re.MULTILINE)
        assert len(blocks) == len(names) > 30
        versions.append({package: version for package, version, _ in blocks})
    runtime, dev = versions
    assert runtime.items() <= dev.items()
    assert "torch" not in dev
