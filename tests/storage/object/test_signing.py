"""Signatures are botocore's, byte by byte; addresses are what S3 expects."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials

from bench.errors import UsageError
from bench.storage.object.location import encode_key, locate, split_url
from bench.storage.object.sigv4 import Credentials, Signer

NOW = 1_790_000_000.0


def botocore_signature(method, url, *, token, region, monkeypatch):
    moment = datetime.fromtimestamp(NOW, UTC)
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda *_, **__: moment.replace(tzinfo=None)
    )
    request = AWSRequest(method, url)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    request.context["payload_signing_enabled"] = False
    request.headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
    S3SigV4Auth(BotoCredentials("AKID", "secret/+key", token or None), "s3", region).add_auth(
        request
    )
    return re.search(r"Signature=(\w+)", request.headers["Authorization"]).group(1)


@pytest.mark.parametrize("token", ["", "a/session+token=="])
@pytest.mark.parametrize(
    ("key", "query"),
    [
        ("plain/key.bin", ""),
        ("with space/and+plus/ü~!*'().bin", ""),
        ("100%/a=b&c?d#e", ""),
        ("", "list-type=2&max-keys=1&prefix=a%2Fb"),
    ],
)
def test_signatures_agree_with_botocore(monkeypatch, key, query, token):
    path = "/bucket/" + encode_key(key)
    url = f"https://s3.example.com:9000{path}" + (f"?{query}" if query else "")
    expected = botocore_signature(
        "GET", url, token=token, region="eu-west-3", monkeypatch=monkeypatch
    )
    signer = Signer(
        Credentials("AKID", "secret/+key", token), region="eu-west-3", host="s3.example.com:9000"
    )
    lines = signer.headers("GET", path, query, now=NOW)
    assert f"Signature={expected}\r\n" in lines
    assert ("x-amz-security-token" in lines) == bool(token)


def test_a_signature_changes_with_the_day():
    signer = Signer(Credentials("a", "b"), region="r", host="h")
    one, other = (signer.headers("GET", "/x", now=NOW + days * 86400) for days in (0, 1))
    fresh = Signer(Credentials("a", "b"), region="r", host="h").headers(
        "GET", "/x", now=NOW + 86400
    )
    assert one != other == fresh


def test_credentials_show_nothing():
    assert "secret" not in repr(Credentials("key", "secret", "secret"))
    assert "secret" not in f"{Credentials('key', 'secret')}"


@pytest.mark.parametrize(
    ("endpoint", "addressing", "host", "port", "header", "base"),
    [
        ("https://s3.eu-west-3.amazonaws.com", "auto", "bkt.s3.eu-west-3.amazonaws.com", 443,
         "bkt.s3.eu-west-3.amazonaws.com", "/"),
        ("https://s3.eu-west-3.amazonaws.com", "path", "s3.eu-west-3.amazonaws.com", 443,
         "s3.eu-west-3.amazonaws.com", "/bkt/"),
        ("http://127.0.0.1:9000", "auto", "127.0.0.1", 9000, "127.0.0.1:9000", "/bkt/"),
        ("http://store:80", "auto", "store", 80, "store", "/bkt/"),
        ("http://store:9000/deep/", "auto", "store", 9000, "store:9000", "/deep/bkt/"),
        ("http://store:9000", "virtual", "bkt.store", 9000, "bkt.store:9000", "/"),
        ("http://[::1]:9000", "auto", "::1", 9000, "[::1]:9000", "/bkt/"),
    ],
)  # fmt: skip
def test_addresses(endpoint, addressing, host, port, header, base):
    found = locate("bkt", endpoint_url=endpoint, region="r", addressing=addressing)
    assert (found.host, found.port, found.host_header, found.base_path) == (
        host, port, header, base,
    )  # fmt: skip
    assert found.virtual == (base == "/")


def test_a_bucket_with_dots_stays_in_the_path():
    found = locate("a.b", endpoint_url="https://s3.amazonaws.com", region="r", addressing="auto")
    assert (found.host, found.base_path) == ("s3.amazonaws.com", "/a.b/")


@pytest.mark.parametrize("url", ["gs://b/x", "s3://", "s3:///x", "s3://user:word@b/x", "b/x"])
def test_what_is_no_s3_address_is_refused(url):
    with pytest.raises(UsageError):
        split_url(url)


def test_credentials_in_an_endpoint_are_refused_and_not_repeated():
    with pytest.raises(UsageError) as caught:
        locate("b", endpoint_url="https://me:hidden@h", region="r", addressing="auto")
    assert "hidden" not in str(caught.value)
