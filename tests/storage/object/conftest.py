from __future__ import annotations

from tests.servers.fixtures import bucket, s3, s3_server

__all__ = ["bucket", "s3", "s3_server"]
