"""Run ids: lower-case ULIDs, which sort by the time they were made.

48 bits of milliseconds and 80 random bits in Crockford's base 32
(https://github.com/ulid/spec). Clock and randomness are passed in.
"""

from __future__ import annotations

__all__ = ["ID_LENGTH", "RANDOM_BYTES", "created_ms", "is_id", "new_id"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's: without i, l, o and u."""

ID_LENGTH = 26
RANDOM_BYTES = 10


def new_id(now_ns: int, *, random: bytes) -> str:
    """Return a new id.

    Args:
        now_ns: Wall clock, nanoseconds since 1970 (`time.time_ns`).
        random: 10 bytes of randomness (`os.urandom`).

    Raises:
        ValueError: The clock is before 1970 or after 10889, or there are not 10 bytes.
    """
    milliseconds = now_ns // 1_000_000
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"no id for the instant {now_ns} ns")
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an id needs {RANDOM_BYTES} random bytes, got {len(random)}")
    number = milliseconds << 80 | int.from_bytes(random, "big")
    return "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(ID_LENGTH)))


def is_id(text: str) -> bool:
    """Say whether `text` is an id that `new_id` could have made."""
    return len(text) == ID_LENGTH and text[0] <= "7" and not set(text) - set(ALPHABET)


def created_ms(run_id: str) -> int:
    """Return when an id was made, milliseconds since 1970.

    Raises:
        ValueError: It is no id.
    """
    if not is_id(run_id):
        raise ValueError(f"{run_id!r} is not a run id")
    number = 0
    for character in run_id:
        number = number << 5 | ALPHABET.index(character)
    return number >> 80
