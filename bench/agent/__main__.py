"""Entry of a rank process: `python -m bench.agent PLAN JOB`, both JSON files."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from bench.agent.events import error_event, send
from bench.errors import BenchError, InfrastructureError

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the rank; return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what Ctrl-C means
    plan_file, job_file, parent = sys.argv[1:4]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        return 1  # the launcher died before the line above
    from bench.agent.rank import RankJob, run_rank
    from bench.spec.plan import Plan

    try:
        plan = Plan.model_validate_json(Path(plan_file).read_bytes())
        job = RankJob(**json.loads(Path(job_file).read_text()))
        run_rank(plan, job)
    except BenchError as error:
        send(error_event(error))
        return error.exit_code
    except MemoryError:
        shortage = InfrastructureError("rank", "out of memory", "lower plan.ring_bytes")
        send(error_event(shortage))
        return shortage.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
