"""Access to a bucket the AWS way: credentials, endpoint and region by botocore's chain.

Everything but the hot path of the engine `http` goes through the client made here: listing,
writing, deleting. Runs in launchers and ranks, never in readers.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from bench.errors import TargetError
from bench.spec.documents import ObjectPrefix
from bench.storage.object.cell import CredentialWriter
from bench.storage.object.faults import Fault, ObjectFault, classify, describe
from bench.storage.object.location import DEFAULT_REGION, Location, Place, locate, split_url
from bench.storage.object.sigv4 import Credentials

__all__ = ["Access", "Renewal", "addressing_style", "ca_file", "open_access", "worded"]

RENEW_SECONDS = 20.0
"""Between looks at credentials that can expire; botocore renews 10 to 15 minutes ahead."""

MAX_CONNECTIONS = 64


class Access:
    """A bucket, and how to get into it.

    Args:
        target: As declared.
        place: Bucket and prefix.
        client: boto3's, of the bucket's endpoint and region.
        provider: botocore's credentials; None for anonymous access.
        location: Where requests go.
    """

    def __init__(
        self, target: ObjectPrefix, place: Place, client: Any, provider: Any, location: Location
    ) -> None:
        self.target = target
        self.place = place
        self.client = client
        self.location = location
        self._provider = provider

    def credentials(self) -> Credentials | None:
        """Return what to sign with now, renewed where it was due; None for anonymous access.

        Raises:
            TargetError: They cannot be had.
        """
        if self._provider is None:
            return None
        with worded(self.place.url):
            frozen = self._provider.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    @property
    def ca_bundle(self) -> str | None:
        """File with authorities; None for the system's."""
        return ca_file(self.target)

    @property
    def credential_source(self) -> str:
        """Name of the source in botocore's chain, for documents."""
        return "anonymous" if self._provider is None else str(self._provider.method)

    @property
    def renewable(self) -> bool:
        """Whether they expire and can be renewed."""
        return hasattr(self._provider, "refresh_needed")


def open_access(
    target: ObjectPrefix, *, timeout_seconds: float = 30.0, max_attempts: int = 8
) -> Access:
    """Resolve credentials, endpoint and region; asks no server but the credentials' sources.

    Args:
        target: What the document says; what it leaves open comes from the AWS configuration.
        timeout_seconds: Of requests.
        max_attempts: Tries of one request.

    Raises:
        TargetError: There are no credentials, or the configuration is wrong.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    place = split_url(target.url)
    anonymous = target.credentials.source == "anonymous"
    with worded(place.url):
        session = boto3.Session()
        region = target.region or session.region_name or DEFAULT_REGION

        def connect(style: str) -> Any:
            return session.client(
                "s3",
                endpoint_url=target.endpoint_url,
                region_name=region,
                verify=ca_file(target),
                config=Config(
                    signature_version=UNSIGNED if anonymous else None,
                    connect_timeout=min(10.0, timeout_seconds),
                    read_timeout=timeout_seconds,
                    retries={"mode": "standard", "total_max_attempts": max_attempts},
                    max_pool_connections=MAX_CONNECTIONS,
                    s3={"addressing_style": style},
                    # Servers other than Amazon's know no trailing checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

        client = connect("path")
        location = locate(
            place.bucket,
            endpoint_url=client.meta.endpoint_url,
            region=client.meta.region_name or region,
            addressing=target.addressing,
        )
        if addressing_style(target, location) != "path":
            client = connect("virtual")
        provider = None if anonymous else session.get_credentials()
    if provider is None and not anonymous:
        raise TargetError(place.url, *describe(Fault.NO_CREDENTIALS))
    return Access(target, place, client, provider, location)


def ca_file(target: ObjectPrefix) -> str | None:
    """Return the file with authorities; None for the system's.

    The one that the target names, unless it is not there and the environment names another:
    in a pod it lies elsewhere.
    """
    told = os.environ.get("AWS_CA_BUNDLE") or None
    named = target.ca_bundle or None
    return told if named is None or (told and not os.path.exists(named)) else named


def addressing_style(target: ObjectPrefix, location: Location) -> str:
    """Return the addressing as botocore names it, the same as that of `location`."""
    if target.addressing == "auto":
        return "virtual" if location.virtual else "path"
    return target.addressing


@contextlib.contextmanager
def worded(place: str) -> Iterator[None]:
    """Word the refusals of S3 and of botocore.

    Raises:
        TargetError: For any of them; holds nothing secret.
    """
    from botocore import exceptions as aws

    try:
        yield
    except aws.ClientError as error:
        raise _refused(place, error) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise TargetError(place, *describe(Fault.NO_CREDENTIALS)) from error
    except (aws.ConnectTimeoutError, aws.ReadTimeoutError) as error:
        raise TargetError(place, *describe(Fault.TIMEOUT)) from error
    except aws.SSLError as error:
        raise TargetError(place, *describe(Fault.TLS)) from error
    except (aws.EndpointConnectionError, aws.HTTPClientError) as error:
        raise TargetError(place, *describe(Fault.CONNECT)) from error
    except aws.BotoCoreError as error:
        raise TargetError(
            place,
            f"the AWS configuration cannot be used ({type(error).__name__}: {error})",
            "check AWS_PROFILE, the shared configuration files and their profiles",
        ) from error
    except ValueError as error:  # botocore's own checks of endpoints and names
        raise TargetError(place, f"cannot be addressed ({error})") from error
    except ObjectFault as fault:
        raise TargetError(place, *describe(fault.fault, fault.status, fault.detail)) from fault


def _refused(place: str, error: Any) -> TargetError:
    answer = error.response
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(answer.get("Error", {}).get("Code", ""))
    fault = classify(status, code)
    region = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if fault is Fault.OTHER_REGION and region:
        code = f"it is in {region}"
    return TargetError(place, *describe(fault, status, "" if code.isdigit() else code))


class Renewal:
    """Keeps the cell that readers sign from up to date, on a thread where that is needed.

    Args:
        access: Whose credentials.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._writer = CredentialWriter()
        self._stop = threading.Event()
        self._last = access.credentials()
        self._writer.write(self._last)
        self._thread: threading.Thread | None = None
        if access.renewable:
            self._thread = threading.Thread(target=self._renew, name="credentials", daemon=True)
            self._thread.start()

    @property
    def fd(self) -> int:
        """Descriptor for the readers."""
        return self._writer.fd

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            # What cannot be renewed now may be later; until it expires, nothing is lost.
            with contextlib.suppress(TargetError):
                found = self._access.credentials()
                if found != self._last:
                    self._last = found
                    self._writer.write(found)

    def close(self) -> None:
        """Stop, and forget them."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._writer.close()
