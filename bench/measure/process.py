"""Meters of one process, ours or another one of the same user: /proc/PID.

A figure that cannot be read (no permission, no such file, the process has ended) is None,
"unknown", and never 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["ProcessMeter", "ProcessReading"]


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One reading; all figures but `pss_bytes` count up from the start of the process."""

    read_bytes: int | None
    """Bytes that the block layer fetched for this process; all bytes of O_DIRECT reads."""
    rchar_bytes: int | None
    """Bytes returned by read calls of any kind."""
    cpu_seconds: float | None
    """User and system time of all threads, in ticks of 1 / sysconf(SC_CLK_TCK)."""
    major_faults: int | None
    pss_bytes: int | None
    """Proportional set size now: each shared page counts by this process's share."""
    run_delay_seconds: float | None
    """Runnable but not running, of the threads that live now."""


class ProcessMeter:
    """Reads the meters of one process.

    Args:
        pid: The process.
        root: Where /proc is found; tests put a tree of their own there.
    """

    def __init__(self, pid: int, *, root: str = "/") -> None:
        self._directory = os.path.join(root, "proc", str(pid))

    @classmethod
    def own(cls) -> ProcessMeter:
        """Return the meter of the calling process."""
        return cls(os.getpid())

    def read(self) -> ProcessReading:
        """Read all meters; PSS walks all mappings, milliseconds with a large ring."""
        fields = self._fields("io")
        cpu_seconds, major_faults = self._stat()
        return ProcessReading(
            read_bytes=fields.get("read_bytes"),
            rchar_bytes=fields.get("rchar"),
            cpu_seconds=cpu_seconds,
            major_faults=major_faults,
            pss_bytes=self._pss_bytes(),
            run_delay_seconds=self._run_delay_seconds(),
        )

    def _pss_bytes(self) -> int | None:
        kilobytes = self._fields("smaps_rollup").get("Pss")
        return None if kilobytes is None else kilobytes * 1024

    def _fields(self, name: str) -> dict[str, int]:
        """Parse lines of "name: number [unit]"."""
        fields = {}
        for line in (self._text(name) or "").splitlines():
            key, _, value = line.partition(":")
            number = value.split()[:1]
            if number and number[0].isdigit():
                fields[key] = int(number[0])
        return fields

    def _stat(self) -> tuple[float | None, int | None]:
        # The second field is the command in brackets and may hold blanks and brackets.
        fields = (self._text("stat") or "").rpartition(")")[2].split()
        if len(fields) < 13:
            return None, None
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK"), int(fields[9])

    def _run_delay_seconds(self) -> float | None:
        try:
            threads = os.listdir(os.path.join(self._directory, "task"))
        except OSError:
            return None
        delays = []
        for thread in threads:
            fields = (self._text(f"task/{thread}/schedstat") or "").split()
            if len(fields) >= 2 and fields[1].isdigit():
                delays.append(int(fields[1]))
        return sum(delays) / 1e9 if delays else None

    def _text(self, name: str) -> str | None:
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError):
            return None
