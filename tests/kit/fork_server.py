"""Starts edges by forking a process that has imported what they import: most of a start is importing.

Both ends are here: `ForkServer` and `ForkedProcess` are used by tests, the rest runs in the process that forks. An edge
that is started so is a process like any other, but for its interpreter's start and its command line as the system
shows it. What is about those (workers and signals at any time, sockets that are passed, privileges, the README's
commands) starts edges as programs.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import coverage

import sage_edge
from sage_edge.core.own_random import own_random

REQUEST_BYTES = MOST_DESCRIPTORS = 1 << 20
UNMEASURED_WORKERS = "TESTS_UNMEASURED_WORKERS"
"""Name of the variable of an edge whose coverage is measured, and that of its workers is not."""
NOT_IMPORTED_BY_SERVE = ("sage_edge.__main__", "sage_edge.demo", "sage_edge.server.tracing")


class ForkedProcess:
    """A process that a fork server has started, with what tests use of `subprocess.Popen`.

    Attributes:
        args: its arguments.
        pid: its number.
        returncode: how it has ended, as in `subprocess.Popen`; None while it runs, as far as has been asked.
    """

    def __init__(self, args: Sequence[str], pid: int, status: int) -> None:
        self.args, self.pid = args, pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """How it has ended; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it has ended, once it has.

        Raises:
            subprocess.TimeoutExpired: it has not after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A process that has imported the edge, and forks one at a time."""

    def __init__(self, project: Path) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            # Each edge is measured from its fork on, if at all.
            unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
            environment = {**unmeasured, "PYTHONUNBUFFERED": "1"}
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=project, env=environment
            )

    def start(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: int, stderr: int
    ) -> ForkedProcess:
        """Start `python -m sage_edge` with these arguments, environment, directory and descriptors."""
        reader, writer = os.pipe()
        request = json.dumps({"arguments": arguments, "environment": dict(env), "directory": str(cwd)}).encode()
        socket.send_fds(self._control, [request], [stdout, stderr, writer])
        os.close(writer)
        pid = self._control.recv(16)
        assert pid, f"the fork server has ended: {self._process.wait()}"
        return ForkedProcess(arguments, int(pid), reader)

    def close(self) -> None:
        """End it. What it has started goes on."""
        self._control.close()
        self._process.wait()


def main(control: socket.socket) -> None:
    """Fork an edge for each request, and tell how each ends, until the other end is closed."""
    _import_edge()
    selector = selectors.PollSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not control:
                selector.unregister(key.fileobj)
                _tell_end(key.fd, *key.data)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 3)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                control.detach()
                _become_edge(*descriptors[:2], **json.loads(message))
                return
            for descriptor in descriptors[:2]:
                os.close(descriptor)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[2]))
            control.send(str(pid).encode())


def _import_edge() -> None:
    """Import what `serve` does, and no more: some tests are about what is not imported."""
    for module in walk_packages(sage_edge.__path__, "sage_edge."):
        if not module.name.startswith(NOT_IMPORTED_BY_SERVE):
            import_module(module.name)


def _tell_end(watched: int, pid: int, status: int) -> None:
    os.close(watched)
    _, wait_status = os.waitpid(pid, 0)
    os.write(status, str(os.waitstatus_to_exitcode(wait_status)).encode())
    os.close(status)


def _become_edge(
    stdout: int, stderr: int, arguments: Sequence[str], environment: Mapping[str, str], directory: str
) -> None:
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, MOST_DESCRIPTORS)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    own_random.seed()
    coverage.process_startup()
    if os.environ.pop(UNMEASURED_WORKERS, None):
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    sys.path[0] = directory
    sys.argv[1:] = arguments
    runpy.run_module("sage_edge", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
