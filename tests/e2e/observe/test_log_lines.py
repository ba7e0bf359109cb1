"""The log of a real process: where it goes, and that nothing it goes to can hold up a stream or end the edge."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.observe.gateway import EVENT
from tests.e2e.observe.support import Figures, access_lines, observed_edge
from tests.kit.edge import PROJECT, WAIT_SECONDS, clean_environment, edge_command, run_edge

PIPE_BYTES = 4096
GATEWAY = "tests.e2e.observe.gateway:app"


@contextmanager
def silent_edge(
    command: Sequence[str] = (), gateway: str = GATEWAY, **popen: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """An edge whose output is not read, and the addresses that it serves and shows its metrics at."""
    with socket.socket() as main, socket.socket() as metrics:
        for sock in (main, metrics):
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        binds = ("--bind", f"fd://{main.fileno()}", "--metrics-bind", f"fd://{metrics.fileno()}")
        process = subprocess.Popen(
            [*command, *edge_command("serve", *binds, "--gateway", gateway, "--access-log-query")],
            pass_fds=(main.fileno(), metrics.fileno()),
            env=clean_environment(),
            cwd=PROJECT,
            **popen,
        )
        urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (main, metrics)]
    try:
        yield process, urls[0], f"{urls[1]}/metrics"
    finally:
        process.kill()
        process.wait(WAIT_SECONDS)


def ask_until_ready(client: httpx2.Client) -> None:
    while client.get("/readyz").status_code != 200:
        pass


def stream(client: httpx2.Client, count: int) -> bytes:
    return client.get(f"/events/{count}", headers={"x-request-id": "a-stream"}).content


def test_a_pipe_that_nobody_reads_slows_no_stream_and_its_lines_are_counted() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        with silent_edge(stdout=subprocess.DEVNULL, stderr=writer) as (process, url, metrics):
            os.close(writer)
            with httpx2.Client(base_url=url, trust_env=False, timeout=10) as client:
                ask_until_ready(client)
                while not Figures(metrics).sum("log_lines_dropped_total"):
                    for _ in range(50):
                        assert client.get("/log/30000").status_code == 200
                assert stream(client, 50) == EVENT * 50
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0
    finally:
        os.close(reader)


@pytest.mark.parametrize("kind", ["full", "closed", "nobody there"])
def test_output_that_cannot_be_written_is_no_reason_to_end(kind: str) -> None:
    if kind == "closed":
        edge = silent_edge(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    elif kind == "full":
        full = os.open("/dev/full", os.O_WRONLY)
        edge = silent_edge(stdout=full, stderr=full)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        edge = silent_edge(stdout=writer, stderr=writer)
    with edge as (process, url, metrics), httpx2.Client(base_url=url, trust_env=False, timeout=10) as client:
        ask_until_ready(client)
        assert stream(client, 5) == EVENT * 5
        client.close()
        figures = Figures(metrics)
        assert figures.sum("requests_total", mount="/") == 1
        assert (figures.sum("log_lines_dropped_total") > 0) is (kind != "closed")  # then it goes to the null device
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
    for name in ("full", "writer"):
        with suppress(KeyError, OSError):
            os.close(locals()[name])


def test_a_log_file_is_rotated_by_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "edge.log"
    with silent_edge(
        ["sh", "-c", f'exec "$@" --log-file {path}', "sh"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as (process, url, _):
        with httpx2.Client(base_url=url, trust_env=False, timeout=10) as client:
            ask_until_ready(client)
            client.get("/scope/before")
            while "/scope/before" not in path.read_text():
                pass
            path.rename(tmp_path / "edge.log.1")
            process.send_signal(signal.SIGUSR1)
            while not path.exists():
                client.get("/healthz")
            client.get("/scope/after")
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"", "all of it is in the file"
        process.stderr.close()
    assert "/scope/before" in (tmp_path / "edge.log.1").read_text()
    assert "/scope/after" not in (tmp_path / "edge.log.1").read_text()
    assert "/scope/after" in path.read_text()
    assert path.read_text().rstrip().endswith("stopped [sage_edge.server.run]")


@pytest.mark.parametrize("setup", ["structlog", "root", "root, all else disabled", "loggers of its own", "all is off"])
def test_a_gateway_that_sets_up_logging_for_itself_has_no_say_in_the_edges(tmp_path: Path, setup: str) -> None:
    path = tmp_path / "edge.log"
    reader, writer = os.pipe()  # which nobody reads: the edge says nothing there
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    command = ["env", f"SETUP={setup}", f"SAGE_EDGE_LOG_FILE={path}"]
    gateway = "tests.e2e.observe.configuring_gateway:app"
    with silent_edge(command, gateway, stdout=writer, stderr=writer) as (process, url, metrics):
        os.close(writer)
        with httpx2.Client(base_url=url, trust_env=False, timeout=10) as client:
            ask_until_ready(client)
            for _ in range(100):
                assert client.get("/scope").status_code == 200
                assert client.get("/fail").status_code == 500
            assert Figures(metrics).sum("log_lines_dropped_total") == 0
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
    said = os.read(reader, 2 * PIPE_BYTES).decode()
    os.close(reader)
    assert "sage_edge." not in said.partition("mine: ")[0]
    assert "request" not in said
    lines = path.read_text().splitlines()
    assert sum(" path=/scope " in line for line in lines) == 100
    assert sum("request failed [sage_edge.app.rescue]" in line for line in lines) == 100
    assert any("ready [sage_edge.server.run]" in line for line in lines)
    assert lines[-1].endswith("stopped [sage_edge.server.run]")


def test_a_signal_without_a_log_file_does_nothing() -> None:
    with observed_edge() as (edge, url):
        edge.process.send_signal(signal.SIGUSR1)
        assert Figures(url).sum("phase", phase="ready") == 1
        assert edge.stop() == 0


def test_a_log_file_that_cannot_be_opened_is_reported_with_all_else(tmp_path: Path) -> None:
    result = run_edge("serve", "--log-file", str(tmp_path / "none" / "log"), "--gateway", "no_such_module:app")
    assert result.returncode == 3
    assert "error: --log-file: cannot open" in result.stderr
    assert "no_such_module" in result.stderr


def test_a_log_file_that_is_a_pipe_without_a_reader_is_a_fault_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = run_edge("serve", "--log-file", str(tmp_path / "pipe"), "--port", "0", "--gateway", GATEWAY)
    assert result.returncode == 3
    assert (
        f"error: --log-file: cannot open {tmp_path}/pipe: it is a socket, or a pipe that nobody reads" in result.stderr
    )


def test_a_path_and_query_of_a_clients_choice_make_no_line_long() -> None:
    with observed_edge("--access-log-query") as (edge, _), edge.client() as client:
        client.get("/scope/" + "p" * 2000, params={"q": "q" * 2000})
        edge.log.wait_for(r"path=/scope/p{1017}… ")
        client.get("/scope", params={"q": "q" * 2000})
        edge.log.wait_for(r"path='/scope\?q=q{1015}…' ")


def test_secrets_are_not_logged_and_the_query_only_when_asked_for() -> None:
    secrets = {"authorization": "Bearer sk-secret", "cookie": "session=sk-secret", "x-api-key": "sk-secret"}
    with observed_edge("--log-level", "debug") as (edge, _), edge.client() as client:
        client.get("/scope", params={"key": "sk-secret"}, headers=secrets)
        edge.log.wait_for(r"path=/scope ")
        assert "sk-secret" not in edge.log.text
    with observed_edge("--access-log-query") as (edge, _), edge.client() as client:
        client.get("/scope", params={"key": "value"}, headers=secrets)
        edge.log.wait_for(r"path='?/scope\?key=value")
        assert "sk-secret" not in edge.log.text
        assert len(access_lines(edge)) == 1
