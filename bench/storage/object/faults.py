"""What can be wrong with a request for an object: its class, whether it passes, what to do.

Faults cross from readers to the rank as numbers, in the place of an errno, so each one is
negative and has its words here.
"""

from __future__ import annotations

import enum
import re

__all__ = ["PASSING", "Fault", "ObjectFault", "classify", "describe", "error_code"]


class Fault(enum.IntEnum):
    """Why a request failed; the value takes the place of an errno."""

    DENIED = -101
    SIGNATURE = -102
    UNKNOWN_KEY = -103
    EXPIRED = -104
    CLOCK = -105
    NO_BUCKET = -106
    NO_OBJECT = -107
    CHANGED = -108
    WRONG_RANGE = -109
    OTHER_REGION = -110
    THROTTLED = -111
    SERVER = -112
    TIMEOUT = -113
    RESET = -114
    SHORT_BODY = -115
    CONNECT = -116
    TLS = -117
    NAME = -118
    PROTOCOL = -119
    NO_CREDENTIALS = -120
    REFUSED = -121


PASSING = frozenset(
    {
        Fault.THROTTLED,
        Fault.SERVER,
        Fault.TIMEOUT,
        Fault.RESET,
        Fault.SHORT_BODY,
        Fault.CONNECT,
        Fault.PROTOCOL,
        Fault.NAME,
    }
)
"""Faults that can pass: worth another try."""

WORDS: dict[Fault, tuple[str, str]] = {
    Fault.DENIED: (
        "access is denied",
        "allow s3:GetObject and s3:ListBucket on the prefix to the credentials in use",
    ),
    Fault.SIGNATURE: (
        "the server refuses the signature",
        "check the secret key, and the region and endpoint that the target names",
    ),
    Fault.UNKNOWN_KEY: (
        "the server does not know the access key",
        "check AWS_ACCESS_KEY_ID or the profile, and that they belong to this endpoint",
    ),
    Fault.EXPIRED: (
        "the credentials have expired",
        (
            "renew them, or use a source that bench can refresh: web identity, a container role, "
            "a profile with credential_process"
        ),
    ),
    Fault.CLOCK: (
        "the clock of this machine is too far from the server's",
        "set the clock (chronyc tracking), then run again",
    ),
    Fault.NO_BUCKET: (
        "the bucket does not exist",
        "check the bucket's name in storage.object.url, and the endpoint",
    ),
    Fault.NO_OBJECT: ("there is no such object", "run `bench prepare` to make what is missing"),
    Fault.CHANGED: (
        "the object is not the one in the manifest: its ETag is another",
        "somebody wrote it anew; run `bench prepare --verify`, then `--remake`",
    ),
    Fault.WRONG_RANGE: (
        "the server answered with another range than was asked for",
        "a proxy or cache between may be at fault; test with another endpoint",
    ),
    Fault.OTHER_REGION: (
        "the bucket is in another region",
        "set storage.object.region to the bucket's",
    ),
    Fault.THROTTLED: (
        "the server asks to slow down",
        "use fewer threads, spread keys over more prefixes, or ask for a higher limit",
    ),
    Fault.SERVER: ("the server reports an error of its own", "see the server's log"),
    Fault.TIMEOUT: (
        "no byte came within the time limit",
        "check the network; storage.io.timeout_seconds sets the limit",
    ),
    Fault.RESET: ("the connection was reset or closed", "check the network and the server"),
    Fault.SHORT_BODY: (
        "the body ended before its announced length",
        "check proxies on the way, and the server",
    ),
    Fault.CONNECT: ("no connection can be made", "check storage.object.endpoint_url"),
    Fault.TLS: (
        "the TLS handshake failed",
        "name the authority with storage.object.ca_bundle, or check the certificate's names",
    ),
    Fault.NAME: ("the endpoint's name cannot be resolved", "check storage.object.endpoint_url"),
    Fault.PROTOCOL: (
        "what came is not HTTP",
        "check that storage.object.endpoint_url has the right scheme and port",
    ),
    Fault.NO_CREDENTIALS: (
        "there are no credentials",
        (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or "
            "storage.object.credentials.source=anonymous"
        ),
    ),
    Fault.REFUSED: ("the server refuses the request", "see the server's log"),
}


class ObjectFault(Exception):  # noqa: N818 - a fault is what it is called everywhere
    """One request failed.

    Args:
        fault: Why.
        status: HTTP status; 0 where there was none.
        detail: What the server said, without anything secret; may be empty.
        found_bytes: Size of the object where the server told that it ends early, else -1.
        retry_after_seconds: What the server asked for; 0 for nothing.
    """

    def __init__(
        self,
        fault: Fault,
        status: int = 0,
        *,
        detail: str = "",
        found_bytes: int = -1,
        retry_after_seconds: float = 0.0,
    ) -> None:
        self.fault = fault
        self.status = status
        self.detail = detail
        self.found_bytes = found_bytes
        self.retry_after_seconds = retry_after_seconds
        super().__init__(fault.name, status, detail)

    @property
    def passing(self) -> bool:
        """Whether another try may go well."""
        return self.fault in PASSING


CODES = {
    "AccessDenied": Fault.DENIED,
    "AllAccessDisabled": Fault.DENIED,
    "SignatureDoesNotMatch": Fault.SIGNATURE,
    "InvalidAccessKeyId": Fault.UNKNOWN_KEY,
    "InvalidToken": Fault.UNKNOWN_KEY,
    "XAdminUserNotFound": Fault.UNKNOWN_KEY,  # versitygw's
    "ExpiredToken": Fault.EXPIRED,
    "TokenRefreshRequired": Fault.EXPIRED,
    "RequestExpired": Fault.EXPIRED,
    "RequestTimeTooSkewed": Fault.CLOCK,
    "NoSuchBucket": Fault.NO_BUCKET,
    "NoSuchKey": Fault.NO_OBJECT,
    "PreconditionFailed": Fault.CHANGED,
    "InvalidRange": Fault.WRONG_RANGE,
    "PermanentRedirect": Fault.OTHER_REGION,
    "TemporaryRedirect": Fault.OTHER_REGION,
    "AuthorizationHeaderMalformed": Fault.OTHER_REGION,
    "IllegalLocationConstraintException": Fault.OTHER_REGION,
    "SlowDown": Fault.THROTTLED,
    "RequestLimitExceeded": Fault.THROTTLED,
    "TooManyRequests": Fault.THROTTLED,
    "Throttling": Fault.THROTTLED,
    "ThrottlingException": Fault.THROTTLED,
    "ServiceUnavailable": Fault.THROTTLED,
    "InternalError": Fault.SERVER,
    "RequestTimeout": Fault.TIMEOUT,
}
"""Error codes of S3 (Amazon S3 API reference, "Error responses")."""

STATUSES = {
    301: Fault.OTHER_REGION,
    302: Fault.OTHER_REGION,
    307: Fault.OTHER_REGION,
    308: Fault.OTHER_REGION,
    401: Fault.DENIED,
    403: Fault.DENIED,
    404: Fault.NO_OBJECT,
    408: Fault.TIMEOUT,
    412: Fault.CHANGED,
    416: Fault.WRONG_RANGE,
    429: Fault.THROTTLED,
    503: Fault.THROTTLED,
}

CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,80})</Code>")


def error_code(body: bytes) -> str:
    """Return the error code in a body of S3; empty where it has none."""
    found = CODE.search(body)
    return found.group(1).decode() if found else ""


def classify(status: int, code: str) -> Fault:
    """Return the fault of an answer by its code, else by its status."""
    if code in CODES:
        return CODES[code]
    if status == 404 and code not in ("", "404", "NotFound"):
        return Fault.REFUSED  # something else than an object is not there
    if status in STATUSES:
        return STATUSES[status]
    return Fault.SERVER if status >= 500 else Fault.REFUSED


def describe(fault: Fault, status: int = 0, detail: str = "") -> tuple[str, str]:
    """Return the problem and the remedy, in words."""
    problem, remedy = WORDS[fault]
    more = ", ".join(part for part in (f"HTTP {status}" if status > 0 else "", detail) if part)
    return (f"{problem} ({more})" if more else problem), remedy
