"""Where and how an edge listens: every kind of address, every protocol, TLS and client certificates."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.kit.edge import PROJECT, Edge, clean_environment, edge_command, run_edge, running_edge
from tests.kit.raw_http1 import exchange
from tests.kit.raw_http2 import raw_http2
from tests.kit.tls_files import write_tls_files

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    write_tls_files(directory)
    return directory


def addresses_of(edge: Edge) -> list[str]:
    return re.findall(r"listening +(\S+)", edge.output.text)


def is_healthy(url: str, **options: object) -> bool:
    with httpx2.Client(trust_env=False, timeout=30, **options) as client:
        return client.get(f"{url}/healthz").json()["status"] == "ok"


def is_healthy_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(HEALTH)
        with sock.makefile("rb") as answer:
            return b'"status":"ok"' in answer.read()


def test_several_binds_of_every_kind_serve_the_same(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        binds = ["127.0.0.1:0", "[::1]:0", f"unix:{path}", f"fd://{number}"]
        options = [text for bind in binds for text in ("--bind", bind)]
        with running_edge("--no-llm", binds=options, pass_fds=[number]) as edge:
            v4, v6, unix, passed_on = addresses_of(edge)
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", v4)
            assert re.fullmatch(r"http://\[::1\]:\d+", v6)
            assert unix == f"unix:{path}"
            assert passed_on == f"http://127.0.0.1:{inherited.getsockname()[1]}"
            assert all(is_healthy(url) for url in (v4, v6, passed_on))
            assert is_healthy_at(path)
            assert edge.stop() == 0
    assert not path.exists()


def test_a_host_name(tmp_path: Path) -> None:
    with running_edge("--no-llm", binds=("--host", "localhost", "--port", "0")) as edge:
        assert all(is_healthy(url) for url in addresses_of(edge))


def test_a_unix_socket_answers_curl_and_replaces_one_left_behind(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    path = tmp_path / "edge.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with running_edge("--no-llm", binds=("--bind", f"unix:{path}")):
        command = [curl, "--silent", "--fail", "--unix-socket", str(path), "http://localhost/readyz"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert json.loads(result.stdout)["status"] == "ready"


def test_plaintext_speaks_http1_and_http2_with_prior_knowledge() -> None:
    with running_edge("--no-llm") as edge:
        assert exchange(edge, HEALTH)[0] == 200
        with raw_http2(edge) as connection:
            assert connection.wait_for(connection.request(b"/healthz")).status == 200
        upgrade = HEALTH.replace(b"connection: close", b"connection: upgrade, http2-settings\r\nupgrade: h2c")
        # RFC 9113 section 3.1 has withdrawn the upgrade: it is answered as the HTTP/1.1 request it is.
        status, _, body = exchange(edge, upgrade.replace(b"\r\n\r\n", b"\r\nhttp2-settings: AAMAAABk\r\n\r\n"))
        assert (status, json.loads(body)["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("h2",), "h2"),
        (("http/1.1",), "http/1.1"),
        ((), None),
    ],
)
def test_tls_selects_a_protocol(shared: Edge, offered: tuple[str, ...], selected: str | None) -> None:
    context = shared.ssl_context(*offered)
    with (
        socket.create_connection(("127.0.0.1", shared.port), timeout=30) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as stream,
    ):
        assert stream.selected_alpn_protocol() == selected
        assert stream.version() == "TLSv1.3"
        if selected != "h2":
            stream.sendall(HEALTH)
            assert stream.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def shared(certificates: Path) -> Iterator[Edge]:
    with running_edge(
        "--gateway",
        "tests.kit.gateways.plain:app",
        "--llm-prefix",
        "/llm",
        certificates=certificates,
        binds=("--host", "0.0.0.0", "--port", "0"),
    ) as edge:
        yield edge


def test_the_start_up_table_says_what_is_served_where(shared: Edge, certificates: Path) -> None:
    lines = [line.rstrip() for line in shared.output.text.splitlines()]
    base = f"https://localhost:{shared.port}"
    assert re.fullmatch(r"sage-edge \d+\.\d+\.\d+", lines[0])
    table = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in lines[1:])
    assert table["listening"] == f"https://0.0.0.0:{shared.port}  (HTTP/2 and HTTP/1.1 over TLS)"
    assert table["health"] == f"{base}/healthz  {base}/readyz"
    assert table["gateway"] == f"tests.kit.gateways.plain:app at {base}/llm  (asyncio, in a thread of its own)"
    assert table["landing"] == f"{base}/"
    assert table["tls"].startswith(f"{certificates}/cert.pem for localhost, ")
    assert re.search(r"127\.0\.0\.1.*; expires \d{4}-\d\d-\d\d \(in \d+ days\)$", table["tls"])


def test_the_links_of_the_start_up_table_answer(shared: Edge) -> None:
    with shared.client() as client:
        for url in set(re.findall(r"https://localhost:\S+", shared.output.text)):
            assert client.get(url).status_code == 200, url


def test_json_logs_are_all_there_is_on_stderr_and_stdout_is_empty() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        listen = ("--bind", f"fd://{inherited.fileno()}", "--metrics-bind", "none", "--admin-bind", "none")
        options = ("--no-llm", "--log-format", "json", *listen)
        with subprocess.Popen(
            edge_command("serve", *options),
            cwd=PROJECT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[inherited.fileno()],
        ) as process:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(json.loads(line))
                if lines[-1]["event"] == "ready":
                    break
            assert is_healthy(f"http://127.0.0.1:{inherited.getsockname()[1]}")
            process.terminate()
            output, rest = process.communicate(timeout=30)
    lines += [json.loads(line) for line in rest.splitlines()]
    assert output == ""
    events = [line["event"] for line in lines]
    assert events[:2] == ["serving", "ready"]
    assert set(events) >= {"request", "draining", "stopped"}
    assert [title for title, _ in lines[0]["rows"] if title in {"health", "gateway"}] == ["health", "gateway"]


@pytest.mark.parametrize(
    "options",
    [
        ("--certfile", "combined.pem"),
        ("--certfile", "cert.pem", "--keyfile", "encrypted.pem", "--keyfile-password-file", "password"),
    ],
    ids=["combined file", "encrypted key"],
)
def test_certificates_and_keys_in_other_shapes(tls: Path, options: tuple[str, ...]) -> None:
    with running_edge("--no-llm", *options, cwd=tls) as edge:
        assert is_healthy(f"https://localhost:{edge.port}", verify=ssl.create_default_context(cafile=tls / "ca.pem"))


def test_dev_tls_makes_certificates_once_and_serves_them(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        with running_edge("--no-llm", "--dev-tls", cwd=tmp_path) as edge:
            context = ssl.create_default_context(cafile=tmp_path / "certs" / "ca.pem")
            assert is_healthy(f"https://localhost:{edge.port}", verify=context)
        made.append({path.name: path.read_bytes() for path in (tmp_path / "certs").iterdir()})
    assert {"ca.pem", "cert.pem", "key.pem"} <= set(made[0])
    assert made[0] == made[1]


@pytest.mark.parametrize(("client_auth", "is_needed"), [("optional", False), ("required", True)])
def test_client_certificates(certificates: Path, tmp_path: Path, client_auth: str, is_needed: bool) -> None:
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    options = ("--client-auth", client_auth, "--ca-certs", str(tmp_path / "clients.pem"))

    def asks_with(authority: trustme.CA | None) -> bool:
        context = edge.ssl_context()
        if authority is not None:
            authority.issue_cert("client@edge.test").configure_cert(context)
        try:
            return is_healthy(edge.url, verify=context)
        except httpx2.TransportError:
            return False

    with running_edge("--no-llm", *options, certificates=certificates) as edge:
        assert asks_with(ours)
        assert not asks_with(others)
        assert asks_with(None) is not is_needed
        probe = run_edge(
            *("probe", "--host", "127.0.0.1", "--port", str(edge.port), *options),
            *("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem")),
        )
        # The health check of a container has no client certificate; an edge that serves is not to be restarted.
        assert "Traceback" not in probe.stderr
        assert probe.returncode == (1 if is_needed else 0)
        assert not is_needed or "client certificate" in probe.stderr
        assert "Traceback" not in edge.log.text
