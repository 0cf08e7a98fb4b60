"""Entry of a pod: `python -m bench.agent.pod prepare | measure --repeat K`.

Says all it has to say in its log, and the verdict in the termination message, which outlives a
lost log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.agent.events import error_event
from bench.agent.group import termination_as_interrupt
from bench.agent.pod.codes import BAD_INPUT_CODE, MAX_VERDICT_BYTES
from bench.agent.pod.environment import PodEnvironment, read_plan
from bench.agent.pod.measure import measure, send_tables
from bench.agent.pod.prepare import prepare
from bench.agent.pod.wire import LineWriter
from bench.errors import BenchError, InfrastructureError, Interrupted, UsageError
from bench.spec.plan import Plan

VERDICT_FILE = "/dev/termination-log"

MAX_TEXT = 1500


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.agent.pod")
    parser.add_argument("role", choices=("prepare", "measure"))
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--verdict-file", default=VERDICT_FILE)
    return parser.parse_args()


def _write_line(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _verdict(status: str, error: BenchError | None, **more: Any) -> bytes:
    """Return the termination message, cut to what Kubernetes keeps."""
    told = None
    if error is not None:
        told = {key: str(value)[:MAX_TEXT] for key, value in error_event(error).items()}
    text = json.dumps({"bench": 1, "status": status, "error": told, **more}).encode()
    if len(text) > MAX_VERDICT_BYTES:
        text = json.dumps({"bench": 1, "status": status, "error": told}).encode()
    return text[:MAX_VERDICT_BYTES]


def _exit_code(error: BenchError) -> int:
    return BAD_INPUT_CODE if isinstance(error, UsageError) else error.exit_code


def _with_certificates(plan: Plan, environ: Mapping[str, str]) -> Plan:
    """Return the plan with the place that its CA bundle has in this pod."""
    target, path = plan.storage.object, environ.get("AWS_CA_BUNDLE")
    if target is None or target.ca_bundle is None or path is None:
        return plan
    changed = target.model_copy(update={"ca_bundle": path})
    return plan.model_copy(update={"storage": plan.storage.model_copy(update={"object": changed})})


def _act(arguments: argparse.Namespace, write: LineWriter) -> dict[str, Any]:
    """Do what was asked for; return what the verdict says beside the status."""
    environment = PodEnvironment.read(os.environ)
    plan = _with_certificates(read_plan(environment.plan_file), os.environ)
    if arguments.role == "prepare":
        prepare(plan, environment, write)
        return {}
    outcome = measure(plan, environment, write, repeat=arguments.repeat)
    omitted = send_tables(outcome, environment.scratch, write)
    if outcome.interrupted:
        raise Interrupted(environment.pod, "ended by the cluster or the launcher")
    if outcome.error is not None:
        raise outcome.error
    counts = [result["counts"] for result in outcome.ranks.values()]
    return {
        "omitted": omitted,
        "steps": max(count["steps"] for count in counts),
        "bytes_consumed": sum(count["bytes_consumed"] for count in counts),
        "wall_seconds": max(
            (result["end_ns"] - result["start_ns"]) / 1e9 for result in outcome.ranks.values()
        ),
    }


def main(write_line: Callable[[str], None] = _write_line) -> int:
    """Run the agent; return its exit status."""
    arguments = _arguments()
    write = LineWriter(write_line)
    status = "ok"
    error: BenchError | None = None
    more: dict[str, Any] = {}
    try:
        with termination_as_interrupt():
            more = _act(arguments, write)
    except KeyboardInterrupt:
        error = Interrupted("pod", "ended by the cluster or the launcher")
    except BenchError as found:
        error = found
    except MemoryError:
        error = InfrastructureError("pod", "out of memory", "raise plan.cluster.memory_bytes")
    if error is not None:
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        write(error_event(error))
    write({"event": "end", "status": status, "lines": write.count + 1})
    with contextlib.suppress(OSError):  # outside a pod there is no such file to write
        message = _verdict(status, error, lines=write.count, **more)
        Path(arguments.verdict_file).write_bytes(message)
    return _exit_code(error) if error is not None else 0


if __name__ == "__main__":
    sys.exit(main())
