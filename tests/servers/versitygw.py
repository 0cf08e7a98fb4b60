"""A real S3 server on loopback: versitygw, which checks signatures.

Its program is built once by Go, pinned by `tests/cluster/modules/versitygw`, and kept in the
cache of the test cluster; where neither is to be had, tests that need it are skipped.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.build import build_modules
from tests.cluster.settings import VERSITYGW, ClusterError, Layout

START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program() -> Path | None:
    """Return the server's program, built where it is not yet; None where that cannot be."""
    layout = Layout.of_environment()
    path = layout.program("versitygw")
    if not path.is_file():
        if shutil.which("go") is None:
            return None
        try:
            build_modules(layout, [VERSITYGW], tell=lambda _line: None)
        except (ClusterError, OSError):
            return None
    return path if path.is_file() else None


@dataclass
class S3Server:
    """A running server; buckets are directories below `root`, objects files in them."""

    root: Path
    port: int
    tls: tuple[Path, Path] | None = None
    access_key: str = field(default_factory=lambda: "AK" + secrets.token_hex(9).upper())
    secret_key: str = field(default_factory=lambda: "sk" + secrets.token_hex(19))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The AWS way to get in, and nothing of the machine's own configuration."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def bucket(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def running(path: Path, work: Path, *, tls: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """Start the server, and end it."""
    root = work / "buckets"
    root.mkdir()
    server = S3Server(root, free_port(), tls)
    words = [path, "--port", f"127.0.0.1:{server.port}", "--keep-alive", "--quiet",
             "--region", "us-east-1"]  # fmt: skip
    if tls:
        words += ["--cert", str(tls[0]), "--key", str(tls[1])]
    environment = os.environ | {
        "ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key,
    }  # fmt: skip
    with (work / "versitygw.log").open("wb") as log:
        server.process = subprocess.Popen(
            [*words, "posix", str(root)], stdout=log, stderr=log, env=environment, cwd=work
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not server.answers():
                if server.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((work / "versitygw.log").read_text())
                time.sleep(0.02)
            yield server
        finally:
            server.process.terminate()
            server.process.wait(20)
