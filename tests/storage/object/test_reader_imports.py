"""A reader of the engine `http` stays as small as one of files."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("botocore", "boto3", "pydantic", "numpy", "s3fs", "urllib3", "http.client", "email")


def test_the_engine_http_imports_the_standard_library_alone(repository):
    program = (
        "import sys, bench.loader.reader, bench.storage.object.opening\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
