"""What a gateway has left running when its process ends, and the interpreter would wait for without limit.

That are threads that are no daemons, those of executors among them, and processes of `multiprocessing`'s. Processes
that it has started otherwise are left alone here, and go on without the edge. Those in a worker's process group do not:
`server.worker_process` kills what is left of it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sage_edge.core.logger import EdgeLogger

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

log = EdgeLogger("sage_edge")

EXIT_SECONDS = 5.0
"""How long a process may take to exit after its last words: for these to end, and for what `atexit` was told."""
TELL_SECONDS = 1.0
"""Of that, for what is left then to be told and ended."""


def tell_left_running() -> None:
    """Log by name what is left behind. Where that is nothing, a handler of `atexit` does not return."""
    threads = [thread.name for thread in threading.enumerate() if _is_waited_for(thread)]
    processes = [process.name for process in _find_processes()]
    log.error(
        "what the gateway has left running does not end and is left behind",
        threads=", ".join(threads),
        processes=", ".join(processes),
    )


def terminate_processes() -> None:
    """Tell them to end; they are not waited for."""
    for process in _find_processes():
        process.terminate()


def _is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def _find_processes() -> Sequence[BaseProcess]:
    module = sys.modules.get("multiprocessing.process")  # where nobody has imported it, there are none
    return module.active_children() if module is not None else []
