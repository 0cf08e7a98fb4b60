"""s3fs, by the interface of fsspec: the compatibility column.

`cat_file` returns fresh bytes, which are copied into the slot; neither the first byte nor
conditional reads can be seen through it.
"""

from __future__ import annotations

from typing import Any

from bench.storage.object.access import addressing_style
from bench.storage.object.engines.library import Fetch, OnFirstByte, fill
from bench.storage.object.engines.target import declared, fault_of_text
from bench.storage.object.faults import Fault, ObjectFault
from bench.storage.object.location import Location

__all__ = ["open_fetch"]


def open_fetch(settings: dict[str, Any]) -> Fetch:
    """Return the request of a file system of fsspec; it is shared, with its one event loop."""
    bucket = settings["bucket"]
    filesystem = _s3fs(settings)

    def fetch(
        key: str, offset: int, view: memoryview, etag: str, on_first_byte: OnFirstByte
    ) -> int:
        del etag, on_first_byte
        try:
            data = filesystem.cat_file(f"{bucket}/{key}", start=offset, end=offset + len(view))
        except FileNotFoundError as error:
            raise ObjectFault(Fault.NO_OBJECT, 404) from error
        except PermissionError as error:
            raise ObjectFault(Fault.DENIED, 403) from error
        except TimeoutError as error:
            raise ObjectFault(Fault.TIMEOUT) from error
        except OSError as error:
            raise fault_of_text(str(error)) from error
        return fill(view, 0, data)

    return fetch


def _s3fs(settings: dict[str, Any]) -> Any:
    import s3fs

    target, location = declared(settings), Location(*settings["location"])
    return s3fs.S3FileSystem(
        anon=settings["anonymous"],
        endpoint_url=settings["endpoint_url"],
        client_kwargs={
            "region_name": location.region,
            "verify": settings["ca_bundle"] or None,
        },
        config_kwargs={
            "retries": {"total_max_attempts": 1},
            "read_timeout": settings["timeout_seconds"],
            "s3": {"addressing_style": addressing_style(target, location)},
            "max_pool_connections": 64,
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
