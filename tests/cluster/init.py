"""The first process of a cluster: it starts the others, and all end when it ends.

It runs in network, mount and process namespaces of its own (`unshare` in processes.py). The
kernel ends every process of a process namespace with its first one, and takes the mounts, loop
devices and interfaces of the other two away with the last: however a start or a stop is
interrupted, nothing but files and empty control groups can be left.

Requests come as one line of JSON over a socket file: start, stop and list; one line answers.
Standard library only, and no import of its siblings: it is run by its path.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def record_self(record: Path) -> None:
    """Write down which process this is, before anything can need ending.

    The process file system still mounted here is the one of the machine, so this is the
    identity by which the machine knows the process.
    """
    fields = Path("/proc/self/stat").read_text(encoding="ascii")
    pid = int(fields.split()[0])
    start_ticks = int(fields.rpartition(")")[2].split()[19])
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": pid, "start_ticks": start_ticks}), encoding="ascii")
    partial.rename(record)


def isolate() -> None:
    """See the own processes only; hand mounts on to the nodes, but none to the machine."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


class Supervisor:
    """Starts processes by name, remembers how they ended, reaps every orphan."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: dict[str, int] = {}

    def reap(self) -> None:
        """Collect every process that has ended, also those that others left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, process in list(self.running.items()):
                if process.pid == pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    self.ended[name] = process.returncode
                    del self.running[name]

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks; the answer holds `error` where that is impossible."""
        name = request.get("name", "")
        match request.get("op"):
            case "list":
                pids = {name: process.pid for name, process in self.running.items()}
                return {"running": pids, "ended": self.ended}
            case "start" if name in self.running:
                return {"error": f"{name} is running"}
            case "start":
                with (self.logs / f"{name}.log").open("ab") as log:
                    process = subprocess.Popen(
                        request["argv"], env=request["env"], stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, start_new_session=True,
                    )  # fmt: skip
                self.running[name] = process
                self.ended.pop(name, None)
                return {"pid": process.pid}
            case "stop" if name in self.running:
                os.kill(self.running[name].pid, int(request["signal"]))
                return {}
            case "stop":
                return {"error": f"{name} is not running"}
            case other:
                return {"error": f"unknown request {other!r}"}


def answer(connection: socket.socket, supervisor: Supervisor) -> None:
    """Serve one connection: one request, one answer."""
    connection.settimeout(5)
    with connection, connection.makefile("rwb") as stream:
        try:
            request = json.loads(stream.readline())
            supervisor.reap()
            reply = supervisor.handle(request)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        try:
            stream.write(json.dumps(reply).encode() + b"\n")
            stream.flush()
        except OSError:
            return


def serve(socket_path: Path, supervisor: Supervisor) -> None:
    """Answer requests and reap orphans until this process is ended from outside."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    partial = socket_path.with_suffix(".partial")
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(str(partial))
        partial.chmod(0o600)
        listener.listen()
        partial.rename(socket_path)  # from here on the process answers
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    answer(listener.accept()[0], supervisor)
                else:
                    os.read(wake_read, 4096)
                    supervisor.reap()


def main() -> None:
    """Take over as first process of the cluster whose state directory is the argument."""
    state = Path(sys.argv[1])
    record_self(state / "init.json")
    isolate()
    serve(state / "init.sock", Supervisor(state / "logs"))


if __name__ == "__main__":
    main()
