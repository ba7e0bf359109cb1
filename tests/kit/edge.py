"""Runs a real edge as a process of its own, for tests that use it as its users do."""

from __future__ import annotations

import atexit
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx2

from tests.kit.fork_server import ForkedProcess, ForkServer

PROJECT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0
"""Longest wait for something an edge says; far beyond what a loaded machine needs."""
FOR_THE_PROGRAM = ("LD_", "OPENSSL_", "PYTHON")
"""How variables begin that have a meaning while a program is loaded only."""


class Output:
    """What a process writes to a pipe, line by line, as it comes."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lines: list[str] = []
        self._has_ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()

    @property
    def text(self) -> str:
        """Everything so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, *, count: int = 1, seconds: float = WAIT_SECONDS) -> re.Match[str]:
        """The match of the `count`-th line in which a pattern is found, as soon as it is there.

        Raises:
            AssertionError: the output ended, or the time was up, without it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or len(self._find(pattern)) >= count, seconds)
            found = self._find(pattern)
            assert len(found) >= count, f"no {pattern!r} in:\n{''.join(self._lines)}"
            return found[count - 1]

    def wait_for_end(self) -> str:
        """Everything, once the process has closed the pipe."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._has_ended, WAIT_SECONDS), "the pipe is still open"
            return "".join(self._lines)

    def _find(self, pattern: str) -> list[re.Match[str]]:
        return [match for line in self._lines if (match := re.search(pattern, line))]

    def _collect(self) -> None:
        for line in self._pipe:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


@dataclass
class Edge:
    """A running edge.

    Attributes:
        process: `sage-edge serve`.
        output: its standard output.
        log: its standard error.
        ca: the CA of its certificate; None for plaintext.
        port: the first TCP port it listens on; 0 where it listens on none.
    """

    process: subprocess.Popen[str] | ForkedProcess
    output: Output
    log: Output
    ca: Path | None
    port: int = 0

    @property
    def url(self) -> str:
        """Its base URL, without a trailing slash."""
        return f"{'https' if self.ca else 'http'}://localhost:{self.port}"

    def client(self, *, http2: bool = True, **options: Any) -> httpx2.Client:
        """A client of it that verifies its certificate. Without TLS, HTTP/2 is by prior knowledge."""
        return httpx2.Client(**self._client_options(http2=http2), **options)

    def async_client(self, *, http2: bool = True, **options: Any) -> httpx2.AsyncClient:
        """The same for asyncio and trio."""
        return httpx2.AsyncClient(**self._client_options(http2=http2), **options)

    def ssl_context(self, *alpn_protocols: str) -> ssl.SSLContext:
        """A client's TLS context that trusts it."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if alpn_protocols:
            context.set_alpn_protocols(list(alpn_protocols))
        return context

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def end_at_once(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a second signal until the end: for a moment it is taken for the first again; the exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        return self.process.wait(0)

    def _client_options(self, *, http2: bool) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "http2": http2,
            "http1": not http2,
            "timeout": 30.0,
            "trust_env": False,
            "verify": self.ssl_context() if self.ca else True,
        }


def edge_command(*options: str) -> list[str]:
    """The command line of an edge in this environment."""
    return [sys.executable, "-m", "sage_edge", *options]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without settings of an edge or a gateway, and without what it says of a terminal.

    Bytecode is kept, as where the edge is installed: else each of a thousand edges compiles what it imports.
    """
    foreign = ("SAGE_EDGE_", "SAGELLM_", "PYTHONDONTWRITEBYTECODE", "NO_COLOR", "TERM")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **(extra or {})}


def run_edge(
    *options: str, env: Mapping[str, str] | None = None, cwd: Path = PROJECT, **popen: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    with _started_edge(options, env, cwd, popen) as (process, output, log):
        code = process.wait(WAIT_SECONDS)
        return subprocess.CompletedProcess(options, code, output.wait_for_end(), log.wait_for_end())


@contextmanager
def running_edge(
    *options: str,
    certificates: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = PROJECT,
    binds: Sequence[str] = ("--host", "127.0.0.1", "--port", "0"),
    wait_for_ready: bool = True,
    **popen: Any,
) -> Iterator[Edge]:
    """An edge, from the moment it is ready until the block ends.

    Args:
        options: of `sage-edge serve`.
        certificates: a directory as `sage-edge certs create` makes it; None for plaintext.
        env: environment variables to add.
        cwd: where it runs; gateways are imported from there.
        binds: options that say where to listen.
        wait_for_ready: False returns as soon as it accepts connections.
        popen: for `subprocess.Popen`: the edge is started as a program then.
    """
    tls = (
        ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
        if certificates
        else ()
    )
    # Not at the default addresses, which other edges may have.
    own = [word for name in ("--metrics-bind", "--admin-bind") if name not in options for word in (name, "none")]
    arguments = ("serve", *binds, *tls, *own, *options)
    with _started_edge(arguments, env, cwd, popen) as (process, output, log):
        edge = Edge(process, output, log, certificates / "ca.pem" if certificates else None)
        try:
            listening = output.wait_for(r"listening +(?:https?://\S+:(\d+)|unix:)")
            output.wait_for(r"^  (health|landing)")
            if wait_for_ready:
                log.wait_for(r"\[info\] ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\nlog:\n{log.text}") from None
        edge.port = int(listening[1] or 0)
        yield edge


@contextmanager
def running_process(command: Sequence[str], **popen: Any) -> Iterator[tuple[subprocess.Popen[str], Output, Output]]:
    """A process with its output and log, which are read as they come; killed where the block has left it running."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
    assert process.stdout is not None
    assert process.stderr is not None
    with _followed(process, process.stdout, process.stderr) as (output, log):
        yield process, output, log


def _started_edge(
    arguments: Sequence[str], env: Mapping[str, str] | None, cwd: Path, popen: Mapping[str, Any]
) -> AbstractContextManager[tuple[subprocess.Popen[str] | ForkedProcess, Output, Output]]:
    """An edge that is forked, or started as a program where that makes a difference."""
    environment = clean_environment(env)
    if popen or any(name.startswith(FOR_THE_PROGRAM) for name in env or ()):
        return running_process(edge_command(*arguments), env=environment, cwd=cwd, **popen)
    return _forked_process(arguments, environment, cwd)


@contextmanager
def _forked_process(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path
) -> Iterator[tuple[ForkedProcess, Output, Output]]:
    """The same for an edge, by the fork server."""
    (output_reader, output_writer), (log_reader, log_writer) = os.pipe(), os.pipe()
    process = _fork_server().start(arguments, env=env, cwd=cwd, stdout=output_writer, stderr=log_writer)
    os.close(output_writer)
    os.close(log_writer)
    with _followed(process, open(output_reader), open(log_reader)) as (output, log):  # noqa: PTH123
        yield process, output, log


@cache
def _fork_server() -> ForkServer:
    server = ForkServer(PROJECT)
    atexit.register(server.close)
    return server


@contextmanager
def _followed(
    process: subprocess.Popen[str] | ForkedProcess, stdout: IO[str], stderr: IO[str]
) -> Iterator[tuple[Output, Output]]:
    with stdout, stderr:
        output, log = Output(stdout), Output(stderr)
        try:
            yield output, log
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(WAIT_SECONDS)
            output.wait_for_end()
            log.wait_for_end()
