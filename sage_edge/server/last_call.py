"""The end of listening of an edge with workers: who comes later is refused, though a worker hangs.

A socket is listened on for as long as any process has it. So it is the supervisor that ends that, for all of them, and
last: not before those that serve have accepted what waits. How a worker ends is `server.worker`'s.
"""

from __future__ import annotations

from collections.abc import Collection

import trio

from sage_edge.server.hand_over import CLOSED_SECONDS
from sage_edge.server.place import wait_for_any
from sage_edge.server.shared_listeners import SharedListeners
from sage_edge.server.worker_process import QUIET_SECONDS, WorkerProcess


async def end_listening(
    listeners: SharedListeners, workers: Collection[WorkerProcess], last_call_seconds: float
) -> None:
    """Close the supervisor's sockets once the workers have closed theirs.

    Args:
        listeners: to be closed.
        workers: all processes, told to drain.
        last_call_seconds: for how long they still accept.
    """
    listeners.hand_over()
    await trio.sleep(last_call_seconds)
    listeners.remove_paths()  # first: nobody is to find a path that nobody serves
    ready = [worker for worker in workers if worker.ready.is_set()]  # others have accepted nothing
    # What waits for one that is silent, others accept: it is waited for where it alone can.
    answering = [worker for worker in ready if not worker.is_silent] or ready
    with trio.move_on_after(QUIET_SECONDS):
        for worker in answering:
            await wait_for_any(worker.closed, worker.ended)
    if listeners.is_port_shared:
        await trio.sleep(CLOSED_SECONDS)  # others have what is new; the plaintext port is closed in the same moment
    listeners.close_edge()
    if all(worker.closed.is_set() or worker.ended.is_set() for worker in ready):
        listeners.leave_redirects()
        return
    for worker in answering:  # they tell of health on the plaintext port until they end
        if worker.closed.is_set():
            await worker.ended.wait()
    listeners.close()
