"""Certificates of a running edge: reloads, several by name, what readiness and applications are told."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.e2e.test_service_manager import Manager
from tests.kit.edge import Edge, run_edge, running_edge
from tests.kit.lifespan_source import WAITING_LIFESPAN
from tests.kit.tls_files import CA, serial_of, write_pair

GATEWAY = (
    WAITING_LIFESPAN
    + r"""
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    body = json.dumps(scope["extensions"].get("tls")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """The CA of the test's certificates, in ca.pem; beside it a gateway that answers with what it is told of TLS."""
    (tmp_path / "telling.py").write_text(GATEWAY)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    return authority


def connect(edge: Edge, name: str | None = "localhost", **session: ssl.SSLSession | None) -> ssl.SSLSocket:
    """A connection that asks for a name."""
    context = edge.ssl_context()
    context.check_hostname = name is not None
    return wrap(edge, context, name, **session)


def wrap(edge: Edge, context: ssl.SSLContext, name: str | None, **session: ssl.SSLSession | None) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", edge.port), timeout=30)
    return context.wrap_socket(sock, server_hostname=name, **session)  # type: ignore[arg-type]


def shown_serial(edge: Edge, name: str | None = "localhost") -> int:
    with connect(edge, name) as tls:
        return serial_of(tls.getpeercert(binary_form=True) or b"")


def test_each_name_is_shown_its_certificate_and_the_worst_expiry_is_told(tmp_path: Path, authority: trustme.CA) -> None:
    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=5, hours=1)
    first = write_pair(tmp_path, authority, "localhost", stem="first-")
    second = write_pair(tmp_path, authority, "*.second.test", stem="second-", not_after=soon)
    files = {"SAGE_EDGE_CERTFILE": f"{first.certfile},{second.certfile}"}
    keys = ("--keyfile", str(first.keyfile), "--keyfile", str(second.keyfile))
    checked = run_edge("check", "--no-llm", *keys, env=files)
    assert checked.stdout.count("  tls ") == 2
    assert "second-cert.pem for *.second.test; expires" in checked.stdout
    with running_edge("--no-llm", *keys, env=files) as edge:
        edge.ca = tmp_path / CA
        assert edge.output.text.count("  tls ") == 2
        assert shown_serial(edge) == shown_serial(edge, None) == serial_of(first.certfile)
        assert shown_serial(edge, "a.second.test") == serial_of(second.certfile)
        assert "second-cert.pem (for *.second.test) expires in 5." in edge.log.text
        with edge.client() as client:
            assert client.get("/readyz").json()["checks"]["certificate"]["days_left"] == pytest.approx(5, abs=0.1)
            write_pair(tmp_path, authority, "*.second.test", stem="second-")
            edge.process.send_signal(signal.SIGHUP)
            edge.log.wait_for("certificate loaded", count=2)
            assert client.get("/readyz").json()["checks"]["certificate"]["days_left"] > 300


def test_sessions_are_resumed_until_the_certificate_is_swapped(tmp_path: Path, authority: trustme.CA) -> None:
    write_pair(tmp_path, authority, "localhost")
    with running_edge("--no-llm", certificates=tmp_path) as edge:
        context = edge.ssl_context("http/1.1")

        def ask(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
            with wrap(edge, context, "localhost", session=session) as tls:
                tls.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                while tls.recv(65_536):
                    pass
                return tls.session_reused, tls.session

        assert ask(None)[0] is False
        reused, session = ask(ask(None)[1])
        assert reused is True
        edge.process.send_signal(signal.SIGHUP)
        edge.log.wait_for("certificate loaded")
        assert ask(session)[0] is False


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("http2", [True, False], ids=["h2", "http1"])
def test_applications_are_told_of_tls_and_of_the_client(
    tmp_path: Path, authority: trustme.CA, loop: str, http2: bool
) -> None:
    write_pair(tmp_path, authority, "localhost")
    source = GATEWAY.replace("asyncio", "trio") if loop == "trio" else GATEWAY
    (tmp_path / "telling.py").write_text(source)
    options = ("--gateway", "telling:app", "--gateway-loop", loop, "--client-auth", "optional")
    trusted = ("--ca-certs", str(tmp_path / CA))
    with running_edge(*options, *trusted, certificates=tmp_path, cwd=tmp_path) as edge:
        with edge.client(http2=http2) as client:
            told = client.get("/").json()
        assert (told["client_cert_name"], told["client_cert_chain"], told["tls_version"]) == (None, [], 0x0304)
        context = edge.ssl_context()
        leaf = authority.issue_cert("robot@example.test", common_name="robot")
        leaf.configure_cert(context)
        with httpx2.Client(http1=not http2, http2=http2, verify=context, trust_env=False) as client:
            told = [client.get(edge.url).json() for _ in range(2)][1]
        assert told["client_cert_name"].startswith("CN=robot,")
        assert told["client_cert_chain"][0] == leaf.cert_chain_pems[0].bytes().decode()
        assert told["server_cert"] == (tmp_path / "cert.pem").read_text()


def test_applications_are_told_of_no_tls_where_there_is_none(tmp_path: Path, authority: trustme.CA) -> None:
    with running_edge("--gateway", "telling:app", cwd=tmp_path) as edge, edge.client() as client:
        assert client.get("/").json() is None


def test_tls_1_2_can_be_refused(tmp_path: Path, authority: trustme.CA) -> None:
    write_pair(tmp_path, authority, "localhost")
    with running_edge("--no-llm", "--tls-min", "1.3", certificates=tmp_path) as edge:
        context = edge.ssl_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            wrap(edge, context, "localhost")
        with connect(edge) as tls:
            assert tls.version() == "TLSv1.3"


def test_a_signal_before_the_edge_is_ready_is_no_harm(tmp_path: Path, authority: trustme.CA) -> None:
    write_pair(tmp_path, authority, "localhost")
    (tmp_path / "wait").touch()
    options = ("--gateway", "telling:app")
    with running_edge(*options, certificates=tmp_path, cwd=tmp_path, wait_for_ready=False) as edge:
        new = write_pair(tmp_path, authority, "localhost")
        edge.process.send_signal(signal.SIGHUP)
        edge.log.wait_for("certificate loaded")
        (tmp_path / "wait").unlink()
        edge.log.wait_for(r"\[info\] ready")
        assert shown_serial(edge) == serial_of(new.certfile)
        assert edge.stop() == 0


def test_a_signal_while_the_gateway_is_loaded_is_no_harm(tmp_path: Path, authority: trustme.CA) -> None:
    hang_up = "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\nfrom telling import app\n"
    (tmp_path / "hanging_up.py").write_text(hang_up)
    with running_edge("--gateway", "hanging_up:app", cwd=tmp_path) as edge:
        assert edge.stop() == 0


def test_without_tls_a_signal_says_that_there_is_nothing_to_reload() -> None:
    with running_edge("--no-llm") as edge:
        edge.process.send_signal(signal.SIGHUP)
        edge.log.wait_for(r"\[info\] nothing to reload")
        assert edge.stop() == 0


@pytest.mark.parametrize("is_good", [True, False])
def test_systemd_is_told_of_a_reload_and_of_its_end(tmp_path: Path, authority: trustme.CA, is_good: bool) -> None:
    write_pair(tmp_path, authority, "localhost")
    manager = Manager(tmp_path / "notify")
    env = {"NOTIFY_SOCKET": str(manager.path)}
    with manager.sock, running_edge("--no-llm", certificates=tmp_path, env=env) as edge:
        manager.wait_for("^READY=1\nSTATUS=ready")
        if not is_good:
            (tmp_path / "key.pem").write_bytes(b"")
        edge.process.send_signal(signal.SIGHUP)
        manager.wait_for("^RELOADING=1\nMONOTONIC_USEC=")
        manager.wait_for("^READY=1\nSTATUS=ready")
        edge.log.wait_for("certificate loaded" if is_good else "certificates not loaded")


@pytest.mark.parametrize("is_good", [True, False])
def test_systemd_is_told_of_a_reload_and_of_its_end_in_all_workers(
    tmp_path: Path, authority: trustme.CA, is_good: bool
) -> None:
    write_pair(tmp_path, authority, "localhost")
    manager = Manager(tmp_path / "notify")
    env = {"NOTIFY_SOCKET": str(manager.path)}
    with (
        manager.sock,
        running_edge("--no-llm", "--workers", "2", certificates=tmp_path, env=env) as edge,
    ):
        edge.log.wait_for("worker ready", count=2)
        if not is_good:
            (tmp_path / "key.pem").write_bytes(b"")
        edge.process.send_signal(signal.SIGHUP)
        manager.wait_for("^RELOADING=1\nMONOTONIC_USEC=")
        manager.wait_for("^READY=1\nSTATUS=serving: 2 of 2 workers are ready")
        edge.log.wait_for("certificate loaded" if is_good else "certificates not loaded", count=2)


def test_workers_all_load_what_has_changed(tmp_path: Path, authority: trustme.CA) -> None:
    write_pair(tmp_path, authority, "localhost")
    with running_edge("--no-llm", "--workers", "2", certificates=tmp_path) as edge:
        edge.log.wait_for(r"\[info\] ready", count=2)
        new = write_pair(tmp_path, authority, "localhost")
        edge.process.send_signal(signal.SIGHUP)
        edge.log.wait_for("certificate loaded", count=2)
        assert {shown_serial(edge) for _ in range(20)} == {serial_of(new.certfile)}
        assert edge.stop() == 0


def test_no_worker_that_starts_serves_what_a_reload_has_refused(tmp_path: Path, authority: trustme.CA) -> None:
    write_pair(tmp_path, authority, "localhost", "old.test")
    with running_edge("--no-llm", "--workers", "2", certificates=tmp_path) as edge:
        edge.log.wait_for("worker ready", count=2)
        served = serial_of(write_pair(tmp_path, authority, "localhost", "new.test").certfile)
        edge.log.wait_for("certificate loaded", count=2)
        write_pair(tmp_path, authority, "elsewhere.test", "old.test")  # "old.test" is no name of those in use
        edge.log.wait_for(r"certificates not loaded.*for none of: localhost, new.test", count=2)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"worker cannot start .*--certfile: .*is for none of: localhost, new.test")
        edge.log.wait_for("the restart has ended early")
        os.kill(int(edge.log.wait_for(r"worker ready .*worker=2 pid=(\d+)")[1]), signal.SIGKILL)
        edge.log.wait_for(r"worker cannot start .*--certfile: .*is for none of: localhost, new.test", count=2)
        assert {shown_serial(edge) for _ in range(20)} == {served}
        good = write_pair(tmp_path, authority, "localhost", "new.test")
        edge.log.wait_for("worker ready", count=3)
        edge.log.wait_for("certificate loaded", count=3)
        assert {shown_serial(edge) for _ in range(20)} == {serial_of(good.certfile)}
        assert edge.stop() == 0


@pytest.mark.parametrize("was_tls", [True, False], ids=["TLS", "plaintext"])
def test_no_restart_makes_plaintext_of_tls_or_the_other_way_round(
    tmp_path: Path, authority: trustme.CA, was_tls: bool
) -> None:
    files = write_pair(tmp_path, authority, "localhost")
    certified = f'certfile = ["{files.certfile}"]\nkeyfile = ["{files.keyfile}"]\n'
    (tmp_path / "edge.toml").write_text(certified if was_tls else "")
    with running_edge("--no-llm", "--workers", "1", "--config", str(tmp_path / "edge.toml")) as edge:
        edge.log.wait_for("worker ready")
        (tmp_path / "edge.toml").write_text("" if was_tls else certified)
        edge.process.send_signal(signal.SIGUSR2)
        begun = "with TLS" if was_tls else "without TLS"
        edge.log.wait_for(rf"\[error\] worker cannot start .*given, but this edge has been started {begun}'")
        edge.log.wait_for("the restart has ended early")
        assert edge.stop() == 0
