"""Runs stock Hypercorn's trio worker in the edge's place, to show that a trap is one.

With the environment variable SAGE_EDGE_TRAPS_SERVER=hypercorn the tests in `tests.e2e.traps` meet it instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.kit.edge import WAIT_SECONDS, Edge, Output, clean_environment, edge_command, running_edge

IS_STOCK = os.environ.get("SAGE_EDGE_TRAPS_SERVER") == "hypercorn"

# Each one is an option of the edge with the name that Hypercorn has for the same thing, if it has any.
STOCK_OPTIONS = {
    "--drain-seconds": "--graceful-timeout",
    "--idle-seconds": "--keep-alive",
    "--workers": "--workers",
}
PREFIX = "--llm-prefix"
"""Stock Hypercorn has the gateway in its dispatcher instead, which is in `mounted.py`."""


@dataclass
class Server(Edge):
    """An edge, or stock Hypercorn.

    Attributes:
        directory: where it runs.
    """

    directory: Path = Path()

    @property
    def worker(self) -> int:
        """The process that serves: Hypercorn starts one."""
        if not IS_STOCK:
            return self.process.pid
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.worker}/fd").iterdir()))

    @property
    def resident_bytes(self) -> int:
        """The memory it has."""
        return int(Path(f"/proc/{self.worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def server_command(gateway: str, certificates: Sequence[Path], options: Mapping[str, object]) -> list[str]:
    """The command line.

    Args:
        gateway: module:attribute.
        certificates: the certificate's file and the key's; one or both may be left out.
        options: the edge's. Hypercorn gets those that it has.
    """
    names = ("--certfile", "--keyfile")
    files = [text for name, path in zip(names, certificates, strict=False) for text in (name, str(path))]
    if not IS_STOCK:
        more = [text for name, value in options.items() for text in (name, str(value))]
        return edge_command("serve", "--host", "127.0.0.1", "--port", "0", "--gateway", gateway, *files, *more)
    more = [
        text for name, value in options.items() if name in STOCK_OPTIONS for text in (STOCK_OPTIONS[name], str(value))
    ]
    mounted = f"mounted:{gateway.partition(':')[0]}" if PREFIX in options else gateway
    return [
        *(sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:0"),
        *("--access-logfile", "-", *files, *more, mounted),
    ]


@contextmanager
def running_server(
    gateway: str, directory: Path, *, certificates: Path | None = None, options: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """A server, from the moment it is ready until the block ends."""
    files = [certificates / "cert.pem", certificates / "key.pem"] if certificates else []
    command = server_command(gateway, files, options or {})
    if not IS_STOCK:
        arguments = command[command.index("--gateway") :]
        with running_edge(*arguments, cwd=directory) as edge:
            yield Server(edge.process, edge.output, edge.log, _ca(certificates), edge.port, directory)
        return
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # its worker ends with it
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        server = Server(process, Output(process.stdout), Output(process.stderr), _ca(certificates), 0, directory)
        try:
            server.port = int(server.log.wait_for(r"Running on https?://\S+:(\d+)")[1])
            yield server
        finally:
            _end_group(process)
            server.output.wait_for_end()
            server.log.wait_for_end()


def run_to_its_end(
    directory: Path,
    files: Sequence[Path] = (),
    *,
    gateway: str = "gateway:app",
    options: Mapping[str, object] | None = None,
    seconds: float = 15.0,
) -> tuple[int | None, str]:
    """Run a server that is to end by itself; its exit code, None if it went on, and all that it said."""
    process = subprocess.Popen(
        server_command(gateway, files, options or {}),
        cwd=directory,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    with process.stdout:
        output = Output(process.stdout)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
        return code, output.wait_for_end()


def _ca(certificates: Path | None) -> Path | None:
    return certificates / "ca.pem" if certificates else None


def _end_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(WAIT_SECONDS)
