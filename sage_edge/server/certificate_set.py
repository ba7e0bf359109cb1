"""The certificates that are served together, and which of them a client is shown.

A set never changes: a reload makes another (`server.certificate_store`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sage_edge.core.errors import EdgeError, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.certificates import CertificateInfo, file_fault
from sage_edge.server.tls import TLSFiles, build_ssl_context, check_tls
from sage_edge.server.tls_extension import ShownCertificate

log = EdgeLogger(__name__)

MOST_READINGS = 5
FileStates = Sequence[object]
ContextChooser = Callable[[str | None], ShownCertificate]
"""What a client is shown, by the server name that it asks for; None where it asks for none."""
Names = Mapping[str, Sequence[str]]
"""What certificates are for, by the path of each one's file."""


@dataclass(frozen=True)
class ServedCertificate:
    """A certificate in use.

    Attributes:
        certfile: where it is from.
        info: what it says.
    """

    certfile: Path
    info: CertificateInfo


class CertificateSet:
    """Certificates, and the name by which each is chosen.

    Several with the same names and different kinds of keys (ECDSA and RSA, say) are served as one: in each handshake
    OpenSSL chooses one that the client can verify. Of several with the same name and kind of key, the first is served.

    Args:
        groups: what is shown together, with the certificates in it; the first is the default.
    """

    def __init__(self, groups: Sequence[tuple[ShownCertificate, Sequence[ServedCertificate]]]) -> None:
        self.certificates = tuple(certificate for _, certificates in groups for certificate in certificates)
        self._default = groups[0][0]
        self._by_name: dict[str, ShownCertificate] = {}
        for shown, certificates in groups:
            for name in certificates[0].info.names:
                self._by_name.setdefault(name.lower(), shown)

    @property
    def names(self) -> Names:
        """What each is for."""
        return {str(served.certfile): served.info.names for served in self.certificates}

    @property
    def soonest(self) -> ServedCertificate:
        """The certificate that expires first."""
        return min(self.certificates, key=lambda certificate: certificate.info.not_after)

    def choose(self, server_name: str | None) -> ShownCertificate:
        """What a client is shown.

        A certificate for the name itself comes before one with a wildcard, which stands for exactly one label, the
        leftmost (RFC 9525 section 6.3). The default is for whoever asks for no name, or for one of none of them.

        Args:
            server_name: in lower case, without a dot at its end; None where the client asks for none.
        """
        if server_name is None:
            return self._default
        exact = self._by_name.get(server_name)
        if exact is not None:
            return exact
        label, _, parent = server_name.partition(".")
        return self._by_name.get(f"*.{parent}", self._default) if label else self._default


def load_certificates(files: Sequence[TLSFiles], now: datetime) -> tuple[CertificateSet | None, list[Fault]]:
    """Read and check files, and make a set of them.

    A file is read more than once, and a key from another file than its certificate's: where one has been changed or
    replaced meanwhile, all are read again, for what was read may not belong together.

    Args:
        files: of each certificate, in order; at least one.
        now: the present, as an aware datetime.

    Returns:
        The set, or None and every fault found.
    """
    for _ in range(MOST_READINGS):
        before = file_states(files)
        try:
            found, faults = _load(files, now)
        except EdgeError as error:
            found, faults = None, list(error.faults)
        if file_states(files) == before:
            return found, faults
    what = f"certificates were changed each time that they were read: {MOST_READINGS} times"
    return None, [file_fault(what, "see what writes to them, again and again", setting="certfile")]


def file_states(files: Sequence[TLSFiles]) -> FileStates:
    """What is on disk: equal as long as no file has been changed and no other put in its place."""
    return [_state(path) for each in files for path in each.paths]


def _state(path: Path) -> object:
    try:
        found = path.stat()  # follows links
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _load(files: Sequence[TLSFiles], now: datetime) -> tuple[CertificateSet | None, list[Fault]]:
    faults: dict[str, Fault] = {}  # what several certificates share is one fault, not several
    groups: dict[frozenset[str], dict[str, tuple[TLSFiles, CertificateInfo]]] = {}
    for each in files:
        info, found = check_tls(each, now)
        faults |= {fault.what: fault for fault in found}
        if info is not None:
            group = groups.setdefault(frozenset(name.lower() for name in info.names), {})
            if group.setdefault(info.key_kind, (each, info))[0] is not each:
                reason = "another before it has the same names and kind of key"
                log.warning("certificate not served", certfile=str(each.certfile), reason=reason)
    if faults:
        return None, list(faults.values())
    return CertificateSet([_build(list(group.values())) for group in groups.values()]), []


def _build(
    members: Sequence[tuple[TLSFiles, CertificateInfo]],
) -> tuple[ShownCertificate, Sequence[ServedCertificate]]:
    context = build_ssl_context(*(files for files, _ in members))
    pem = members[0][1].pem if len(members) == 1 else None
    return ShownCertificate(context, pem), [ServedCertificate(files.certfile, info) for files, info in members]
