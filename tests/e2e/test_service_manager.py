"""An edge under a service manager: what it says on its socket, and the listening sockets it is given."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.e2e.test_listening import is_healthy
from tests.kit.edge import PROJECT, clean_environment, edge_command, run_edge, running_edge
from tests.kit.lifespan_source import WAITING_LIFESPAN

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = (
    WAITING_LIFESPAN
    + r"""
import os, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    seen = " ".join(sorted(name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG", "LISTEN"))))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen.encode(), "more_body": True})
    while scope["path"] == "/stream" and not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    if scope["path"] == "/hang":
        time.sleep(60)
    await send({"type": "http.response.body", "body": b""})
"""
)


class Manager:
    """The receiving side of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(60)
        self.received: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first message from now on in which a pattern is found."""
        while True:
            self.received.append(self.sock.recv(4096).decode())
            if match := re.search(pattern, self.received[-1], re.MULTILINE):
                return match


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    with manager.sock:
        yield manager


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway that starts once `wait` is gone, and streams until `finish` is there."""
    (tmp_path / "served.py").write_text(GATEWAY)
    return tmp_path


def managed(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(manager.path), **more}


def test_ready_is_said_once_the_gateway_has_started(manager: Manager, gateway: Path) -> None:
    (gateway / "wait").touch()
    env = managed(manager, WATCHDOG_USEC="400000")
    with running_edge("--gateway", "served:app", cwd=gateway, env=env, wait_for_ready=False) as edge:
        manager.wait_for("^STATUS=loading the gateway")
        manager.wait_for("^EXTEND_TIMEOUT_USEC=75000000")
        manager.wait_for("^STATUS=starting")
        manager.wait_for("^EXTEND_TIMEOUT_USEC=15000000")
        manager.wait_for("^WATCHDOG=1")
        assert not any("READY" in message for message in manager.received)
        (gateway / "wait").unlink()
        assert manager.wait_for("^READY=1\nSTATUS=ready")
        with edge.client() as client:
            assert client.get("/readyz").json()["status"] == "ready"
            assert client.get("/").text == "", "the gateway sees nothing of what systemd says to the edge"
        assert edge.stop() == 0


def test_the_end_is_told_with_what_is_still_in_flight(manager: Manager, gateway: Path) -> None:
    options = ("--gateway", "served:app", "--drain-seconds", "40")
    with running_edge(*options, cwd=gateway, env=managed(manager)) as edge, edge.client() as client:
        with client.stream("GET", "/stream") as response:
            assert response.status_code == 200
            edge.process.send_signal(signal.SIGTERM)
            manager.wait_for("^STOPPING=1\nSTATUS=draining: 1 stream in flight, 40 s left")
            manager.wait_for("^STATUS=draining: 1 stream in flight, 39 s left")
            manager.wait_for("^EXTEND_TIMEOUT_USEC=15000000")
            edge.log.wait_for(r"streams in flight .*streams=1 seconds_left=3\d")
            (gateway / "finish").touch()
        assert edge.process.wait(20) == 0
    assert "streams cut" not in edge.log.text


def test_a_restart_of_the_workers_is_told_and_where_it_failed(manager: Manager, gateway: Path) -> None:
    module = gateway / "served.py"
    good = module.read_text()
    options = ("--gateway", "served:app", "--workers", "2")
    with running_edge(*options, cwd=gateway, env=managed(manager)) as edge:
        edge.log.wait_for("worker ready", count=2)
        edge.process.send_signal(signal.SIGUSR2)
        manager.wait_for(r"^RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=restarting worker 1")
        manager.wait_for("^READY=1\nSTATUS=serving: 2 of 2 workers are ready")
        module.write_text("raise RuntimeError\n")
        edge.process.send_signal(signal.SIGUSR2)
        manager.wait_for("^RELOADING=1")
        manager.wait_for("^READY=1\nSTATUS=serving, restart failed at worker 1: 2 of 2 workers are ready")
        module.write_text(good)
        edge.process.send_signal(signal.SIGUSR2)
        manager.wait_for("^READY=1\nSTATUS=serving: 2 of 2 workers are ready")
        assert edge.stop() == 0


def test_the_heartbeat_ends_where_the_loop_hangs_and_only_there(manager: Manager, gateway: Path) -> None:
    env = managed(manager, WATCHDOG_USEC="200000")
    with running_edge("--gateway", "served:app", "--gateway-loop", "trio", cwd=gateway, env=env) as edge:
        manager.wait_for("^WATCHDOG=1")
        with socket.create_connection(("127.0.0.1", edge.port)) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nhost: localhost\r\n\r\n")
            manager.sock.settimeout(2)  # ten beats of this loop, which now hangs in its application
            with pytest.raises(TimeoutError):
                manager.wait_for("^never")
            edge.process.kill()


def test_a_gateway_that_hangs_in_its_own_thread_does_not_stop_the_heartbeat(manager: Manager, gateway: Path) -> None:
    env = managed(manager, WATCHDOG_USEC="200000")
    with (
        running_edge("--gateway", "served:app", cwd=gateway, env=env) as edge,
        socket.create_connection(("127.0.0.1", edge.port)) as client,
    ):
        client.sendall(b"GET /hang HTTP/1.1\r\nhost: localhost\r\n\r\n")
        manager.wait_for("^STATUS=degraded: the gateway's event loop does not answer")
        manager.wait_for("^WATCHDOG=1")
        edge.process.kill()


@pytest.fixture
def activate() -> str:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("systemd-socket-activate is not installed")
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_sockets_that_systemd_passes_are_used_where_nothing_else_is_said(activate: str, gateway: Path) -> None:
    ports = [free_port(), free_port()]
    listen = [text for port in ports for text in ("--listen", f"127.0.0.1:{port}")]
    command = [activate, *listen, *edge_command("serve", "--no-llm")]
    process = subprocess.Popen(command, cwd=gateway, env=clean_environment(), stderr=subprocess.DEVNULL)
    try:
        with httpx2.Client(trust_env=False, timeout=60) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    answer = client.get(f"http://127.0.0.1:{ports[0]}/readyz")  # which starts it
                    break
                except httpx2.ConnectError:
                    assert time.monotonic() < deadline, "systemd-socket-activate does not listen"
            assert answer.json()["status"] == "ready"
            assert is_healthy(f"http://127.0.0.1:{ports[1]}")
    finally:
        process.terminate()
        assert process.wait(20) == 0


PASS_ON = """
import os, sys
os.environ |= {"LISTEN_FDS": sys.argv[1], "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": sys.argv[2]}
os.execv(sys.executable, [sys.executable, "-m", "sage_edge", *sys.argv[3:]])
"""


def pass_on(sockets: list[socket.socket], names: str, *options: str) -> subprocess.Popen[str]:
    """An edge with these sockets as its descriptors from 3 on, as systemd starts one."""
    shuffle = "; ".join(f"os.dup2({sock.fileno()}, {900 + index})" for index, sock in enumerate(sockets))
    place = "; ".join(f"os.dup2({900 + index}, {3 + index})" for index in range(len(sockets)))
    script = f"import os\n{shuffle}\n{place}\n{PASS_ON}"
    return subprocess.Popen(
        [sys.executable, "-c", script, str(len(sockets)), names, "serve", "--no-llm", *options],
        cwd=PROJECT,
        env=clean_environment(),
        pass_fds=[sock.fileno() for sock in sockets],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end_once_ready(process: subprocess.Popen[str]) -> str:
    """Have an edge end as soon as it is ready; what it said."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "[info] ready" in line:
            break
    process.terminate()
    return "".join(lines) + process.stdout.read()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--bind", "systemd"), [0, 1]),
        (("--bind", "systemd:metrics"), [1]),
        ((), [0, 1]),
        (("--bind", "127.0.0.1:0"), []),
    ],
)
def test_passed_sockets_are_chosen_by_name_and_give_way_to_an_explicit_bind(
    options: tuple[str, ...], expected: list[int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        sockets = [first, second]
        with pass_on(sockets, "https:metrics", *options) as process:
            output = end_once_ready(process)
        urls = re.findall(r"listening +(\S+)", output)
        passed = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
        assert [url for url in urls if url in passed] == [passed[index] for index in expected]
        assert process.returncode == 0


def test_a_passed_socket_that_is_named_for_redirects_is_none_of_all_the_others(certificates: Path) -> None:
    tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    with socket.create_server(("127.0.0.1", 0)) as plaintext, socket.create_server(("127.0.0.1", 0)) as https:
        options = (*tls, "--redirect-http", "systemd:redirect")
        with pass_on([plaintext, https], "redirect:https", *options) as process:
            output = end_once_ready(process)
        ports = [sock.getsockname()[1] for sock in (plaintext, https)]
        assert re.findall(r"listening +(\S+)", output) == [f"https://127.0.0.1:{ports[1]}"]
        assert re.findall(r"redirect +(\S+)", output) == [f"http://127.0.0.1:{ports[0]}"]
        assert process.returncode == 0


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_passed_sockets_that_are_named_for_pages_are_none_of_all_the_others(workers: tuple[str, ...]) -> None:
    options = ("--metrics-bind", "systemd:metrics", "--admin-bind", "systemd:status", *workers)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        with pass_on(sockets, "metrics:status:listening", *options) as process:
            output = end_once_ready(process)
        for title, sock in zip(("metrics", "status", "listening"), sockets, strict=True):
            ports = re.findall(rf"^  {title} +http://127\.0\.0\.1:(\d+)", output, re.MULTILINE)
            assert ports == [str(sock.getsockname()[1])]
    assert process.returncode == 0


def test_none_passed_is_an_error_with_what_to_do() -> None:
    result = run_edge("--no-llm", "--bind", "systemd")
    assert result.returncode == 3
    assert "cannot listen on systemd: systemd passed no socket" in result.stderr
