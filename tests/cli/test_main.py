"""The command line as a whole: help, errors in one line, exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from bench import __version__
from bench.cli import main as cli
from bench.errors import (
    BenchError,
    DocumentError,
    InfrastructureError,
    Interrupted,
    InvalidMeasurement,
    UsageError,
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, text=True, check=False
    )


def raising(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("run", callback=callback)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[click.Command], None]:
    """Return a function that puts a command in the place of `bench run`."""

    def put(command: click.Command) -> None:
        module = type(sys)("stand_in")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "bench.cli.run", module)

    return put


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_names_every_verb_and_the_exit_status() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert all(f"\n  {verb} " in done.stdout for verb in cli.VERBS)
    assert "Exit status: 0 pass" in done.stdout


def test_version() -> None:
    assert bench("--version").stdout == f"bench {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("rn", "x"), "no command 'rn'; did you mean run?; see bench --help"),
        (("--nope",), "No such option '--nope'; see bench --help"),
        (("schema",), "Missing argument 'DOCUMENT'. Choose from: "),
        (("schema", "plan", "x"), "Got unexpected extra argument (x); see bench schema --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    arguments: tuple[str, ...], line: str
) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bench: error: {line}")
    assert done.stderr.count("\n") == 1


def test_no_arguments_print_the_help_and_end_with_2() -> None:
    done = bench()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("here", "is wrong", "do that"), 2),
        (InvalidMeasurement("here", "is wrong", "do that"), 4),
        (InfrastructureError("here", "is wrong", "do that"), 5),
        (Interrupted("here", "is wrong", "do that"), 130),
    ],
)
def test_an_error_is_one_line_and_its_class_is_the_status(
    verb: Callable[[click.Command], None],
    capsys: pytest.CaptureFixture[str],
    error: BenchError,
    code: int,
) -> None:
    verb(raising(error))
    assert status("run") == code
    assert capsys.readouterr().err == "bench: error: here: is wrong; do that\n"


def test_each_problem_of_a_document_has_its_line(
    verb: Callable[[click.Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(DocumentError(["x.yaml:1: a", "x.yaml:2: b"])))
    assert status("run") == 2
    assert capsys.readouterr().err == "bench: error: x.yaml:1: a\nbench: error: x.yaml:2: b\n"


def test_an_interrupt_ends_with_130(
    verb: Callable[[click.Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(KeyboardInterrupt()))
    assert status("run") == 130
    assert capsys.readouterr().err == "bench: error: interrupted\n"


def test_a_fault_of_bench_shows_where_and_does_not_read_as_a_regression(
    verb: Callable[[click.Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(ZeroDivisionError("planted")))
    assert status("run") == 5
    assert "ZeroDivisionError: planted" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 3])
def test_a_verb_may_return_its_status(verb: Callable[[click.Command], None], code: int) -> None:
    verb(click.Command("run", callback=lambda: code))
    assert status("run") == code


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "schema", "run"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
