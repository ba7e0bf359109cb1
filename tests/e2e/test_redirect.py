"""The plaintext port beside an edge, and strict-transport-security."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from sage_edge.server.proxy_protocol import LOCAL_HEADER
from tests.kit.edge import WAIT_SECONDS, Edge, run_edge, running_edge

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

HSTS = "strict-transport-security"
GATEWAY = r"""
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    headers = [(b"Strict-Transport-Security", b"max-age=1; includeSubDomains")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    message = await receive()
    await send({"type": "http.response.body", "body": scope["method"].encode() + b" " + message["body"]})
"""


@contextmanager
def redirecting(*options: str, certificates: Path, **others: object) -> Iterator[tuple[Edge, str]]:
    """An edge and the URL of its plaintext port."""
    with running_edge("--redirect-http", "0", *options, certificates=certificates, **others) as edge:  # type: ignore[arg-type]
        found = edge.output.wait_for(r"^  redirect +(http://127\.0\.0\.1:(\d+)) to https$")
        yield edge, found[1].replace("127.0.0.1", "localhost")


def test_a_client_that_follows_gets_the_answer_over_tls(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(GATEWAY)
    with redirecting("--gateway", "small:app", certificates=certificates, cwd=tmp_path) as (edge, url):
        context = edge.ssl_context()
        with httpx2.Client(verify=context, trust_env=False, follow_redirects=True) as client:
            response = client.post(f"{url}/a%2Fb?x=1", content=b"kept")
        assert response.text == "POST kept"
        assert str(response.url) == f"{edge.url}/a%2Fb?x=1"
        (redirect,) = response.history
        assert redirect.status_code == 308
        assert HSTS not in redirect.headers
        assert HSTS not in response.headers, "it is off by default"


@pytest.mark.parametrize(("public_port", "authority"), [("443", "localhost"), ("8443", "localhost:8443")])
def test_clients_are_sent_to_the_port_at_which_they_reach_the_edge(
    certificates: Path, public_port: str, authority: str
) -> None:
    with redirecting("--no-llm", "--public-port", public_port, certificates=certificates) as (_, url):
        assert httpx2.get(f"{url}/a?b=c", trust_env=False).headers["location"] == f"https://{authority}/a?b=c"


def test_the_edges_own_port_is_no_port_for_plaintext(certificates: Path) -> None:
    tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    result = run_edge("check", "--no-llm", *tls, "--port", "21140", "--redirect-http", "21140")
    assert result.returncode == 2
    assert "--redirect-http: the edge itself listens on port 21140" in result.stderr


ODD_REQUESTS = [
    b"GET / HTTP/1.1\r\nhost: evil.test/@localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.test\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\rset-cookie: x\r\n\r\n",
    b"GET http://evil.test/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
]


def test_odd_requests_are_answered_without_a_redirect(certificates: Path) -> None:
    with redirecting("--no-llm", certificates=certificates) as (_, url):
        port = int(url.rpartition(":")[2])
        for request in ODD_REQUESTS:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
                sock.sendall(request)
                answer = b"".join(iter(lambda sock=sock: sock.recv(65_536), b""))
            assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), request
            assert b"location" not in answer.lower()


def test_what_is_asked_here_is_in_the_access_log(certificates: Path) -> None:
    with redirecting("--no-llm", certificates=certificates) as (edge, url):
        with httpx2.Client(trust_env=False) as client:
            redirect = client.get(f"{url}/v1/models?key=secret")
            client.get(f"{url}/healthz")
        identifier = redirect.headers["x-request-id"]
        edge.log.wait_for(r"method=GET path=/v1/models status=308 .*mount=redirect request_id=" + identifier)
        edge.log.wait_for(r"method=GET path=/healthz status=200 .*mount=health")
        assert "secret" not in edge.log.text


def test_a_balancer_begins_with_its_header_here_too(certificates: Path) -> None:
    options = ("--no-llm", "--proxy-protocol", "--trusted-proxies", "127.0.0.1")
    header = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n"
    with redirecting(*options, certificates=certificates) as (edge, url):
        answers = []
        for start in (header, LOCAL_HEADER, b""):
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as sock:
                sock.sendall(start + b"GET /a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                with suppress(ConnectionResetError):
                    answers.append(sock.makefile("rb").readline())
        assert [answer[:12] for answer in answers if answer] == [b"HTTP/1.1 308", b"HTTP/1.1 308"]
        edge.log.wait_for(r"client=198\.51\.100\.7 .*path=/a status=308")
        edge.log.wait_for(r"connection refused .*client=127\.0\.0\.1 reason='no PROXY protocol header: ")


def test_health_is_told_where_clients_need_certificates(certificates: Path) -> None:
    mutual = ("--client-auth", "required", "--ca-certs", str(certificates / "ca.pem"))
    with redirecting("--no-llm", *mutual, certificates=certificates) as (edge, url):
        with httpx2.Client(trust_env=False) as client:
            assert client.get(f"{url}/healthz").status_code == 200
            assert client.get(f"{url}/readyz").json()["status"] == "ready"
        with pytest.raises((httpx2.TransportError, ssl.SSLError)), edge.client() as client:
            client.get("/healthz")
        assert edge.stop() == 0


def test_browsers_are_told_to_use_https_unless_the_gateway_has_told_them(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(GATEWAY)
    options = ("--gateway", "small:app", "--hsts-seconds", "600")
    with redirecting(*options, certificates=certificates, cwd=tmp_path) as (edge, url):
        for http2 in (True, False):
            with edge.client(http2=http2) as client:
                for path in ("/", "/healthz", "/%00"):
                    assert client.get(path).headers.get_list(HSTS) == ["max-age=600"]
                assert client.get("/own").headers.get_list(HSTS) == ["max-age=1; includeSubDomains"]
        with httpx2.Client(trust_env=False) as client:
            assert HSTS not in client.get(url).headers
            assert HSTS not in client.get(f"{url}/healthz").headers


def test_workers_share_the_plaintext_port(certificates: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--no-llm", "--workers", "2", "--redirect-http", str(port))
    with running_edge(*options, certificates=certificates) as edge, httpx2.Client(trust_env=False) as client:
        edge.log.wait_for(r"\[info\] ready", count=2)
        for _ in range(10):
            response = client.get(f"http://localhost:{port}/x", headers={"connection": "close"})
            assert response.headers["location"] == f"{edge.url}/x"
        assert edge.stop() == 0


def test_a_port_that_is_taken_is_a_fault_of_its_own(certificates: Path) -> None:
    tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_edge("--no-llm", "--host", "127.0.0.1", "--port", "0", *tls, "--redirect-http", port)
    assert result.returncode == 3
    assert "the address is in use" in result.stderr
    assert "choose another port with --redirect-http" in result.stderr


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
@pytest.mark.parametrize("is_passed", [True, False], ids=["passed", "reuse-port"])
def test_plaintext_is_handed_over_beside_passed_sockets(
    certificates: Path, workers: tuple[str, ...], is_passed: bool
) -> None:
    with ExitStack() as stack:
        passed, plaintext = (stack.enter_context(socket.socket()) for _ in range(2))
        plaintext.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for sock in (passed, plaintext):
            sock.bind(("127.0.0.1", 0))
        passed.listen()
        port = plaintext.getsockname()[1]
        options = ["--no-llm", "--redirect-http", str(port), "--reuse-port", "--host", "127.0.0.1", *workers]
        if is_passed:
            plaintext.listen()
            options[2:4] = [f"fd://{plaintext.fileno()}"]
        numbers = [passed.fileno(), plaintext.fileno()]
        binds = ("--bind", f"fd://{numbers[0]}")

        def start() -> Edge:
            edge = running_edge(*options, certificates=certificates, binds=binds, pass_fds=numbers)
            return stack.enter_context(edge)

        def ask(path: str) -> int:
            headers = {"connection": "close"}
            return httpx2.get(f"http://localhost:{port}{path}", headers=headers, trust_env=False).status_code

        old, new = start(), start()
        assert ask("/x") == 308
        assert old.stop() == 0
        assert [ask("/x"), ask("/readyz")] == [308, 200]
        assert new.stop() == 0


def test_the_plaintext_port_of_another_edge_is_not_shared_with_it(certificates: Path) -> None:
    workers = ("--workers", "1")
    tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    with redirecting("--no-llm", *workers, certificates=certificates) as (_, url):
        port = url.rpartition(":")[2]
        result = run_edge("--no-llm", *workers, "--host", "127.0.0.1", "--port", "0", *tls, "--redirect-http", port)
    assert result.returncode == 3
    assert "the address is in use" in result.stderr


def test_what_the_system_has_accepted_is_answered_before_the_plaintext_port_closes(certificates: Path) -> None:
    with redirecting("--no-llm", certificates=certificates) as (edge, url):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        edge.process.send_signal(signal.SIGSTOP)
        clients = [socket.create_connection(address, timeout=30) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n")
        edge.process.send_signal(signal.SIGTERM)
        edge.process.send_signal(signal.SIGCONT)
        for client in clients:
            with client:
                assert client.recv(1000).startswith(b"HTTP/1.1 308 ")
        assert edge.process.wait(WAIT_SECONDS) == 0


def test_a_rolling_restart_resets_no_connection_to_the_plaintext_port(certificates: Path) -> None:
    failures: list[str] = []
    answers: list[bytes] = []
    is_over = threading.Event()

    def ask_on(address: tuple[str, int]) -> None:
        while not is_over.is_set():
            try:
                with socket.create_connection(address, timeout=30) as sock:
                    sock.sendall(b"GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    answers.append(b"".join(iter(lambda sock=sock: sock.recv(65_536), b""))[:13])
            except OSError as error:
                failures.append(repr(error))

    with redirecting("--no-llm", "--workers", "2", "--no-access-log", certificates=certificates) as (edge, url):
        edge.log.wait_for(r"worker ready", count=2)
        threads = [threading.Thread(target=ask_on, args=[("127.0.0.1", int(url.rpartition(":")[2]))]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 3):
            edge.process.send_signal(signal.SIGUSR2)
            edge.log.wait_for(r"restarted workers", count=number)
            edge.log.wait_for(r"\[info\] stopped", count=2 * number)
        is_over.set()
        for thread in threads:
            thread.join()
        assert edge.stop() == 0
    assert failures == []
    assert set(answers) == {b"HTTP/1.1 308 "}
