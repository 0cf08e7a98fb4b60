"""obstore: the object_store crate of Rust, streamed and copied into the slot."""

from __future__ import annotations

import importlib
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.storage.object.cell import CredentialReader
from bench.storage.object.engines.library import Fetch, OnFirstByte, fill
from bench.storage.object.engines.target import fault_of_text
from bench.storage.object.faults import Fault, ObjectFault
from bench.storage.object.location import Location

__all__ = ["open_fetch"]

CHUNK_BYTES = 2 * 2**20
LOOK_AGAIN_SECONDS = 60
"""It asks anew for credentials this often; the cell holds renewed ones by then."""


def open_fetch(settings: dict[str, Any]) -> Fetch:
    """Return obstore's request; the store is shared."""
    obstore: Any = importlib.import_module("obstore")
    exceptions: Any = importlib.import_module("obstore.exceptions")
    stores: Any = importlib.import_module("obstore.store")
    location = Location(*settings["location"])
    if settings["ca_bundle"]:
        os.environ["SSL_CERT_FILE"] = settings["ca_bundle"]  # where its TLS library looks
    cell = CredentialReader(settings["credentials_fd"])

    def provide() -> dict[str, Any]:
        _, found = cell.read()
        if found is None:
            raise ObjectFault(Fault.NO_CREDENTIALS)
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token or None,
            "expires_at": datetime.now(UTC) + timedelta(seconds=LOOK_AGAIN_SECONDS),
        }

    anonymous = settings["anonymous"]
    store: Any = stores.S3Store(
        settings["bucket"],
        endpoint=settings["endpoint_url"],
        region=location.region,
        virtual_hosted_style_request=location.virtual,
        skip_signature=anonymous,
        credential_provider=None if anonymous else provide,
        client_options={
            "allow_http": not location.tls,
            "timeout": timedelta(seconds=settings["timeout_seconds"]),
        },
        retry_config={"max_retries": 0},
    )

    def fetch(
        key: str, offset: int, view: memoryview, etag: str, on_first_byte: OnFirstByte
    ) -> int:
        options: dict[str, Any] = {"range": (offset, offset + len(view))}
        if etag:
            options["if_match"] = etag
        at = 0
        try:
            found = obstore.get(store, key, options=options)
            on_first_byte()
            for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                at = fill(view, at, chunk)
        except FileNotFoundError as error:
            raise ObjectFault(Fault.NO_OBJECT, 404) from error
        except exceptions.PreconditionError as error:
            raise ObjectFault(Fault.CHANGED, 412) from error
        except exceptions.BaseError as error:
            raise fault_of_text(str(error)) from error
        return at

    return fetch
