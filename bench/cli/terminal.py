"""Text on terminals: what comes from files and other machines is made harmless first."""

from __future__ import annotations

from rich.text import Text

__all__ = ["clean", "text"]


def clean(words: object) -> str:
    """Return text on one line in which nothing steers a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(words))


def text(words: object, *, style: str = "") -> Text:
    """Return cleaned text for rich, whose markup is not read."""
    return Text(clean(words), style=style)
