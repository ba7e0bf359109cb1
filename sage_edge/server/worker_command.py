"""The command line of a worker, made from this process's own. What is run with it is `server.worker_process`'s."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def worker_command() -> Sequence[str]:
    """How to start a worker that imports as this process does, with the options of its interpreter."""
    # As the standard library's multiprocessing does it, for want of another way.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # `-m` puts the current directory before the standard library: a gateway's queue.py is not to be taken for that.
    # The command `sage-edge` does not; the gateway finds its directory by itself.
    if not _is_current_directory_first():
        flags.append("-P")
    return [sys.executable, *flags, "-m", "sage_edge", *sys.argv[1:]]


def _is_current_directory_first() -> bool:
    try:
        return sys.path[0] in ("", str(Path.cwd()))
    except OSError:  # it has been removed
        return False
