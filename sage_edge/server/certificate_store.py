"""The certificates in use, and their replacement while connections go on.

What is on disk is looked at again and again, since mounted secrets are links that are swapped, and network file
systems tell of nothing. Whatever is wrong with new files, the certificates in use stay in use. Connections keep what
they were made with. A reload makes new contexts, so that session tickets from before are not resumed: their clients
see the new certificate, and are verified against the new client CAs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
import trio

from sage_edge.core.errors import EdgeError, Fault
from sage_edge.server.certificate_faults import certificate_text
from sage_edge.server.certificate_set import CertificateSet, ServedCertificate, load_certificates
from sage_edge.server.certificates import file_fault
from sage_edge.server.tls import TLSFiles, expiry_warning
from sage_edge.server.tls_extension import ShownCertificate

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""How often the files are looked at. They are loaded once two looks in a row have found them the same, so that a pair
of which only the certificate has been written yet is left alone."""
RETRY_SECONDS = 30.0
"""How often refused files are tried again: a certificate may be valid from a moment to come."""

FileStates = Sequence[object]


class CertificateStore:
    """The certificates in use.

    Args:
        files: of each certificate, in order; at least one. Loaded here.
        now: gives the present, as an aware datetime.

    Attributes:
        current: the set in use.
        reloads, failed_reloads: how many sets were taken, and refused, since the first.
        reloaded_at, failed_at: when that happened last; None where it has not.

    Raises:
        EdgeError: with every fault of the files.
    """

    def __init__(self, files: Sequence[TLSFiles], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._files = files
        self._now = now
        self._loading = trio.Lock()
        self._tried = self._look()  # before they are read: what is written meanwhile is found by the next look
        self._retry_at: datetime | None = None
        self._refused: Sequence[str] = ()
        self.current = self._load()
        self.reloads = self.failed_reloads = 0
        self.reloaded_at: datetime | None = None
        self.failed_at: datetime | None = None

    @property
    def soonest(self) -> ServedCertificate:
        """The certificate in use that expires first."""
        return self.current.soonest

    def choose(self, server_name: str | None) -> ShownCertificate:
        """What a client is shown that asks for a name, or for none."""
        return self.current.choose(server_name)

    def log_expiry(self) -> None:
        """Warn of each certificate that expires soon."""
        for served in self.current.certificates:
            if warning := expiry_warning(served.certfile, served.info, self._now()):
                log.warning(warning)

    async def watch(self) -> None:
        """Load the files whenever they have changed; runs until it is cancelled."""
        before = self._tried
        while True:
            await trio.sleep(POLL_SECONDS)
            async with self._loading:
                # In a thread, as loading is: a network file system may hang.
                states = await _in_thread(self._look)
                is_due = self._retry_at is not None and self._now() >= self._retry_at
                if is_due or (states != self._tried and states == before):
                    await self._reload()
                before = states

    async def reload(self) -> None:
        """Load the files, whether they have changed or not. The log tells how it went, to who asked, each time."""
        async with self._loading:
            self._refused = ()
            await self._reload()

    async def _reload(self) -> None:
        self._tried = await _in_thread(self._look)
        try:
            found = await _in_thread(self._load)
            self._compare(found)
        except EdgeError as error:
            self._refuse(error.faults)
            return
        except Exception as error:  # whatever it is, those in use stay, and the files go on being watched
            log.debug("loading certificates failed", exc_info=error)
            hint = "--log-level debug shows where; 'sage-edge check' tries the same files"
            self._refuse(
                [file_fault(f"what is on disk cannot be loaded: {error!r}", hint, setting="certfile", cause=error)]
            )
            return
        self.current = found
        self.reloads += 1
        self.reloaded_at = self._now()
        self._retry_at, self._refused = None, ()
        for served in found.certificates:
            expires = f"{served.info.not_after:%Y-%m-%d}"
            names = ", ".join(served.info.names)
            log.info("certificate loaded", certfile=str(served.certfile), names=names, expires=expires)
        self.log_expiry()

    def _load(self) -> CertificateSet:
        found, faults = load_certificates(self._files, self._now())
        if found is None:
            raise EdgeError(*faults)
        return found

    def _compare(self, found: CertificateSet) -> None:
        """Refuse a certificate that is for none of the names of the one it replaces: it is in the wrong place."""
        before = {served.certfile: served.info for served in self.current.certificates}
        faults = []
        for served in found.certificates:
            old = before.get(served.certfile, served.info)
            lost = [name for name in old.names if name not in served.info.names]
            if lost and len(lost) == len(old.names):
                what = f"{certificate_text(served.certfile, served.info)} is for none of: {', '.join(lost)}"
                hint = "put the right certificate there, or restart the edge if its names are to change"
                faults.append(file_fault(what, hint, setting="certfile"))
            elif lost:
                log.warning("names are no longer covered", certfile=str(served.certfile), names=", ".join(lost))
        if faults:
            raise EdgeError(*faults)

    def _refuse(self, faults: Sequence[Fault]) -> None:
        now = self._now()
        self._retry_at = now + timedelta(seconds=RETRY_SECONDS)
        refused = [fault.what for fault in faults]
        if refused == self._refused:
            return
        self._refused = refused
        self.failed_reloads += 1
        self.failed_at = now
        for fault in faults:
            log.error("certificates not loaded, those in use stay", reason=fault.what, hint=fault.hint)

    def _look(self) -> FileStates:
        return [_state(path) for each in self._files for path in each.paths]


def _state(path: Path) -> object:
    """What changes whenever a file does, or another is put in its place."""
    try:
        found = path.stat()  # follows links
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
