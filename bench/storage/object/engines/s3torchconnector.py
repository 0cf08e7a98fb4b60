"""s3torchconnector: its client (the AWS CRT by way of mountpoint-s3), copied into the slot.

The connector's Python layer needs torch and adds nothing to reading a range; its client, the
package s3torchconnectorclient, is used as that layer uses it. Its retries cannot be turned off
altogether and are not seen here.
"""

from __future__ import annotations

import os
from typing import Any

from bench.storage.object.engines.library import Fetch, OnFirstByte, fill
from bench.storage.object.engines.target import fault_of_text
from bench.storage.object.faults import Fault, ObjectFault
from bench.storage.object.location import Location

__all__ = ["open_fetch"]


def open_fetch(settings: dict[str, Any]) -> Fetch:
    """Return the client's request; it is shared, with its own threads."""
    from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client, S3Exception

    location = Location(*settings["location"])
    if settings["ca_bundle"]:
        os.environ["SSL_CERT_FILE"] = settings["ca_bundle"]
    bucket = settings["bucket"]
    client = MountpointS3Client(
        region=location.region,
        user_agent_prefix="bench",
        profile=os.environ.get("AWS_PROFILE"),
        unsigned=settings["anonymous"],
        endpoint=settings["endpoint_url"],
        force_path_style=not location.virtual,
        max_attempts=1,
    )

    def fetch(
        key: str, offset: int, view: memoryview, etag: str, on_first_byte: OnFirstByte
    ) -> int:
        del etag  # the client has no conditional reads
        at = 0
        try:
            for chunk in client.get_object(bucket, key, offset, offset + len(view)):
                if at == 0:
                    on_first_byte()
                at = fill(view, at, chunk)
        except S3Exception as error:
            if "key does not exist" in str(error):
                raise ObjectFault(Fault.NO_OBJECT, 404) from error
            if "bucket does not exist" in str(error):
                raise ObjectFault(Fault.NO_BUCKET, 404) from error
            raise fault_of_text(str(error)) from error
        return at

    return fetch
