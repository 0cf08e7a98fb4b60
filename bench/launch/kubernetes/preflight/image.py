"""Whether text is a reference to an image, as registries and runtimes read it."""

from __future__ import annotations

import re

__all__ = ["image_problem", "is_pinned"]

# The grammar of github.com/distribution/reference.
COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
HOST = rf"(?:{COMPONENT}(?:\.{COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = re.compile(rf"(?:{HOST}/)?{PART}(?:/{PART})*")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-f]{32,}")
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")

MAX_NAME = 255


def is_pinned(reference: str) -> bool:
    """Whether a reference names its bytes, and not a tag that can be moved."""
    return bool(SHA256.fullmatch(reference.partition("@")[2]))


def image_problem(reference: str) -> str | None:
    """Return what is wrong with a reference to an image; None where it is one."""
    name, at, digest = reference.partition("@")
    if at and not DIGEST.fullmatch(digest):
        return f"has no digest behind @ but {digest!r}"
    if digest.startswith("sha256:") and not SHA256.fullmatch(digest):
        return "has a sha256 digest that is not 64 hexadecimal digits"
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        if not TAG.fullmatch(tag):
            return f"has no tag behind the colon but {tag!r}"
        name = head
    if len(name) > MAX_NAME:
        return f"has a name of more than {MAX_NAME} characters"
    if not NAME.fullmatch(name):
        lower = " (capitals are not allowed)" if name != name.lower() else ""
        return f"has no name of an image but {name!r}{lower}"
    return None
