"""Fixtures of tests that need an S3 server; import them into a conftest."""

from __future__ import annotations

import pytest

from tests.servers.versitygw import program, running


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running versitygw; its buckets are directories."""
    path = program()
    if path is None:
        pytest.skip("neither versitygw in the test cluster's cache nor Go to build it")
    with running(path, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server, with the environment that lets this process in."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def bucket(s3, request):
    """A bucket of the test's own, by name."""
    name = f"b{abs(hash(request.node.nodeid)) % 10**12:012d}"
    s3.bucket(name)
    return name
