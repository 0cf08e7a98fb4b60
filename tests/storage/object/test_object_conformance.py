"""Every engine does what every storage backend must do, against a server that checks signatures."""

from __future__ import annotations

import pytest

from bench.spec.documents import Io, ObjectPrefix
from bench.storage.conformance import StoreConformance, object_subject
from bench.storage.object.engines.target import engine_version
from tests.servers.fault_proxy import proxy

ENGINES = ("http", "boto3", "obstore", "s3torchconnector", "s3fs")


class TestObjects(StoreConformance):
    @pytest.fixture(params=ENGINES)
    def subject(self, s3, bucket, request):
        if request.param != "http" and engine_version(request.param) is None:
            pytest.skip(f"{request.param} is not installed")
        target = ObjectPrefix(url=f"s3://{bucket}/some/prefix", endpoint_url=s3.url)
        with object_subject(target, io=Io(engine=request.param)) as subject:
            yield subject


class TestBucketRoot(StoreConformance):
    @pytest.fixture
    def subject(self, s3, bucket):
        target = ObjectPrefix(url=f"s3://{bucket}", endpoint_url=s3.url)
        with object_subject(target) as subject:
            yield subject


class TestThroughAProxy(StoreConformance):
    @pytest.fixture
    def subject(self, s3, bucket):
        with proxy(s3) as between:
            target = ObjectPrefix(url=f"s3://{bucket}/x", endpoint_url=between.url)
            with object_subject(target) as subject:
                yield subject
