"""SIGHUP: certificates are loaded again."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.server.certificate_store import CertificateStore
from sage_edge.server.notify import Notifier
from sage_edge.server.worker_link import WorkerLink

log = EdgeLogger(__name__)


async def reload_on_hang_up(
    store: CertificateStore | None,
    notifier: Notifier,
    describe_status: Callable[[], str],
    is_ready: Callable[[], bool],
    link: WorkerLink | None,
) -> None:
    """Load certificates again with each SIGHUP; runs until it is cancelled.

    Args:
        store: the certificates; None for plaintext.
        notifier: the service manager's, which is told of reloads once it has been told that the edge is ready.
        describe_status: the status line now.
        is_ready: whether that has happened, and no end has begun.
        link: to the supervisor, where there is one, which is told of each reload's end.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            is_told = is_ready()
            if is_told:
                notifier.reloading("loading certificates")
            if store is None:
                log.info("nothing to reload: the edge has no certificate", signal="SIGHUP")
            else:
                log.info("loading certificates", signal="SIGHUP")
                await store.reload()
            if link is not None:
                link.say("reloaded")
            if is_told and is_ready():
                notifier.ready(describe_status())
