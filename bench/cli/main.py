"""`bench`: finds the verb, loads its module, turns errors into one line and an exit status.

`bench --help` imports no verb, so it starts at once; each verb's module holds its heavy
imports and a click command named `command`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from bench import __version__
from bench.errors import BenchError

__all__ = ["VERBS", "main"]

VERBS: dict[str, tuple[str, str]] = {
    "run": ("bench.cli.run", "Measure a workload on a storage target: the main job."),
    "prepare": ("bench.cli.prepare", "Make or verify the data set that a run would use."),
    "scan": ("bench.cli.scan", "Turn an existing data set into a workload file."),
    "attach": ("bench.cli.attach", "Go on with a run on a cluster whose launcher died."),
    "clean": ("bench.cli.clean", "Remove what runs have left in a cluster."),
    "ls": ("bench.cli.ls", "List the runs that are stored."),
    "report": ("bench.cli.report", "Write the one-page HTML report of a stored run."),
    "compare": ("bench.cli.compare", "Compare stored runs; say what regressed and what did not."),
    "history": ("bench.cli.history", "Find where stored runs changed level, and what did."),
    "baseline": ("bench.cli.baseline", "Name stored runs as a baseline: set, show, list."),
    "approve": ("bench.cli.approve", "Hold runs against requirements; write the approval."),
    "evidence": ("bench.cli.evidence", "Sign an approval and its runs, or verify a signature."),
    "reproduce": ("bench.cli.reproduce", "Run a stored plan again; say whether it agrees."),
    "render": ("bench.cli.render", "Print YAML for a cluster: namespace, rbac, schedule."),
    "schema": ("bench.cli.schema", "Print the JSON Schema of a document."),
}
"""Verb -> module that holds its click command `command`, and its line in the help."""

EXIT_INTERNAL = 5
"""For faults of bench itself: Python's own status, 1, would read as "regressed"."""


class VerbGroup(click.Group):
    """A group that imports a verb's module only when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which a person needs them."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a verb, imported now; None for an unknown one."""
        del ctx
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(VERBS[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{VERBS[cmd_name][0]}.command is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name.

        Raises:
            click.UsageError: There is no such verb; names the nearest.
        """
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-"):
            import difflib

            near = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(VERBS)}"
            raise click.UsageError(f"no command {verb!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs' lines from the table; click's own way would import them all."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.command(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 pass, 1 regressed, 2 bad input, 3 inconclusive, 4 invalid "
    "measurement, 5 never ran, 130 interrupted.",
)
@click.version_option(__version__, "--version", message="bench %(version)s")
def bench() -> None:
    """Measure how much of an accelerator's time is spent waiting for data, and why."""


def _say(lines: str) -> None:
    for line in lines.splitlines():
        print(f"bench: error: {line}", file=sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status."""
    try:
        with bench.make_context("bench", list(arguments)) as context:
            result = bench.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.stdout.flush()
        return stop.exit_code
    return result if isinstance(result, int) else 0


def _status(arguments: Sequence[str]) -> int:
    try:
        return _run(arguments)
    except BenchError as error:
        _say(str(error))
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "bench"
        problem = " ".join(error.format_message().split()).removesuffix(".")
        _say(f"{problem}; see {command} --help")
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Whatever is still buffered must
        # not fail a second time when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001 - Python's own exit status, 1, means "regressed" here
        traceback.print_exc()
        _say("a fault of bench itself; please report the lines above")
        return EXIT_INTERNAL


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `bench` and leave the process.

    Args:
        arguments: Without the program's name; those of the process by default.
    """
    if "_BENCH_COMPLETE" in os.environ:  # set by the shell's completion alone
        bench.main(prog_name="bench")
    sys.exit(_status(sys.argv[1:] if arguments is None else arguments))
