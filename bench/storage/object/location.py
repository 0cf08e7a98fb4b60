"""From a target's address to hosts and paths of requests."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from bench.errors import UsageError

__all__ = ["Location", "Place", "encode_key", "locate", "split_url"]

SAFE = "/-_.~"
"""Left as they are in a path, beside letters and digits (SigV4, "UriEncode")."""

VIRTUAL_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that can be a part of a host name; one with dots would break the certificate."""

DEFAULT_REGION = "us-east-1"


class Place(NamedTuple):
    """A bucket and a prefix in it, without slashes at its ends."""

    bucket: str
    prefix: str

    def key(self, name: str) -> str:
        """Return the key of a name below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def url(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"


class Location(NamedTuple):
    """Where requests for a bucket go.

    Attributes:
        bucket: Its name.
        scheme: http or https.
        host: To connect to.
        port: To connect to.
        host_header: As it is sent and signed.
        base_path: What stands before an encoded key, from "/" to "/".
        region: To sign for.
    """

    bucket: str
    scheme: str
    host: str
    port: int
    host_header: str
    base_path: str
    region: str

    @property
    def virtual(self) -> bool:
        """Whether the bucket is a part of the host's name."""
        return self.host.startswith(f"{self.bucket}.")

    @property
    def tls(self) -> bool:
        """Whether bytes are encrypted on the way."""
        return self.scheme == "https"


def split_url(url: str) -> Place:
    """Return bucket and prefix of an s3 address.

    Raises:
        UsageError: It is none.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket or any(c in bucket for c in "@:?#"):
        raise UsageError(
            "storage.object.url",
            f"{url!r} is not s3://BUCKET/PREFIX",
            "stores with an S3 interface of their own can be named by endpoint_url",
        )
    return Place(bucket, prefix.strip("/"))


def encode_key(key: str) -> str:
    """Return a key as it stands in a path: everything but the unreserved encoded, once."""
    return quote(key, safe=SAFE)


def locate(bucket: str, *, endpoint_url: str, region: str, addressing: str) -> Location:
    """Return where requests for a bucket go.

    Args:
        bucket: Its name.
        endpoint_url: Of the service, without the bucket.
        region: To sign for.
        addressing: path, virtual, or auto: virtual for Amazon's own endpoints, path for others.

    Raises:
        UsageError: The endpoint is no http address.
    """
    parts = urlsplit(endpoint_url)
    place = "storage.object.endpoint_url"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(place, f"{endpoint_url!r} is not http://HOST or https://HOST")
    if parts.username or parts.password:
        raise UsageError(
            place, "holds a user name or password", "credentials belong into the environment"
        )
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError(place, f"{endpoint_url!r} has no valid port") from error
    amazon = ".amazonaws.com" in parts.hostname
    virtual = addressing == "virtual" or (
        addressing == "auto" and amazon and VIRTUAL_BUCKET.fullmatch(bucket) is not None
    )
    host = f"{bucket}.{parts.hostname}" if virtual else parts.hostname
    shown = f"[{host}]" if ":" in host else host
    usual = port == (443 if parts.scheme == "https" else 80)
    root = parts.path.rstrip("/")
    base = f"{root}/" if virtual else f"{root}/{encode_key(bucket)}/"
    return Location(
        bucket, parts.scheme, host, port, shown if usual else f"{shown}:{port}", base, region
    )
