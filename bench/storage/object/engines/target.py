"""The declared target inside a reader of a library."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from bench.spec.documents import ObjectPrefix
from bench.storage.object.faults import Fault, ObjectFault, classify

__all__ = ["declared", "engine_version", "fault_of_text"]

PACKAGES = {
    "boto3": "boto3",
    "obstore": "obstore",
    "s3torchconnector": "s3torchconnectorclient",
    "s3fs": "s3fs",
}
"""Engine -> the distribution whose version tells what was measured. Of s3torchconnector it is
the client below it, which does all the work and needs no torch."""

STATUS = re.compile(r"\b([45]\d\d)\b")
CODE = re.compile(r"<Code>(\w+)</Code>|\b(SlowDown|ExpiredToken|RequestTimeTooSkewed|NoSuchKey"
                  r"|NoSuchBucket|AccessDenied|PreconditionFailed|InvalidRange)\b")  # fmt: skip


def declared(settings: dict[str, Any]) -> ObjectPrefix:
    """Return the target's document from a reader's configuration."""
    return ObjectPrefix.model_validate(settings["target"])


def engine_version(engine: str) -> str | None:
    """Return the version of an engine's library; None where it is not installed."""
    if engine not in PACKAGES:
        return None
    try:
        return importlib.metadata.version(PACKAGES[engine])
    except importlib.metadata.PackageNotFoundError:
        return None


def fault_of_text(text: str) -> ObjectFault:
    """Return the fault that a library tells in words only; the words themselves stay behind."""
    found, status = CODE.search(text), STATUS.search(text)
    number = int(status.group(1)) if status else 0
    if found or number:
        code = next((group for group in found.groups() if group), "") if found else ""
        return ObjectFault(classify(number, code), number)
    if "timed out" in text.lower() or "timeout" in text.lower():
        return ObjectFault(Fault.TIMEOUT)
    if "certificate" in text.lower():
        return ObjectFault(Fault.TLS)
    return ObjectFault(Fault.RESET)
