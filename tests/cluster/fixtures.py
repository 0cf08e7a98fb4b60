"""pytest fixtures of tests on a real cluster: `from tests.cluster.fixtures import *`.

KUBECONFIG names the cluster where it is set; otherwise the throwaway one is brought up, and
taken down again if it was not up before. A machine that cannot have it skips these tests and
says so; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import kubernetes.client
import kubernetes.config
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.settings import ClusterError, Layout

__all__ = ["TestCluster", "cluster", "namespace"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TestCluster:
    """The cluster under test.

    Args:
        kubeconfig: Of an administrator.
        image: Name of the image of `bench`, which the nodes have or can fetch.
        own: The throwaway cluster, with all that can be done to it; None for somebody's.
    """

    kubeconfig: Path
    image: str
    own: Cluster | None

    __test__ = False

    @property
    def api_client(self) -> kubernetes.client.ApiClient:
        """The official client, for `CoreV1Api(cluster.api_client)` and its like."""
        found: kubernetes.client.ApiClient = kubernetes.config.new_client_from_config(
            str(self.kubeconfig)
        )
        return found

    def require_own(self) -> Cluster:
        """Return the throwaway cluster; skip the test on somebody's."""
        if self.own is None:
            pytest.skip("needs the throwaway cluster; unset KUBECONFIG")
        return self.own

    def wait_for(self, condition: Callable[[], T], *, what: str, seconds: float = 60) -> T:
        """Poll until the condition gives something true, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.1)
        return found


def missing(reason: str) -> None:
    """Fail in CI, skip elsewhere: this machine has no cluster to test on."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no cluster: {reason}")
    pytest.skip(f"!!! no cluster to test on: {reason}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """The cluster under test; this process is in its network while the fixture lives."""
    layout = Layout.of_environment()
    named = os.environ.get("KUBECONFIG")
    if named and Path(named).resolve() != layout.kubeconfig:
        image = os.environ.get("BENCH_TEST_IMAGE")
        if not image:
            missing("KUBECONFIG is set; set BENCH_TEST_IMAGE to an image that its nodes can fetch")
        yield TestCluster(kubeconfig=Path(named), image=str(image), own=None)
        return
    own = Cluster(layout, tell=lambda line: print(f"cluster: {line}"))
    with ExitStack() as stack:
        try:
            if not own.is_up:
                stack.callback(lambda: own.down() if layout.state.exists() else None)
            own.up()
            stack.enter_context(own.inside())
        except ClusterError as error:
            missing(str(error))
        yield TestCluster(kubeconfig=layout.kubeconfig, image=own.image().reference, own=own)


@pytest.fixture
def namespace(cluster: TestCluster) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`; it goes with all in it."""
    name = f"bench-test-{uuid.uuid4().hex[:8]}"
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})

    def has_account() -> bool:
        found = core.list_namespaced_service_account(name).items
        return any(account.metadata.name == "default" for account in found)

    # Until the controller has made it, pods are refused.
    cluster.wait_for(has_account, what="the namespace's service account")
    yield name
    core.delete_namespace(name)
