"""The servers that are compared: how each is started, with its own command line, on the same application."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench.client import Client
from tests.bench.http2 import Request
from tests.bench.payloads import SMALL
from tests.bench.processes import Group

ASYNCIO_APP = "tests.bench.applications:asyncio_app"
TRIO_APP = "tests.bench.applications:trio_app"
ROOT = Path(__file__).parents[2]
_START_SECONDS = 30.0
_MANY = 100_000_000  # requests on a connection: limits on that are not what is measured


@dataclass(frozen=True)
class Place:
    """Where a server listens, what it can use, and a folder for its files."""

    port: int
    certificate: Path
    key: Path
    folder: Path
    upstream: int = 0

    def write(self, name: str, text: str) -> str:
        """Write a configuration file."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


Commands = Callable[[Place], list[list[str]]]


@dataclass(frozen=True)
class Server:
    """One of the compared servers."""

    name: str
    package: str  # a distribution of Python, or a program
    commands: Commands
    is_program: bool = False
    http1: bool = False  # speaks HTTP/1.1 alone: left out where h2load is absent
    is_default: bool = True  # otherwise it is measured where it is asked for by name

    @property
    def is_present(self) -> bool:
        """It can be run here. Python packages are installed with the benchmark."""
        return not self.is_program or _program(self.package) is not None

    def version(self) -> str:
        """Which version is measured."""
        if not self.is_program:
            return version(self.package)
        program = _program(self.package)
        if program is None:
            return "absent"
        arguments = [program, "-v"] if self.package == "nginx" else [program, "version"]
        run = subprocess.run(arguments, capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+\S*", run.stdout + run.stderr)
        return found.group() if found else "?"


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _python(*arguments: object) -> list[str]:
    return [sys.executable, "-m", *map(str, arguments)]


def _edge(application: str, loop: str, *, is_measured: bool = True) -> Commands:
    def commands(place: Place) -> list[list[str]]:
        listen = ("--host", "127.0.0.1", "--port", place.port, "--certfile", place.certificate, "--keyfile", place.key)
        gateway = ("--gateway", application, "--gateway-loop", loop)
        address = "127.0.0.1:0" if is_measured else "none"  # a port of its own, beside another edge
        own = ("--metrics-bind", address, "--admin-bind", address)
        return [_python("sage_edge", "serve", *gateway, *listen, *own, "--no-access-log", "--log-level", "warning")]

    return commands


def _hypercorn(application: str, worker: str) -> Commands:
    def commands(place: Place) -> list[list[str]]:
        limits = place.write("hypercorn.toml", f"keep_alive_max_requests = {_MANY}\nbacklog = 2048\n")
        tls = ("--certfile", place.certificate, "--keyfile", place.key)
        listen = ("--bind", f"127.0.0.1:{place.port}", *tls)
        return [_python("hypercorn", "--config", limits, "--worker-class", worker, *listen, application)]

    return commands


def _granian(place: Place) -> list[list[str]]:
    tls = ("--ssl-certificate", place.certificate, "--ssl-keyfile", place.key)
    listen = ("--host", "127.0.0.1", "--port", place.port, *tls, "--http", "2")
    limits = ("--backlog", 4096, "--backpressure", 8192, "--log-level", "warning", "--no-access-log")
    return [_python("granian", "--interface", "asgi", "--workers", 1, *listen, *limits, ASYNCIO_APP)]


def _uvicorn(place: Place) -> list[list[str]]:
    tls = ("--ssl-certfile", place.certificate, "--ssl-keyfile", place.key)
    return [_uvicorn_at(place.port) + list(map(str, tls))]


def _uvicorn_at(port: int) -> list[str]:
    quiet = ("--log-level", "warning", "--no-access-log")
    return _python(
        "uvicorn", "--loop", "uvloop", "--http", "httptools", "--port", port, "--backlog", 4096, *quiet, ASYNCIO_APP
    )


def _nginx(place: Place) -> list[list[str]]:
    temporary = "\n".join(
        f"{kind}_temp_path {place.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    proxy = f'proxy_pass http://127.0.0.1:{place.upstream}; proxy_http_version 1.1; proxy_set_header Connection "";'
    proxy = proxy.replace(f"127.0.0.1:{place.upstream}", "app")
    configuration = f"""
daemon off; worker_processes 1; user {getpass.getuser()}; worker_rlimit_nofile 20000;
pid {place.folder}/nginx.pid; error_log {place.folder}/error.log;
events {{ worker_connections 18000; }}
http {{
  access_log off; client_max_body_size 16m; keepalive_requests {_MANY}; http2_max_concurrent_streams 250;
  {temporary}
  upstream app {{ server 127.0.0.1:{place.upstream}; keepalive 256; keepalive_requests {_MANY}; }}
  server {{
    listen 127.0.0.1:{place.port} ssl http2 backlog=4096;
    ssl_certificate {place.certificate}; ssl_certificate_key {place.key}; ssl_protocols TLSv1.3;
    location / {{ {proxy} }}
    location /events {{ {proxy} proxy_buffering off; }}
    location /idle {{ {proxy} proxy_buffering off; }}
  }}
}}
"""
    nginx = [_program("nginx") or "nginx", "-e", f"{place.folder}/error.log", "-c"]
    return [_uvicorn_at(place.upstream), [*nginx, place.write("nginx.conf", configuration)]]


def _caddy(place: Place) -> list[list[str]]:
    configuration = f"""
{{
  admin off
  auto_https off
}}
:{place.port} {{
  bind 127.0.0.1
  tls {place.certificate} {place.key} {{
    protocols tls1.3
  }}
  reverse_proxy 127.0.0.1:{place.upstream} {{
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""
    file = place.write("Caddyfile", configuration)
    return [
        _uvicorn_at(place.upstream),
        [_program("caddy") or "caddy", "run", "--config", file, "--adapter", "caddyfile"],
    ]


SERVERS = (
    Server("edge", "sage-edge", _edge(ASYNCIO_APP, "asyncio")),
    Server("edge-trio", "sage-edge", _edge(TRIO_APP, "trio")),
    Server("hypercorn-trio", "hypercorn", _hypercorn(TRIO_APP, "trio")),
    Server("hypercorn-asyncio", "hypercorn", _hypercorn(ASYNCIO_APP, "asyncio")),
    Server("hypercorn-uvloop", "hypercorn", _hypercorn(ASYNCIO_APP, "uvloop")),
    Server("granian", "granian", _granian),
    Server("uvicorn", "uvicorn", _uvicorn, http1=True),
    Server("nginx", "nginx", _nginx, is_program=True),
    Server("caddy", "caddy", _caddy, is_program=True),
    # What metrics and the status page cost.
    Server("edge-unmeasured", "sage-edge", _edge(ASYNCIO_APP, "asyncio", is_measured=False), is_default=False),
    Server("edge-trio-unmeasured", "sage-edge", _edge(TRIO_APP, "trio", is_measured=False), is_default=False),
)


class Running:
    """A server that runs. `tls` is how clients connect to it."""

    def __init__(self, server: Server, folder: Path, certificates: Path, core: int) -> None:
        self.server = server
        self.port = _free_port()
        self.group = Group()
        self.log = folder / "log"
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE  # as h2load: spares the client's core
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self.tls.set_alpn_protocols(["http/1.1" if server.http1 else "h2"])
        place = Place(self.port, certificates / "cert.pem", certificates / "key.pem", folder, _free_port())
        for command in server.commands(place):
            self.group.start(command, core=core, folder=ROOT, environment=_environment(folder), log=self.log)

    def wait(self) -> None:
        """Wait until it answers; raise RuntimeError with the end of its log if it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.group.is_running:
            if _answers(self.port, self.tls, http1=self.server.http1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"did not start: {self.last_words() or 'no log'}")

    def last_words(self) -> str:
        """The end of its log, on one line."""
        return " ".join(self.log.read_text(errors="replace").split())[-300:]


def _environment(folder: Path) -> Mapping[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SAGE_EDGE_", "GRANIAN_"))}
    return clean | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "XDG_DATA_HOME": str(folder)}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answers(port: int, tls: ssl.SSLContext, *, http1: bool) -> bool:
    """A request is answered as it has to be, by the application."""
    try:
        if not http1:
            client = Client(port, tls, Request("/json", SMALL), connections=1, streams=1, total=1)
            return client.run().right == 1
        with (
            socket.create_connection(("127.0.0.1", port), timeout=2) as raw,
            tls.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET /json HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return b" 200 " in sock.recv(100)
    except OSError:
        return False
