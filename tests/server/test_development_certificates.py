from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.server.certificates import read_certificate_info
from sage_edge.server.development_ca import DEFAULT_NAMES
from sage_edge.server.development_certificates import DevelopmentCertificates, create_development_certificates
from sage_edge.server.tls import TLSFiles, build_ssl_context
from tests.kit.handshake import client_context, shake_hands
from tests.kit.privileges import without_capabilities

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
CA_FILES = {"ca.pem", "ca-key.pem"}
LEAF_FILES = {"cert.pem", "key.pem"}

CREATE_AND_REPORT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from sage_edge.core.errors import EdgeError
from sage_edge.server.development_certificates import create_development_certificates
try:
    create_development_certificates(Path(sys.argv[1]), now=datetime.now(UTC))
except EdgeError as error:
    print(error)
"""


def names_of(paths: tuple[Path, ...]) -> set[str]:
    return {path.name for path in paths}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def server_context(files: DevelopmentCertificates) -> ssl.SSLContext:
    return build_ssl_context(TLSFiles(files.certificate, files.key))


def the_fault(caught: pytest.ExceptionInfo[EdgeError]) -> Fault:
    (fault,) = caught.value.faults
    assert fault.hint
    assert "\n" not in fault.what + fault.hint
    return fault


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# Making


def test_four_files_are_made_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "certs"
    made = create_development_certificates(directory, now=NOW)
    assert names_of(made.created) == CA_FILES | LEAF_FILES
    assert set(contents(directory)) == CA_FILES | LEAF_FILES


@pytest.mark.usefixtures("no_umask")
def test_keys_are_private_and_certificates_public_whatever_the_umask(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.created}
    assert modes == {"ca.pem": 0o644, "cert.pem": 0o644, "ca-key.pem": 0o600, "key.pem": 0o600}


@pytest.mark.usefixtures("no_umask")
def test_a_key_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes_when_opened: list[int] = []
    fdopen = os.fdopen

    def watching(descriptor: int, mode: str) -> object:
        modes_when_opened.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return fdopen(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", watching)
    create_development_certificates(tmp_path, now=NOW)
    assert modes_when_opened == [0o600] * 4


# Keeping and renewing


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    create_development_certificates(tmp_path, now=NOW)
    before = contents(tmp_path)
    again = create_development_certificates(tmp_path, now=NOW)
    assert again.created == ()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("elapsed", "created"),
    [
        (timedelta(days=82, hours=23), set()),
        (timedelta(days=83, hours=1), LEAF_FILES),
        (timedelta(days=400), LEAF_FILES),
        (timedelta(days=3642), LEAF_FILES),
        (timedelta(days=3644), CA_FILES | LEAF_FILES),
        (timedelta(days=4000), CA_FILES | LEAF_FILES),
        (-1 * DAY, LEAF_FILES),
    ],
)
def test_what_has_less_than_a_week_left_is_made_again(elapsed: timedelta, created: set[str], tmp_path: Path) -> None:
    create_development_certificates(tmp_path, now=NOW)
    before = contents(tmp_path)
    renewed = create_development_certificates(tmp_path, now=NOW + elapsed)
    assert names_of(renewed.created) == created
    assert {name for name, content in contents(tmp_path).items() if content != before[name]} == created


def test_a_certificate_does_not_outlive_its_ca(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    create_development_certificates(tmp_path, now=NOW + timedelta(days=3600))
    assert read_certificate_info(made.certificate).not_after == read_certificate_info(made.ca).not_after


def test_a_client_goes_on_trusting_after_a_renewal(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW - timedelta(days=100))
    client = client_context(made.ca)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(server_context(made), client)
    renewed = create_development_certificates(tmp_path, now=NOW)
    shake_hands(server_context(renewed), client)


def test_fewer_names_keep_the_certificate(tmp_path: Path) -> None:
    create_development_certificates(tmp_path, [*DEFAULT_NAMES, "edge.test"], now=NOW)
    assert create_development_certificates(tmp_path, now=NOW).created == ()


def test_more_names_within_the_ca_s_constraints_renew_the_certificate_only(tmp_path: Path) -> None:
    create_development_certificates(tmp_path, now=NOW)
    renewed = create_development_certificates(tmp_path, [*DEFAULT_NAMES, "a.localhost", "127.0.0.9"], now=NOW)
    assert names_of(renewed.created) == LEAF_FILES
    shake_hands(server_context(renewed), client_context(renewed.ca), "a.localhost")


def test_names_outside_the_ca_s_constraints_need_force(tmp_path: Path) -> None:
    create_development_certificates(tmp_path, now=NOW)
    before = contents(tmp_path)
    with pytest.raises(EdgeError) as caught:
        create_development_certificates(tmp_path, ["localhost", "edge.test"], now=NOW)
    fault = the_fault(caught)
    assert fault.what.endswith("but not for edge.test")
    assert "--force" in fault.hint
    assert contents(tmp_path) == before
    forced = create_development_certificates(tmp_path, ["localhost", "edge.test"], now=NOW, force=True)
    assert names_of(forced.created) == CA_FILES | LEAF_FILES
    shake_hands(server_context(forced), client_context(forced.ca), "edge.test")


def test_a_certificate_of_a_ca_that_is_gone_is_made_again(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    made.ca.unlink()
    made.ca_key.unlink()
    assert names_of(create_development_certificates(tmp_path, now=NOW).created) == CA_FILES | LEAF_FILES


def test_many_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: create_development_certificates(tmp_path, now=NOW), range(16)))
    assert sum(bool(result.created) for result in results) == 1
    shake_hands(server_context(results[0]), client_context(results[0].ca))


# What was not made here is left alone


def put_a_real_pair(directory: Path) -> None:
    leaf = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    leaf.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    leaf.private_key_pem.write_to_path(directory / "key.pem")


def swap_keys(directory: Path) -> None:
    shutil.copy(directory / "ca-key.pem", directory / "key.pem")


def put_the_certificate_in_the_ca_s_place(directory: Path) -> None:
    shutil.copy(directory / "cert.pem", directory / "ca.pem")
    shutil.copy(directory / "key.pem", directory / "ca-key.pem")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda directory: (directory / "ca-key.pem").unlink(), "certs/ca-key.pem is missing"),
        (lambda directory: (directory / "ca.pem").unlink(), "certs/ca.pem is missing"),
        (lambda directory: (directory / "cert.pem").unlink(), "certs/cert.pem is missing"),
        (lambda directory: (directory / "key.pem").unlink(), "certs/key.pem is missing"),
        (lambda directory: (directory / "ca.pem").write_bytes(b""), "certs/ca.pem or certs/ca-key.pem is damaged"),
        (lambda directory: (directory / "key.pem").write_bytes(b"x"), "certs/cert.pem or certs/key.pem is damaged"),
        (put_a_real_pair, "certs/cert.pem and certs/key.pem were not made by 'sage-edge certs create'"),
        (swap_keys, "certs/key.pem is not the key of certs/cert.pem"),
        (put_the_certificate_in_the_ca_s_place, "certs/ca.pem may sign for nothing, but not for localhost"),
    ],
)
def test_other_files_are_reported_and_kept_unless_forced(
    spoil: Callable[[Path], object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = Path("certs")
    create_development_certificates(directory, now=NOW)
    spoil(directory)
    before = contents(directory)
    with pytest.raises(EdgeError) as caught:
        create_development_certificates(directory, now=NOW)
    fault = the_fault(caught)
    assert fault.what.startswith(what)
    assert "--force" in fault.hint
    assert fault.code is ExitCode.STARTUP
    assert contents(directory) == before
    forced = create_development_certificates(directory, now=NOW, force=True)
    assert names_of(forced.created) == CA_FILES | LEAF_FILES
    shake_hands(server_context(forced), client_context(forced.ca))


def test_following_the_hint_keeps_the_ca(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    made.key.unlink()
    made.certificate.unlink()
    assert names_of(create_development_certificates(tmp_path, now=NOW).created) == LEAF_FILES


# Folders that cannot be used


def test_a_file_in_the_folder_s_place_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "certs").write_text("")
    with pytest.raises(EdgeError) as caught:
        create_development_certificates(tmp_path / "certs", now=NOW)
    assert the_fault(caught).what.endswith("certs: file exists")


def test_a_folder_that_may_not_be_written_is_a_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    report = run_without_privileges(tmp_path)
    assert report == f"cannot keep development certificates in {tmp_path}: permission denied\n"
    assert contents(tmp_path) == {}


def test_a_folder_that_may_only_be_read_serves_when_nothing_is_to_be_written(tmp_path: Path) -> None:
    create_development_certificates(tmp_path, now=NOW)
    tmp_path.chmod(0o500)
    assert run_without_privileges(tmp_path) == ""


def test_a_write_that_fails_leaves_the_old_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_development_certificates(tmp_path, now=NOW)
    before = contents(tmp_path)

    def full_disk(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full_disk)
    with pytest.raises(EdgeError, match="no space left on device"):
        create_development_certificates(tmp_path, now=NOW, force=True)
    assert contents(tmp_path) == before


def run_without_privileges(directory: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", CREATE_AND_REPORT, directory],
        preexec_fn=without_capabilities,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout
