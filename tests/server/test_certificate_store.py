"""Certificates that are replaced on disk while they are in use."""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from sage_edge.server import certificate_store
from sage_edge.server.certificate_set import Names
from sage_edge.server.certificate_store import MOST_THREADS, POLL_SECONDS, RETRY_SECONDS, CertificateStore
from sage_edge.server.tls import TLSFiles
from tests.kit.captured_logs import captured_logs
from tests.kit.handshake import client_context, shake_hands
from tests.kit.tls_files import CA, CERTIFICATE, KEY, serial_of, write_nameless_pair, write_pair

run_in_thread = trio.to_thread.run_sync
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


class Clock:
    """The present, as the test sets it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for a thread is done in the loop: the clock would jump while a thread works."""
    monkeypatch.setattr(trio.to_thread, "run_sync", run_at_once)


async def run_at_once(function: Callable[[], object], **_: object) -> object:
    await trio.lowlevel.checkpoint()
    return function()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    return authority


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> TLSFiles:
    """A pair for edge.test and old.test."""
    return write_pair(tmp_path, authority, "edge.test", "old.test")


@pytest.fixture
def new(tmp_path: Path, authority: trustme.CA) -> TLSFiles:
    """Another for the same names, in a directory of its own."""
    (tmp_path / "new").mkdir()
    return write_pair(tmp_path / "new", authority, "edge.test", "old.test")


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with captured_logs() as entries:
        yield entries


@pytest.fixture
async def store(files: TLSFiles, clock: Clock, nursery: trio.Nursery) -> AsyncIterator[CertificateStore]:
    """A store of the pair that is watched."""
    store = CertificateStore([files], clock)
    nursery.start_soon(store.watch)
    yield store
    nursery.cancel_scope.cancel()


def serial_in_use(store: CertificateStore) -> int:
    (served,) = store.current.certificates
    return serial_of(ssl.PEM_cert_to_DER_cert(served.info.pem))


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition holds."""
    with trio.fail_after(1000):  # of a clock that jumps
        while not condition():  # noqa: ASYNC110  # what is on disk tells nobody
            await trio.sleep(POLL_SECONDS / 5)


async def some_looks() -> None:
    """Return after the files were looked at a few times."""
    await trio.sleep(POLL_SECONDS * 6)


def copy_key(source: TLSFiles, target: TLSFiles) -> None:
    assert source.keyfile is not None
    assert target.keyfile is not None
    shutil.copy(source.keyfile, target.keyfile)


def refused(logs: list[Any]) -> list[str]:
    return [entry["reason"] for entry in logs if entry["event"].startswith("certificates not loaded")]


async def test_nothing_is_loaded_while_nothing_changes(store: CertificateStore, autojump_clock: MockClock) -> None:
    first = store.current
    await some_looks()
    assert store.current is first
    assert (store.reloads, store.reloaded_at, store.failed_reloads, store.failed_at) == (0, None, 0, None)


async def test_a_new_pair_in_place_of_the_old_is_loaded(
    store: CertificateStore,
    tmp_path: Path,
    authority: trustme.CA,
    logs: list[Any],
    clock: Clock,
    autojump_clock: MockClock,
) -> None:
    clock.now += timedelta(minutes=3)
    new = write_pair(tmp_path, authority, "edge.test", "old.test")
    await until(lambda: store.reloads)
    assert serial_in_use(store) == serial_of(new.certfile)
    assert (store.reloads, store.reloaded_at, store.failed_reloads) == (1, clock.now, 0)
    (entry,) = [entry for entry in logs if entry["event"] == "certificate loaded"]
    assert (entry["names"], entry["expires"]) == ("edge.test, old.test", f"{store.soonest.info.not_after:%Y-%m-%d}")
    client = client_context(tmp_path / CA)
    hands = shake_hands(store.choose("edge.test").context, client, "edge.test")
    assert serial_of(hands.client.getpeercert(binary_form=True) or b"") == serial_of(new.certfile)


async def test_a_directory_behind_a_link_is_swapped_as_kubernetes_does(
    tmp_path: Path, authority: trustme.CA, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mounted = tmp_path / "mounted"
    for version in ("one", "two"):
        (mounted / version).mkdir(parents=True)
        write_pair(mounted / version, authority, "edge.test")
    (mounted / "..data").symlink_to("one")
    for name in (CERTIFICATE, KEY):
        (mounted / name).symlink_to(Path("..data") / name)
    store = CertificateStore([TLSFiles(mounted / CERTIFICATE, mounted / KEY)])
    nursery.start_soon(store.watch)
    (mounted / "..tmp").symlink_to("two")
    (mounted / "..tmp").replace(mounted / "..data")
    shutil.rmtree(mounted / "one")
    await until(lambda: store.reloads)
    assert serial_in_use(store) == serial_of(mounted / "two" / CERTIFICATE)
    nursery.cancel_scope.cancel()


async def test_a_pair_of_which_half_is_written_is_refused_once_and_loaded_when_it_is_whole(
    store: CertificateStore, files: TLSFiles, new: TLSFiles, logs: list[Any], autojump_clock: MockClock
) -> None:
    before = serial_in_use(store)
    shutil.copy(new.certfile, files.certfile)
    await until(lambda: store.failed_reloads)
    await some_looks()
    assert serial_in_use(store) == before
    (reason,) = refused(logs)
    assert "is not that of" in reason
    copy_key(new, files)
    await until(lambda: store.reloads)
    assert serial_in_use(store) == serial_of(new.certfile)
    assert store.failed_reloads == 1


async def test_files_that_are_written_within_a_look_s_time_are_loaded_once(
    store: CertificateStore, files: TLSFiles, new: TLSFiles, logs: list[Any], autojump_clock: MockClock
) -> None:
    shutil.copy(new.certfile, files.certfile)
    await trio.sleep(POLL_SECONDS)
    copy_key(new, files)
    await until(lambda: store.reloads)
    assert refused(logs) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path, _: (path / CERTIFICATE).write_bytes(b""), "cert.pem is empty"),
        (lambda path, _: (path / KEY).unlink(), "no such file"),
        (
            lambda path, ca: write_pair(path, ca, "edge.test", not_before=NOW - 3 * DAY, not_after=NOW - DAY),
            "(for edge.test) expired",
        ),
        (lambda path, ca: write_pair(path, ca, "other.test"), "(for other.test) is for none of: edge.test, old.test"),
        (lambda path, _: write_nameless_pair(path), "(for no name) is for none of: edge.test, old.test"),
    ],
    ids=["empty", "no key", "expired", "names of another", "no names"],
)
async def test_bad_files_are_refused_with_a_hint_and_the_old_stay(
    store: CertificateStore,
    tmp_path: Path,
    authority: trustme.CA,
    logs: list[Any],
    clock: Clock,
    spoil: Callable[[Path, trustme.CA], object],
    reason: str,
    autojump_clock: MockClock,
) -> None:
    first = store.current
    spoil(tmp_path, authority)
    await until(lambda: store.failed_reloads)
    assert store.current is first
    assert (store.failed_at, store.reloads) == (clock.now, 0)
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert reason in entry["reason"]
    assert entry["hint"]


async def test_a_certificate_of_tomorrow_is_loaded_tomorrow(
    store: CertificateStore,
    tmp_path: Path,
    authority: trustme.CA,
    clock: Clock,
    logs: list[Any],
    autojump_clock: MockClock,
) -> None:
    write_pair(tmp_path, authority, "edge.test", "old.test", not_before=NOW + DAY, not_after=NOW + 30 * DAY)
    await until(lambda: store.failed_reloads)
    await trio.sleep(2 * RETRY_SECONDS)
    assert (store.failed_reloads, len(refused(logs))) == (1, 1), "the same is not told again"
    clock.now += DAY
    await until(lambda: store.reloads)


async def test_a_clock_that_was_ahead_and_is_put_right_delays_nothing(
    store: CertificateStore, tmp_path: Path, authority: trustme.CA, clock: Clock, autojump_clock: MockClock
) -> None:
    clock.now += 90 * DAY
    write_pair(tmp_path, authority, "edge.test", "old.test", not_before=NOW - DAY, not_after=NOW + 30 * DAY)
    await until(lambda: store.failed_reloads)
    clock.now = NOW
    await until(lambda: store.reloads)


async def test_names_that_are_no_longer_covered_are_warned_of(
    store: CertificateStore, tmp_path: Path, authority: trustme.CA, logs: list[Any], autojump_clock: MockClock
) -> None:
    write_pair(tmp_path, authority, "edge.test", "new.test")
    await until(lambda: store.reloads)
    (entry,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert entry["names"] == "old.test"


async def test_a_certificate_that_expires_soon_is_warned_of(
    store: CertificateStore, tmp_path: Path, authority: trustme.CA, logs: list[Any], autojump_clock: MockClock
) -> None:
    write_pair(tmp_path, authority, "edge.test", "old.test", not_before=NOW - DAY, not_after=NOW + 3 * DAY)
    await until(lambda: store.reloads)
    assert any("expires in 3.0 days" in entry["event"] for entry in logs)


async def test_client_authorities_are_reloaded_as_well_and_old_sessions_are_not_resumed(
    files: TLSFiles, tmp_path: Path, authority: trustme.CA, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    clients = tmp_path / "clients.pem"
    old, new = trustme.CA(), trustme.CA()
    old.cert_pem.write_to_path(str(clients))
    store = CertificateStore([replace(files, ca_certs=clients, client_auth="required")])
    nursery.start_soon(store.watch)
    client = client_context(tmp_path / CA)
    old.issue_cert("robot@example.test").configure_cert(client)
    first = shake_hands(store.choose(None).context, client, "edge.test")
    first.server.write(b"x")
    first.client.read(1)
    new.cert_pem.write_to_path(str(clients))
    await until(lambda: store.reloads)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(store.choose(None).context, client, "edge.test", session=first.client.session)
    nursery.cancel_scope.cancel()


async def test_all_certificates_are_replaced_or_none(
    files: TLSFiles, tmp_path: Path, authority: trustme.CA, autojump_clock: MockClock
) -> None:
    second = write_pair(tmp_path, authority, "second.test", stem="second-")
    store = CertificateStore([files, second])
    first = store.current
    write_pair(tmp_path, authority, "edge.test", "old.test")
    second.certfile.write_bytes(b"")
    await store.reload()
    assert store.current is first
    write_pair(tmp_path, authority, "second.test", stem="second-")
    await store.reload()
    assert store.current is not first
    assert (store.reloads, store.failed_reloads) == (1, 1)


async def test_whatever_goes_wrong_the_old_stay_and_the_files_go_on_being_watched(
    store: CertificateStore,
    tmp_path: Path,
    authority: trustme.CA,
    logs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    first = store.current

    def fail(*_: object) -> None:
        raise TypeError("of a library")

    with monkeypatch.context() as patched:
        patched.setattr(certificate_store, "load_certificates", fail)
        write_pair(tmp_path, authority, "edge.test", "old.test")
        await until(lambda: store.failed_reloads)
    assert store.current is first
    assert refused(logs) == ["--certfile: what is on disk cannot be loaded: TypeError('of a library')"]
    new = write_pair(tmp_path, authority, "edge.test", "old.test")
    await until(lambda: store.reloads)
    assert serial_in_use(store) == serial_of(new.certfile)


async def test_a_file_system_that_hangs_is_given_up_and_the_files_are_loaded_once_it_answers(
    store: CertificateStore,
    clock: Clock,
    tmp_path: Path,
    authority: trustme.CA,
    logs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    answers = threading.Event()
    look = store._look

    def hang() -> object:
        answers.wait()
        return look()

    try:
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", run_in_thread)
            patched.setattr(store, "_look", hang)
            new = write_pair(tmp_path, authority, "edge.test", "old.test")
            await until(lambda: store.failed_reloads)
            for _ in range(2 * MOST_THREADS):
                await store.reload()
    finally:
        answers.set()
    assert set(refused(logs)) == {"--certfile: the file system has not answered for 10 seconds"}
    await until(lambda: store.reloads)
    assert serial_in_use(store) == serial_of(new.certfile)


async def test_names_are_told_as_they_are_and_whenever_they_change(
    store: CertificateStore, files: TLSFiles, tmp_path: Path, authority: trustme.CA, autojump_clock: MockClock
) -> None:
    told: list[Names] = []
    store.tell_names(told.append)
    write_pair(tmp_path, authority, "other.test")
    await store.reload()
    write_pair(tmp_path, authority, "edge.test", "new.test")
    await store.reload()
    names = [("edge.test", "old.test"), ("edge.test", "new.test")]
    assert told == [{str(files.certfile): each} for each in names]


async def test_who_asks_again_is_told_again(files: TLSFiles, autojump_clock: MockClock) -> None:
    store = CertificateStore([files])
    files.certfile.write_bytes(b"")
    with captured_logs() as entries:
        for _ in range(2):
            await store.reload()
    assert [entry["log_level"] for entry in entries] == ["error", "error"]
    assert store.failed_reloads == 2
