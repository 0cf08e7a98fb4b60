"""Signatures of requests: AWS Signature Version 4 with an unsigned payload.

The formulas are those of the Amazon S3 API reference, "Signature calculations for the
Authorization header". Only host and x-amz-* headers are signed, so that the same signature
serves any range of an object; the payload is not, as over TLS it need not be and hashing it
would cost more than sending it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import NamedTuple

__all__ = ["UNSIGNED_PAYLOAD", "Credentials", "Signer"]

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


class Credentials(NamedTuple):
    """What requests are signed with; its representation tells nothing."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Signer:
    """Signs requests to one host; for one thread.

    Args:
        credentials: To sign with.
        region: Of the bucket.
        host: Value of the Host header.
    """

    def __init__(self, credentials: Credentials, *, region: str, host: str) -> None:
        self._credentials = credentials
        self._region = region
        self._host = host
        self._second = -1
        self._stamp = ""
        self._scope = ""
        self._key = b""
        self._day = ""

    def _tick(self, now: float) -> None:
        second = int(now)
        if second == self._second:
            return
        self._second = second
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = self._stamp[:8]
        if day != self._day:
            self._day = day
            key = _hmac(b"AWS4" + self._credentials.secret_key.encode(), day)
            for part in (self._region, "s3", "aws4_request"):
                key = _hmac(key, part)
            self._key = key
            self._scope = f"{day}/{self._region}/s3/aws4_request"

    def headers(self, method: str, path: str, query: str = "", *, now: float) -> str:
        """Return the header lines that sign a request, each ended by CRLF, Host among them.

        Args:
            method: GET, PUT ...
            path: Encoded as it is sent.
            query: Encoded, sorted by name, each name with "=".
            now: Wall clock, seconds.
        """
        self._tick(now)
        names = "host;x-amz-content-sha256;x-amz-date"
        lines = (
            f"host:{self._host}\nx-amz-content-sha256:{UNSIGNED_PAYLOAD}\n"
            f"x-amz-date:{self._stamp}\n"
        )
        token = self._credentials.token
        if token:
            names += ";x-amz-security-token"
            lines += f"x-amz-security-token:{token}\n"
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{UNSIGNED_PAYLOAD}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n{digest}"
        signature = _hmac(self._key, text).hex()
        return (
            f"Host: {self._host}\r\n"
            f"x-amz-content-sha256: {UNSIGNED_PAYLOAD}\r\nx-amz-date: {self._stamp}\r\n"
            + (f"x-amz-security-token: {token}\r\n" if token else "")
            + f"Authorization: AWS4-HMAC-SHA256 Credential={self._credentials.access_key}/"
            f"{self._scope}, SignedHeaders={names}, Signature={signature}\r\n"
        )
