"""The certificates in use, and their replacement while connections go on.

What is on disk is looked at again and again, since mounted secrets are links that are swapped, and network file
systems tell of nothing. Whatever is wrong with new files, the certificates in use stay in use. Connections keep what
they were made with. A reload makes new contexts, so that session tickets from before are not resumed: their clients
see the new certificate, and are verified against the new client CAs.

A worker that starts goes by the names that are in use already, or a restart would serve what a reload has refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import trio

from sage_edge.core.errors import EdgeError, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.certificate_faults import certificate_text
from sage_edge.server.certificate_set import (
    CertificateSet,
    FileStates,
    Names,
    ServedCertificate,
    file_states,
    load_certificates,
)
from sage_edge.server.certificates import file_fault
from sage_edge.server.tls import TLSFiles, expiry_warning, name_warning
from sage_edge.server.tls_extension import ShownCertificate

log = EdgeLogger(__name__)

POLL_SECONDS = 0.5
"""How often the files are looked at. They are loaded once two looks in a row have found them the same, so that a pair
of which only the certificate has been written yet is left alone."""
RETRY_SECONDS = 30.0
"""How often refused files are tried again: a certificate may be valid from a moment to come."""
ANSWER_SECONDS = 10.0
"""How long a file system may take to answer; a network's may never. What is asked then is given up, in its thread."""
MOST_THREADS = 4
"""How many questions may hang: that many threads are left behind at most, and none of anybody else's."""


class CertificateStore:
    """The certificates in use.

    Args:
        files: of each certificate, in order; at least one. Loaded here.
        now: gives the present, as an aware datetime.
        names: of those that others serve from these files already; compared as in a reload.

    Attributes:
        current: the set in use.
        reloads, failed_reloads: how many sets were taken, and refused, since the first.
        reloaded_at, failed_at: when that happened last; None where it has not.

    Raises:
        EdgeError: with every fault of the files.
    """

    def __init__(
        self,
        files: Sequence[TLSFiles],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        names: Names | None = None,
    ) -> None:
        self._files = files
        self._now = now
        self._names = names or {}
        self._tell_names: Callable[[Names], None] | None = None
        self._loading = trio.Lock()
        self._threads = trio.CapacityLimiter(MOST_THREADS)
        self._tried = self._look()  # before they are read: what is written meanwhile is found by the next look
        self._retry_at: float | None = None  # by trio's clock, which nobody sets
        self._refused: Sequence[str] = ()
        found = self._load()
        self._compare(found)
        self._take(found)
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

    def log_warnings(self) -> None:
        """Warn of each certificate that expires soon, has no names, or has a chain that not all clients can follow."""
        for served in self.current.certificates:
            expiry = expiry_warning(served.certfile, served.info, self._now())
            names = name_warning(served.certfile, served.info)
            for warning in filter(None, (expiry, names, *served.info.chain_warnings)):
                log.warning(warning)

    def tell_names(self, tell: Callable[[Names], None]) -> None:
        """Have the names of the certificates in use told: now, and with every set that is taken."""
        self._tell_names = tell
        tell(self._names)

    async def watch(self) -> None:
        """Load the files whenever they have changed; runs until it is cancelled."""
        before = self._tried
        while True:
            await trio.sleep(POLL_SECONDS)
            async with self._loading:
                try:
                    states = await self._in_thread(self._look)
                except trio.TooSlowError:
                    self._refuse([_unanswered()])
                    continue
                is_due = self._retry_at is not None and trio.current_time() >= self._retry_at
                if is_due or (states != self._tried and states == before):
                    await self._reload()
                before = states

    async def reload(self) -> None:
        """Load the files, whether they have changed or not. The log tells how it went, to who asked, each time."""
        async with self._loading:
            self._refused = ()
            await self._reload()

    async def _reload(self) -> None:
        try:
            self._tried = await self._in_thread(self._look)
            found = await self._in_thread(self._load)
            self._compare(found)
        except EdgeError as error:
            self._refuse(error.faults)
            return
        except trio.TooSlowError:
            self._refuse([_unanswered()])
            return
        except Exception as error:  # whatever it is, those in use stay, and the files go on being watched
            log.debug("loading certificates failed", exc_info=error)
            hint = "--log-level debug shows where; 'sage-edge check' tries the same files"
            self._refuse(
                [file_fault(f"what is on disk cannot be loaded: {error!r}", hint, setting="certfile", cause=error)]
            )
            return
        self._take(found)
        self.reloads += 1
        self.reloaded_at = self._now()
        self._retry_at, self._refused = None, ()
        for served in found.certificates:
            expires = f"{served.info.not_after:%Y-%m-%d}"
            names = ", ".join(served.info.names)
            log.info("certificate loaded", certfile=str(served.certfile), names=names, expires=expires)
        self.log_warnings()

    def _take(self, found: CertificateSet) -> None:
        self.current = found
        self._names = found.names
        if self._tell_names is not None:
            self._tell_names(self._names)

    def _load(self) -> CertificateSet:
        found, faults = load_certificates(self._files, self._now())
        if found is None:
            raise EdgeError(*faults)
        return found

    def _compare(self, found: CertificateSet) -> None:
        """Refuse a certificate that is for none of the names of the one it replaces: it is in the wrong place."""
        faults = []
        for served in found.certificates:
            old = self._names.get(str(served.certfile), ())
            lost = [name for name in old if not _covers(served.info.names, name)]
            if lost and len(lost) == len(old):
                what = f"{certificate_text(served.certfile, served.info)} is for none of: {', '.join(lost)}"
                hint = "put the right certificate there, or restart the edge if its names are to change"
                faults.append(file_fault(what, hint, setting="certfile"))
            elif lost:
                log.warning("names are no longer covered", certfile=str(served.certfile), names=", ".join(lost))
        if faults:
            raise EdgeError(*faults)

    def _refuse(self, faults: Sequence[Fault]) -> None:
        self._retry_at = trio.current_time() + RETRY_SECONDS
        refused = [fault.what for fault in faults]
        if refused == self._refused:
            return
        self._refused = refused
        self.failed_reloads += 1
        self.failed_at = self._now()
        for fault in faults:
            log.error("certificates not loaded, those in use stay", reason=fault.what, hint=fault.hint)

    def _look(self) -> FileStates:
        return file_states(self._files)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        with trio.fail_after(ANSWER_SECONDS):
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._threads)


def _unanswered() -> Fault:
    what = f"the file system has not answered for {ANSWER_SECONDS:.0f} seconds"
    return file_fault(what, "see whether it is a network's, and whether that is there", setting="certfile")


def _covers(names: Sequence[str], name: str) -> bool:
    """Whether a certificate for these names is one for that, too (RFC 9525 section 6.3)."""
    folded = {each.lower() for each in names}
    return name.lower() in folded or f"*.{name.lower().partition('.')[2]}" in folded
