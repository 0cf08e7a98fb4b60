"""The cluster's processes seen from outside: its first one, and those that it starts."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.settings import ClusterError, Layout

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wait_for(
    condition: Callable[[], T], *, seconds: float, what: str, interval_seconds: float = 0.05
) -> T:
    """Poll until the condition gives something true, and return it.

    Raises:
        ClusterError: If it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(interval_seconds)


@dataclass(frozen=True)
class Init:
    """The cluster's first process, as the machine knows it."""

    pid: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether that very process lives: an id alone may since belong to another."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        fields = text.rpartition(")")[2].split()
        return int(fields[19]) == self.start_ticks and fields[0] not in "ZX"


class Processes:
    """Starts, stops and lists the processes of one cluster."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    # ------------------------------------------------------------------ the first process

    def init(self) -> Init | None:
        """Return the living first process; None where there is no cluster."""
        try:
            record = json.loads(self.layout.init_record.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        found = Init(record["pid"], record["start_ticks"])
        return found if found.is_alive else None

    def create(self) -> None:
        """Make the namespaces and start the first process in them."""
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        init = Path(__file__).with_name("init.py")
        with (self.layout.logs / "init.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "unshare", "--net", "--mount", "--pid", "--fork",
                 "--propagation", "private", sys.executable, "-I", str(init), self.layout.state],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env={"PATH": PATH},
                check=True,
            )  # fmt: skip
        wait_for(self.layout.init_socket.exists, seconds=20, what="the cluster's first process")

    def destroy(self) -> None:
        """End the first process and with it all others; they are gone when this returns."""
        init = self.init()
        if init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(init.pid, signal.SIGKILL)
        # The kernel lets it go only after every process of its namespace is gone.
        wait_for(lambda: not init.is_alive, seconds=60, what=f"the end of process {init.pid}")

    def required_init(self) -> Init:
        """Return the living first process.

        Raises:
            ClusterError: If there is none.
        """
        init = self.init()
        if init is None:
            raise ClusterError(f"cluster {self.layout.name} is not up; `make cluster` starts it")
        return init

    # ------------------------------------------------------------------ requests

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request to the first process and return its answer.

        Raises:
            ClusterError: If it cannot be reached or refuses.
        """
        self.required_init()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.layout.init_socket))
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                reply: dict[str, Any] = json.loads(stream.readline())
        if "error" in reply:
            raise ClusterError(f"{request['op']} {request.get('name', '')}: {reply['error']}")
        return reply

    def running(self) -> dict[str, int]:
        """Return name -> process id within the cluster's process namespace."""
        found: dict[str, int] = self.ask(op="list")["running"]
        return found

    def ended(self) -> dict[str, int]:
        """Return name -> exit status of those that have ended."""
        found: dict[str, int] = self.ask(op="list")["ended"]
        return found

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None
    ) -> int:
        """Start a process under a name, its output in `logs/NAME.log`; return its id."""
        environment = {"PATH": PATH, "HOME": str(self.layout.state), **(env or {})}
        words = [str(word) for word in argv]
        return int(self.ask(op="start", name=name, argv=words, env=environment)["pid"])

    def stop(self, name: str, *, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop a process and wait for its end; no error where it is not running."""
        if name not in self.running():
            return
        self.ask(op="stop", name=name, signal=int(number))
        try:
            wait_for(lambda: name not in self.running(), seconds=10, what=f"the end of {name}")
        except ClusterError:
            self.ask(op="stop", name=name, signal=int(signal.SIGKILL))
            wait_for(lambda: name not in self.running(), seconds=10, what=f"the end of {name}")

    def wait_ready(self, name: str, ready: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until a started process is ready; fail at once, with its log, where it ended."""

        def ready_or_ended() -> bool:
            if ready():
                return True
            status = self.ended().get(name)
            if status is not None:
                raise ClusterError(f"{name} ended with status {status}:\n{self.log_tail(name)}")
            return False

        try:
            wait_for(ready_or_ended, seconds=seconds, what=f"{name} ready")
        except ClusterError as error:
            if name in self.running():
                raise ClusterError(f"{error}:\n{self.log_tail(name)}") from error
            raise

    def log_tail(self, name: str, *, lines: int = 15) -> str:
        """Return the end of a process's log."""
        try:
            text = (self.layout.logs / f"{name}.log").read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    # ------------------------------------------------------------------ commands inside

    def proc(self, pid: int) -> Path:
        """Return the /proc directory of a process of the cluster, for a look from outside."""
        init = self.required_init().pid
        return Path("/proc", str(init), "root", "proc", str(pid))

    def file_of(self, name: str, path: str) -> Path:
        """Return a file as a named process sees it, for a look from outside."""
        return self.proc(self.running()[name]) / "root" / path.lstrip("/")

    def inside(self, *, mounts_of: str | None = None) -> list[str]:
        """Return the words that run a command within the cluster, before that command.

        Network, mounts and processes are the cluster's. With `mounts_of` the mounts are those
        of a named process: a node's.
        """
        pid = str(self.required_init().pid)
        words = ["nsenter", "--target", pid, "--net", "--mount", "--pid", "--wd=/"]
        if mounts_of is not None:
            words += ["nsenter", f"--mount=/proc/{self.running()[mounts_of]}/ns/mnt", "--wd=/"]
        return [*words, "--"]

    def run(self, argv: Sequence[str | Path], *, mounts_of: str | None = None) -> str:
        """Run a command within the cluster and return what it printed.

        Raises:
            ClusterError: If it fails; with what it said.
        """
        words = [*self.inside(mounts_of=mounts_of), *(str(word) for word in argv)]
        return run(words, env={"PATH": PATH, "HOME": str(self.layout.state)})


def run(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a command and return what it printed.

    Raises:
        ClusterError: If it cannot be run or fails; with the end of what it said.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words, env=dict(env) if env is not None else None, cwd=cwd, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ClusterError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise ClusterError(f"{' '.join(words[:12])}: exit status {done.returncode}\n{said}")
    return done.stdout


@contextlib.contextmanager
def network(namespace: str) -> Iterator[str]:
    """Put this thread, and the processes and threads that it starts, into another network.

    Thread by thread is how the kernel does it: call it where no other thread uses the network.

    Args:
        namespace: Path of its namespace: `/proc/PID/ns/net`.

    Yields:
        The path of the namespace left, for going back there for a while.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise ClusterError(f"entering a network: {os.strerror(number)}; be root")

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield f"/proc/self/fd/{home}"
        finally:
            enter(home)
    finally:
        os.close(home)
