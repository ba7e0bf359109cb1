"""Processes under test: started on one core, measured in /proc, ended by their ids. Linux only."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_END_SECONDS = 5.0


def cores() -> tuple[int, int]:
    """The core for servers and the core for clients."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("bench: two cores are needed: one for the server, one for the client")
    return usable[0], usable[1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process, and all that it starts meanwhile, run on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files() -> None:
    """Raise the limit of open files, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine_seconds() -> float:
    """CPU time that all processes of this machine had so far, user and system."""
    fields = Path("/proc/stat").read_text().split(maxsplit=4)
    return sum(map(int, fields[1:4])) / _TICKS_A_SECOND


class Group:
    """The processes that together are one server: several commands, each with its children."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, command: Sequence[str], *, core: int, folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        """Start one command as the leader of a session, by which its children are found."""
        with on_core(core), log.open("ab") as output:
            self._started.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    @property
    def is_running(self) -> bool:
        """All commands still run."""
        return all(process.poll() is None for process in self._started)

    def cpu_seconds(self) -> float:
        """User and system time of all processes so far."""
        return sum(ticks for _, ticks in self._processes()) / _TICKS_A_SECOND

    def memory(self) -> int:
        """Resident memory of all processes, in bytes."""
        return self._status_sum("VmRSS:")

    def peak_memory(self) -> int:
        """The most resident memory of each process so far, in bytes, summed."""
        return self._status_sum("VmHWM:")

    def end(self) -> None:
        """End every process, with force where it does not go by itself."""
        ids = [process for process, _ in self._processes()]
        for process in self._started:
            process.terminate()
        deadline = time.monotonic() + _END_SECONDS
        for process in self._started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        left = {process for process, _ in self._processes()} & set(ids)
        for process_id in left:
            os.kill(process_id, signal.SIGKILL)
        self._started.clear()

    def _status_sum(self, field: str) -> int:
        return sum(_status(process, field) for process, _ in self._processes())

    def _processes(self) -> list[tuple[int, int]]:
        """Ids and CPU ticks of all processes of the sessions."""
        sessions = {process.pid for process in self._started}
        found = []
        for name in os.listdir("/proc"):  # noqa: PTH208 - half the time of iterdir
            if name.isdigit():
                try:
                    fields = Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()
                except OSError:  # it has just ended
                    continue
                if int(fields[3]) in sessions:
                    found.append((int(name), int(fields[11]) + int(fields[12])))
        return found


def _status(process: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)
