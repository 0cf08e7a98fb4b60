"""One signed request before anything is made or measured: is it there, may we, what is it?"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from bench.storage.object.access import Access, Renewal, worded
from bench.storage.object.cell import CredentialReader
from bench.storage.object.faults import Fault, ObjectFault
from bench.storage.object.http import HttpClient, HttpSettings
from bench.storage.object.location import encode_key
from bench.storage.object.retry import RetryPolicy

__all__ = ["MAX_CLOCK_SKEW_SECONDS", "object_facts"]

MAX_CLOCK_SKEW_SECONDS = 15 * 60.0
"""Beyond it S3 refuses signatures ("RequestTimeTooSkewed")."""

ZONE_OF_BUCKET = re.compile(r"--([a-z0-9]+-az\d+)--x-s3$")
"""Directory buckets carry their availability zone in their names."""


def object_facts(access: Access, *, timeout_seconds: float, max_attempts: int) -> dict[str, Any]:
    """List one key of the target, signed as the readers sign, and return what was learnt.

    Raises:
        TargetError: The target cannot be read; says why.
    """
    renewal = Renewal(access)
    try:
        with worded(access.place.url):
            return _asked(access, renewal, timeout_seconds, max_attempts)
    finally:
        renewal.close()


def _asked(
    access: Access, renewal: Renewal, timeout_seconds: float, max_attempts: int
) -> dict[str, Any]:
    location, place = access.location, access.place
    retry = RetryPolicy(max_attempts=max_attempts)
    settings = HttpSettings(location, access.ca_bundle, timeout_seconds, retry)
    endpoint = settings.endpoint()
    credentials = CredentialReader(renewal.fd)
    client = HttpClient(location, endpoint, credentials)
    prefix = encode_key(place.prefix).replace("/", "%2F")
    try:
        head = _listed(client, f"list-type=2&max-keys=1&prefix={prefix}", retry)
        _check_clock(head.text(b"date"))
        zone = ZONE_OF_BUCKET.search(place.bucket)
        return {
            "file_system": "object store",
            "endpoint_url": f"{location.scheme}://{location.host_header}",
            "region": location.region,
            "url": place.url,
            "addressing": "virtual" if location.virtual else "path",
            "tls": client.connection.tls_version,
            "addresses": sorted({str(a[0]) for _, a in endpoint.addresses()}),
            "server": head.text(b"server") or "unknown",
            "zone": zone.group(1) if zone else "unknown",
            "credentials": access.credential_source,
        }
    finally:
        client.connection.close()
        credentials.close()


def _listed(client: HttpClient, query: str, retry: RetryPolicy) -> Any:
    path = ""
    for attempt in range(retry.max_attempts):
        try:
            client.connection.send(client.request("GET", path, query=query))
            head = client.connection.head()
            if head.status != 200:
                raise client.refusal(head)
            return head
        except ObjectFault as fault:
            if fault.fault is Fault.NO_OBJECT:  # nothing but the bucket was asked for
                raise ObjectFault(Fault.NO_BUCKET, fault.status) from fault
            if not fault.passing or attempt + 1 >= min(3, retry.max_attempts):
                raise
            time.sleep(retry.delay_seconds(0, attempt))
    raise ObjectFault(Fault.SERVER)


def _check_clock(date: str) -> None:
    """Refuse a clock that S3 would refuse too; servers that do not look are no reason to go on."""
    try:
        told = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    if abs(time.time() - told) > MAX_CLOCK_SKEW_SECONDS:
        raise ObjectFault(Fault.CLOCK, detail=f"by {abs(time.time() - told):.0f} s")
