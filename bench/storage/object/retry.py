"""How often and how late a request is tried again."""

from __future__ import annotations

from typing import NamedTuple

from bench.storage.simulated import uniform

__all__ = ["RetryPolicy"]


class RetryPolicy(NamedTuple):
    """Exponential backoff with jitter: attempt n waits base x 2^n, times 0.5 to 1.

    Jitter comes from (seed, request, attempt), so that a run can be repeated, and keeps
    threads that failed together from coming back together.
    """

    max_attempts: int = 8
    """Tries of one request, the first included."""
    base_seconds: float = 0.05
    cap_seconds: float = 5.0
    seed: int = 1

    def delay_seconds(
        self, request: int, attempt: int, *, retry_after_seconds: float = 0.0
    ) -> float:
        """Return how long to wait after a failed attempt.

        Args:
            request: Number of the request.
            attempt: 0-based number of the attempt that failed.
            retry_after_seconds: The server's wish, followed up to the cap.
        """
        wait = min(self.cap_seconds, self.base_seconds * 2.0**attempt)
        jitter = uniform(self.seed, request * 64 + attempt)
        return max(wait * (0.5 + 0.5 * jitter), min(retry_after_seconds, self.cap_seconds))
