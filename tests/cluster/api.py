"""The few requests that the cluster's own scripts make of the API server.

Standard library only: a cluster comes up before anything is installed for the tests. Call it
from within the cluster's network.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.settings import ClusterError

JsonObject = dict[str, Any]


class RefusedError(ClusterError):
    """The API server refused a request; carries its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Api:
    """Requests with one token.

    Args:
        server: Address with scheme.
        token: Bearer token.
        authority: File of the certificate to trust.
    """

    def __init__(self, server: str, *, token: str, authority: Path) -> None:
        self.server = server
        self.token = token
        self.context = ssl.create_default_context(cafile=str(authority))

    @classmethod
    def of_kubeconfig(cls, path: Path) -> Api:
        """Make a client of a kubeconfig as `write_kubeconfig` writes them."""
        config = json.loads(path.read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        return cls(
            cluster["server"],
            token=config["users"][0]["user"]["token"],
            authority=Path(cluster["certificate-authority"]),
        )

    def open(
        self, method: str, path: str, *, body: JsonObject | None, kind: str, timeout_s: float
    ) -> http.client.HTTPResponse:
        """Send a request and return the open response.

        Raises:
            RefusedError: If the server answers with an error.
            ClusterError: If it does not answer.
        """
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind},
        )
        # No proxy of the environment: the address exists in this network only.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context)
        )
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise RefusedError(error.code, f"{method} {path}: {error.code} {text[:500]}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ClusterError(f"{method} {path}: {error}") from error
        return response

    def request(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        kind: str = "application/json",
    ) -> JsonObject:
        """Send a request and return the object of the answer (raw text under `text`)."""
        with self.open(method, path, body=body, kind=kind, timeout_s=20) as response:
            text = response.read().decode()
        try:
            found: JsonObject = json.loads(text)
        except ValueError:
            return {"text": text}
        return found

    def get(self, path: str) -> JsonObject:
        """Read one object or list."""
        return self.request("GET", path)

    def create(self, path: str, body: JsonObject) -> None:
        """Create an object; one of that name that is there already stays as it is."""
        try:
            self.request("POST", path, body)
        except RefusedError as error:
            if error.status != http.client.CONFLICT:
                raise

    def patch(self, path: str, body: JsonObject) -> JsonObject:
        """Merge fields into an object."""
        return self.request("PATCH", path, body, kind="application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Delete an object; none of that name is fine."""
        try:
            self.request("DELETE", path)
        except RefusedError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def watch(self, path: str, *, resource_version: str, seconds: int) -> Iterator[JsonObject]:
        """Yield changes ({type, object}) until the server ends the watch after `seconds`."""
        query = f"{path}?watch=1&resourceVersion={resource_version}&timeoutSeconds={seconds}"
        kind = "application/json"
        with self.open("GET", query, body=None, kind=kind, timeout_s=seconds + 10) as response:
            try:
                for line in response:
                    yield json.loads(line)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ClusterError(f"watch {path}: {error}") from error

    @property
    def is_ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.get("/readyz") == {"text": "ok"}
        except ClusterError:
            return False


def write_kubeconfig(
    path: Path, *, server: str, token: str, authority: Path, namespace: str = "default"
) -> None:
    """Write a kubeconfig (JSON is YAML) that only its owner can read."""
    config: Mapping[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "bench",
                "cluster": {"server": server, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [
            {
                "name": "bench",
                "context": {"cluster": "bench", "user": "bench", "namespace": namespace},
            }
        ],
        "current-context": "bench",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
