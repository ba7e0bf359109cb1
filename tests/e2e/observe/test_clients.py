"""Who a request is from, by the edge, its gateway and its log: ids, proxies, and balancers."""

from __future__ import annotations

import socket
import struct
from itertools import product
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from sage_edge.server.proxy_protocol import SIGNATURE
from tests.e2e.observe.support import Figures, access_lines, observed_edge
from tests.kit.edge import Edge, run_edge, running_edge
from tests.kit.raw_http1 import exchange
from tests.kit.raw_http2 import raw_http2

FORWARDED = {"x-forwarded-for": "6.6.6.6, 198.51.100.7", "x-forwarded-proto": "https", "x-forwarded-host": "outer.test"}
VERSION_1 = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n"
VERSION_2 = (
    SIGNATURE
    + struct.pack("!BBH", 0x21, 0x11, 12)
    + socket.inet_aton("198.51.100.7")
    + socket.inet_aton("203.0.113.1")
    + struct.pack("!HH", 4711, 443)
)


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
def test_a_request_id_is_the_same_for_gateway_answer_and_log(http2: bool, certificates: Path) -> None:
    with observed_edge(certificates=certificates) as (edge, _), edge.client(http2=http2) as client:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        mine = client.get("/scope", headers={"x-request-id": "mine", "traceparent": trace, "tracestate": "a=b"})
        assert mine.headers["x-request-id"] == mine.json()["headers"]["x-request-id"] == "mine"
        assert (mine.json()["headers"]["traceparent"], mine.json()["headers"]["tracestate"]) == (trace, "a=b")
        made = client.get("/scope", headers={"x-request-id": "not sane"})
        assert made.headers["x-request-id"] == made.json()["headers"]["x-request-id"]
        assert UUID(made.headers["x-request-id"]).version == 7
        edge.log.wait_for(f"request_id={made.headers['x-request-id']}")
        assert [line["request_id"] for line in access_lines(edge)] == ["mine", made.headers["x-request-id"]]
        assert UUID(client.get("/healthz").headers["x-request-id"]).version == 7


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
def test_a_body_that_is_too_large_is_refused_with_the_id_that_the_log_has(http2: bool) -> None:
    with observed_edge("--max-body-bytes", "4") as (edge, _):
        if http2:
            with raw_http2(edge) as connection:
                stream_id = connection.request(b"/scope", method=b"POST", body=b"hello")
                response = connection.wait_for(stream_id)
            status, identifier = response.status, dict(response.headers)[b"x-request-id"].decode()
        else:
            head = b"POST /scope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            status, headers, _ = exchange(edge, head + b"5\r\nhello\r\n0\r\n\r\n")
            identifier = headers["x-request-id"]
        assert status == 413
        edge.log.wait_for(f"request_id={identifier}")
        (line,) = access_lines(edge)
        assert (line["status"], line["request_id"], line["ending"]) == (413, identifier, "refused")


def test_a_trusted_proxy_is_believed_by_gateway_and_log() -> None:
    with observed_edge("--trusted-proxies", "127.0.0.0/8") as (edge, _), edge.client() as client:
        seen = client.get("/scope", headers=FORWARDED).json()
        assert (seen["client"], seen["scheme"], seen["headers"]["host"]) == (["198.51.100.7", 0], "https", "outer.test")
        edge.log.wait_for(r"client=198\.51\.100\.7")


def test_nobody_is_believed_unless_asked_for() -> None:
    with observed_edge() as (edge, _), edge.client() as client:
        seen = client.get("/scope", headers={**FORWARDED, "forwarded": "for=6.6.6.6"}).json()
        assert (seen["client"][0], seen["scheme"]) == ("127.0.0.1", "http")
        assert not {"forwarded", *FORWARDED} & set(seen["headers"])


def test_a_proxy_on_a_unix_socket_can_be_trusted(tmp_path: Path) -> None:
    path = str(tmp_path / "edge.sock")
    with (
        observed_edge("--trusted-proxies", "unix", binds=("--bind", f"unix:{path}")),
        httpx2.Client(transport=httpx2.HTTPTransport(uds=path)) as client,
    ):
        assert client.get("http://edge/scope", headers=FORWARDED).json()["client"] == ["198.51.100.7", 0]


def ask_after(edge: Edge, header: bytes, *, pieces: int = 1) -> tuple[int, bytes]:
    """A request behind a balancer's header: the status, 0 where the connection ends, and the body."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(header) // pieces)
        for start in range(0, len(header), max(size, 1)):
            sock.sendall(header[start : start + size])
        answer = b""
        try:
            tls = edge.ssl_context("http/1.1").wrap_socket(sock, server_hostname="localhost") if edge.ca else sock
            with tls:
                tls.sendall(b"GET /scope HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                while data := tls.recv(65536):
                    answer += data
        except OSError:
            return 0, b""
    if not answer:
        return 0, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("has_tls", [True, False], ids=["TLS", "plaintext"])
def test_a_balancer_says_who_it_speaks_for(has_tls: bool, certificates: Path) -> None:
    options = ("--proxy-protocol", "--trusted-proxies", "127.0.0.1")
    with observed_edge(*options, certificates=certificates if has_tls else None) as (edge, url):
        for header, pieces in product((VERSION_1, VERSION_2), (1, 7)):
            status, body = ask_after(edge, header, pieces=pieces)
            assert status == 200
            assert b'"client": ["198.51.100.7", 4711], "server": ["203.0.113.1", 443]' in body
        edge.log.wait_for(r"client=198\.51\.100\.7")
        # One that does not say it is no balancer.
        assert ask_after(edge, b"") == (0, b"")
        assert Figures(url).sum("protocol_errors_total", protocol="proxy") == 1
        edge.log.wait_for(r"connection refused .*client=127\.0\.0\.1 reason='no PROXY protocol header: ")


def test_a_balancer_that_says_nothing_is_told_of() -> None:
    options = ("--proxy-protocol", "--trusted-proxies", "127.0.0.1", "--handshake-seconds", "1")
    with observed_edge(*options) as (edge, url), socket.create_connection(("127.0.0.1", edge.port)) as sock:
        assert sock.recv(1) == b""
        edge.log.wait_for(
            r"connection refused .*client=127\.0\.0\.1 reason='no PROXY protocol header: none came in time'"
        )
        assert Figures(url).sum("protocol_errors_total", protocol="proxy", kind="timeout") == 1


def test_a_header_is_not_read_from_others() -> None:
    with observed_edge("--proxy-protocol", "--trusted-proxies", "10.0.0.1") as (edge, _):
        assert ask_after(edge, b"")[0] == 200
        assert ask_after(edge, VERSION_1)[0] == 400
    with observed_edge("--trusted-proxies", "127.0.0.1") as (edge, _):
        assert ask_after(edge, VERSION_1)[0] == 400, "nor where it is not asked for"


@pytest.mark.parametrize("has_tls", [True, False], ids=["TLS", "plaintext"])
@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "unix", "10.0.0.1"])
def test_probe_asks_an_edge_behind_a_balancer(trusted: str, has_tls: bool, certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    options = ("--no-llm", "--proxy-protocol", "--trusted-proxies", trusted)
    binds = ("--bind", f"unix:{path}") if trusted == "unix" else ("--host", "127.0.0.1", "--port", "0")
    with running_edge(*options, binds=binds, certificates=certificates if has_tls else None) as edge:
        asked_at = f"unix:{path}" if trusted == "unix" else f"127.0.0.1:{edge.port}"
        tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
        result = run_edge("probe", *options, "--bind", asked_at, *(tls if has_tls else ()))
        assert (result.returncode, result.stderr) == (0, "")


def test_a_balancer_that_says_nothing_has_the_time_of_a_handshake() -> None:
    options = ("--proxy-protocol", "--trusted-proxies", "127.0.0.1", "--handshake-seconds", "0.2")
    with observed_edge(*options) as (edge, _), socket.create_connection(("127.0.0.1", edge.port), timeout=20) as sock:
        sock.sendall(VERSION_1[:10])
        assert sock.recv(1) == b""


def test_a_balancers_header_without_a_balancer_makes_no_sense() -> None:
    result = run_edge("check", "--no-llm", "--proxy-protocol")
    assert result.returncode == 2
    assert "--proxy-protocol: no proxy is trusted to speak it" in result.stderr
