"""Asking for readiness: every answer, and none."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sage_edge.core.bind import TCPBind
from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.core.settings import Settings
from sage_edge.server import probe
from sage_edge.server.probe import ask_readiness
from sage_edge.server.proxy_protocol import LOCAL_HEADER
from tests.kit.edge import running_edge

READY = b'{"status": "ready", "checks": {}}'
STARTING = b'{"status": "starting", "checks": {"started": {"ok": false, "detail": "the gateway is starting"}}}'
DRAINING = (
    b'{"status": "draining", "checks": {"a": {"ok": false, "detail": "one"}, "b": {"ok": true, "detail": "two"},'
    b' "c": {"ok": false, "detail": "three"}}}'
)


def response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Any\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def answering(
    answer: bytes | None, server: socket.socket, context: ssl.SSLContext | None = None
) -> Iterator[list[bytes]]:
    """A server that gives one connection an answer, or none; what it was asked."""
    asked: list[bytes] = []
    has_ended = threading.Event()

    def serve() -> None:
        sock, _ = server.accept()
        with context.wrap_socket(sock, server_side=True) if context else sock as stream:
            data = stream.recv(65536)
            if data == LOCAL_HEADER:  # the request follows
                data += stream.recv(65536)
            asked.append(data)
            if answer is None:
                has_ended.wait()
            else:
                stream.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with server:
            yield asked
    finally:
        has_ended.set()
        thread.join()


def tcp_server() -> tuple[socket.socket, Settings]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, Settings(host="127.0.0.1", port=server.getsockname()[1])


def fault_of(settings: Settings) -> tuple[str, str]:
    with pytest.raises(EdgeError) as raised:
        ask_readiness(settings)
    assert raised.value.exit_code == ExitCode.NOT_READY
    (fault,) = raised.value.faults
    return fault.what, fault.hint


def test_an_edge_that_is_ready() -> None:
    server, settings = tcp_server()
    with answering(response(200, READY), server) as asked:
        assert ask_readiness(settings) == "ready"
    assert asked[0].startswith(b"GET /readyz HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [(STARTING, "starting", "started: the gateway is starting"), (DRAINING, "draining", "a: one; c: three")],
)
def test_an_edge_that_is_not_ready_says_why(body: bytes, status: str, why: str) -> None:
    server, settings = tcp_server()
    with answering(response(503, body), server):
        what, hint = fault_of(settings)
    assert what == f"the edge at 127.0.0.1:{settings.port} is {status}"
    assert hint == why


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        response(200, b"hello"),
        response(200, b"[1]"),
        response(200, b"{}"),
        response(200, b"\xff"),
        response(404, b'{"error": {"code": 404}}'),
        response(503, b'{"status": "unavailable", "checks": ["database"]}'),
        response(503, b'{"status": "unavailable", "checks": {"database": {"up": false}}}'),
        response(503, b'{"status": "unavailable", "checks": {"database": false}}'),
    ],
)
def test_something_that_is_no_edge(answer: bytes) -> None:
    server, settings = tcp_server()
    with answering(answer, server):
        what, hint = fault_of(settings)
    assert what.startswith(f"no edge answers at 127.0.0.1:{settings.port}: ")
    assert "\n" not in what
    assert hint.endswith("give probe the options that serve was given")
    assert hint.startswith("the edge may speak TLS: ") is (answer == b"")


def test_something_that_never_answers_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.1)
    server, settings = tcp_server()
    with answering(None, server):
        what, _ = fault_of(settings)
    assert "timed out" in what


def test_nothing_listening() -> None:
    server, settings = tcp_server()
    server.close()
    what, _ = fault_of(settings)
    assert what == f"no edge answers at 127.0.0.1:{settings.port}: connection refused"


@pytest.mark.parametrize(("host", "asked_at"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("[::]", "::1")])
def test_an_edge_on_every_address_is_asked_at_the_loopback(
    monkeypatch: pytest.MonkeyPatch, host: str, asked_at: str
) -> None:
    asked: list[Any] = []

    def refuse(address: Any, **_: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    what, _ = fault_of(Settings(host=host, port=1234))
    assert asked == [(asked_at, 1234)]
    assert what.startswith(f"no edge answers at {TCPBind(asked_at, 1234)}: ")


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    with answering(response(200, READY), server):
        assert ask_readiness(Settings(bind=(f"unix:{path}",))) == "ready"


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    what, _ = fault_of(Settings(bind=(f"unix:{path}",)))
    assert what == f"no edge answers at unix:{path}: no such file"


def test_the_first_of_several_binds_is_asked() -> None:
    server, settings = tcp_server()
    with answering(response(200, READY), server):
        assert ask_readiness(Settings(bind=(f"127.0.0.1:{settings.port}", "127.0.0.1:1"))) == "ready"


@pytest.mark.parametrize("bind", ["fd://3", "systemd"])
def test_an_inherited_socket_cannot_be_asked(bind: str) -> None:
    what, _ = fault_of(Settings(bind=(bind,)))
    assert "a passed socket cannot be asked" in what


@pytest.mark.parametrize(("trusted", "is_balancer"), [("127.0.0.0/8", True), ("10.0.0.0/8", False), ("unix", False)])
def test_a_header_is_sent_where_the_edge_takes_this_machine_for_a_balancer(trusted: str, is_balancer: bool) -> None:
    server, settings = tcp_server()
    balanced = settings.model_copy(update={"proxy_protocol": True, "trusted_proxies": (trusted,)})
    with answering(response(200, READY), server) as asked:
        assert ask_readiness(balanced) == "ready"
    assert asked[0].startswith(LOCAL_HEADER) is is_balancer


def test_tls_whatever_names_the_certificate_has(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    server, settings = tcp_server()
    with answering(response(200, READY), server, context):
        tls = Settings(host="127.0.0.1", port=settings.port, certfile=certificates / "cert.pem")
        assert ask_readiness(tls) == "ready"


def test_plaintext_asked_of_an_edge_that_speaks_tls(certificates: Path) -> None:
    with running_edge("--no-llm", certificates=certificates) as edge:
        what, hint = fault_of(Settings(port=edge.port))
    assert what.startswith(f"no edge answers at 127.0.0.1:{edge.port}: ")
    assert hint == "the edge may speak TLS: give probe the options that serve was given"


def test_tls_asked_of_a_plaintext_edge() -> None:
    server, settings = tcp_server()
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", server):
        what, _ = fault_of(Settings(host="127.0.0.1", port=settings.port, dev_tls=True))
    assert what.startswith("no edge answers at ")
    assert "_ssl.c" not in what
