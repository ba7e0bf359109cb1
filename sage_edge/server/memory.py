"""What a process has of memory, as the system counts it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""The GNU C library's; others have none."""


def resident_bytes(pid: int) -> int:
    """What a process has of the machine's memory now; 0 where the system does not say, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * PAGE_BYTES


def allocated_bytes(pid: int) -> int:
    """The same without pages of files, which the system can drop, and which other processes may have as well.

    What a process has written to its private copy of a file counts, and so does memory that is shared but of no file.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def give_back() -> None:
    """Give free memory of this process back to the system: what was freed between what is in use is kept otherwise."""
    if _trim is not None:
        _trim(0)
