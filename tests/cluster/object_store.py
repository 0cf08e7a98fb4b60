"""versitygw as the cluster's object store: a real S3 server that pods reach on the bridge."""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import asdict, dataclass

from tests.cluster.processes import Processes
from tests.cluster.settings import CONTROL_PLANE_ADDRESS, Layout

PORT = 7070
PROGRAM = "versitygw"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Where the object store is and how to get in; valid as long as the cluster is up."""

    endpoint_url: str
    region: str
    access_key_id: str
    secret_access_key: str


class ObjectStore:
    """Starts the object store; buckets are directories below the cluster's state."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self.processes = processes
        self.program = layout.program(PROGRAM)
        self.buckets = layout.state / "s3"
        self.credentials_file = layout.state / "s3.json"

    @property
    def credentials(self) -> Credentials:
        """Return what the store was started with."""
        return Credentials(**json.loads(self.credentials_file.read_text(encoding="ascii")))

    def up(self) -> None:
        """Start it where it is not running. Call it in the cluster's network."""
        if PROGRAM in self.processes.running():
            return
        self.buckets.mkdir(exist_ok=True)
        if not self.credentials_file.exists():
            made = Credentials(
                endpoint_url=f"http://{CONTROL_PLANE_ADDRESS}:{PORT}",
                region="us-east-1",
                access_key_id=secrets.token_hex(10),
                secret_access_key=secrets.token_hex(20),
            )
            self.credentials_file.touch(mode=0o600)
            self.credentials_file.write_text(json.dumps(asdict(made)), encoding="ascii")
        credentials = self.credentials
        self.processes.start(
            PROGRAM,
            # Connections are kept, as every object store in production does.
            [self.program, "--port", f"{CONTROL_PLANE_ADDRESS}:{PORT}", "--keep-alive", "--quiet",
             "--region", credentials.region, "posix", self.buckets],
            env={
                "ROOT_ACCESS_KEY": credentials.access_key_id,
                "ROOT_SECRET_KEY": credentials.secret_access_key,
            },
        )  # fmt: skip
        self.processes.wait_ready(PROGRAM, self.answers, seconds=20)

    def answers(self) -> bool:
        """Whether something listens on the store's port."""
        try:
            with socket.create_connection((CONTROL_PLANE_ADDRESS, PORT), timeout=1):
                return True
        except OSError:
            return False
