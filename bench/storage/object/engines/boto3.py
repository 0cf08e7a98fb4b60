"""boto3: `get_object` and `Body.readinto`, the client most jobs have."""

from __future__ import annotations

from typing import Any

from bench.storage.object.access import open_access
from bench.storage.object.engines.library import Fetch, OnFirstByte
from bench.storage.object.engines.target import declared
from bench.storage.object.faults import Fault, ObjectFault, classify

__all__ = ["open_fetch"]

READ_BYTES = 1 << 20
"""Of one readinto: larger ones gain nothing (urllib3 reads in its own steps)."""


def open_fetch(settings: dict[str, Any]) -> Fetch:
    """Return boto3's request; the client is shared, as boto3's are meant to be."""
    from botocore import exceptions as aws

    target = declared(settings)
    client = open_access(target, timeout_seconds=settings["timeout_seconds"], max_attempts=1).client
    bucket = settings["bucket"]

    def fetch(
        key: str, offset: int, view: memoryview, etag: str, on_first_byte: OnFirstByte
    ) -> int:
        condition = {"IfMatch": etag} if etag else {}
        wanted = f"bytes={offset}-{offset + len(view) - 1}"
        at = 0
        try:
            body = client.get_object(Bucket=bucket, Key=key, Range=wanted, **condition)["Body"]
            on_first_byte()
            while at < len(view):
                count = body.readinto(view[at : at + READ_BYTES])
                if not count:
                    break
                at += count
            body.close()
        except aws.ClientError as error:
            raise _refused(error) from error
        except (aws.ConnectTimeoutError, aws.ReadTimeoutError) as error:
            raise ObjectFault(Fault.TIMEOUT) from error
        except (aws.IncompleteReadError, aws.ResponseStreamingError) as error:
            raise ObjectFault(Fault.SHORT_BODY) from error
        except aws.SSLError as error:
            raise ObjectFault(Fault.TLS) from error
        except (aws.HTTPClientError, OSError) as error:
            raise ObjectFault(Fault.RESET) from error
        return at

    return fetch


def _refused(error: Any) -> ObjectFault:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    return ObjectFault(classify(status, code), status)
