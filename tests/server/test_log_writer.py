"""Lines written in the background: in order, bounded, and never waited for."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sage_edge.server import log_writer
from sage_edge.server.log_writer import LogWriter
from tests.kit.captured_logs import captured_logs
from tests.kit.edge import PROJECT
from tests.kit.eventually import eventually

WAIT_SECONDS = 20.0
PIPE_BYTES = 4096


@contextmanager
def writing(path: Path | None) -> Iterator[LogWriter]:
    writer = LogWriter(path)
    writer.start()
    try:
        yield writer
    finally:
        writer.close()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A small pipe that can be written to by its path, and its other end, which nobody reads yet."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(descriptor, True)
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)


def test_a_shown_line_is_behind_what_was_logged_and_only_the_latest_is_written(pipe: tuple[Path, int]) -> None:
    path, descriptor = pipe
    with writing(path) as writer:
        text = "x" * 2 * PIPE_BYTES
        writer.put(text)  # more than the pipe takes
        for left in range(3):
            writer.show(f"{left} left")
        writer.put("logged")
        found = b""
        while not found.endswith(b"left\r"):
            found += os.read(descriptor, PIPE_BYTES)
    assert found == f"{text}\nlogged\n\x1b[K2 left\r".encode()


def test_lines_of_many_threads_are_all_written_each_threads_in_order(tmp_path: Path) -> None:
    def log(name: str) -> None:
        for number in range(500):
            writer.put(f"{name} {number}")

    with writing(tmp_path / "log") as writer:
        threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "log").read_text().splitlines()
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(500)]
    assert writer.dropped == 0


def test_a_file_is_appended_to_and_others_may_not_read_it(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with writing(tmp_path / "log") as writer:
            writer.put(text)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert not (tmp_path / "log").stat().st_mode & 0o007


def test_a_file_that_was_moved_away_is_opened_anew_when_asked_and_no_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with writing(path) as writer:
        writer.put("before")
        assert eventually(lambda: path.read_text() == "before\n")
        path.rename(tmp_path / "log.1")
        writer.put("still the old one")
        assert eventually(lambda: "still" in (tmp_path / "log.1").read_text())
        writer.reopen()
        assert eventually(path.exists)
        writer.put("after")
    assert (tmp_path / "log.1").read_text() == "before\nstill the old one\n"
    assert path.read_text() == "after\n"


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe that nobody reads"):
        LogWriter(tmp_path / "pipe").start()


def test_where_a_pipe_without_a_reader_has_taken_its_place_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with captured_logs() as lines, writing(path) as writer:
        path.rename(tmp_path / "old")
        os.mkfifo(path)
        writer.reopen()
        assert eventually(lambda: bool(lines))
        writer.put("still here")
    assert [line["reason"] for line in lines] == ["it is a socket, or a pipe that nobody reads"]
    assert (tmp_path / "old").read_text() == "still here\n"


def test_where_it_cannot_be_opened_anew_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "directory" / "log"
    path.parent.mkdir()
    with writing(path) as writer:
        path.parent.rename(tmp_path / "moved")
        writer.reopen()
        writer.put("still here")
    assert "still here\n" in (tmp_path / "moved" / "log").read_text()


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_over_the_bound_is_dropped(
    pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reader = pipe
    monkeypatch.setattr(log_writer, "QUEUED_BYTES", 50_000)
    with writing(path) as writer:
        for number in range(1000):
            writer.put(f"{number:099}")
        dropped = writer.dropped
        assert 0 < dropped <= 600
        read = b""
        while read.count(b"\n") < 1000 - dropped:
            read += os.read(reader, 65536)
    numbers = [int(line) for line in read.splitlines()[: 1000 - dropped]]
    assert numbers == sorted(set(numbers)), "in order, and none twice"


def test_the_end_does_not_wait_for_ever(pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, reader = pipe
    monkeypatch.setattr(log_writer, "STOP_SECONDS", 0.1)
    started = time.monotonic()
    with writing(path) as writer:
        writer.put("x" * 2 * PIPE_BYTES)
    assert time.monotonic() - started < WAIT_SECONDS
    os.read(reader, 65536)  # lets the thread end
    os.read(reader, 65536)


def test_a_full_disk_costs_lines_and_raises_nothing() -> None:
    with writing(Path("/dev/full")) as writer:
        for _ in range(10):
            writer.put("lost")
    assert writer.dropped == 10


def test_characters_that_no_encoding_has_are_written_as_escapes(tmp_path: Path) -> None:
    with writing(tmp_path / "log") as writer:
        writer.put("fine \udc80")
    assert (tmp_path / "log").read_text() == "fine \\udc80\n"


def test_a_line_after_the_end_is_dropped(tmp_path: Path) -> None:
    with writing(tmp_path / "log") as writer:
        pass
    writer.put("late")
    assert writer.dropped == 1
    assert (tmp_path / "log").read_text() == ""


def test_a_forked_childs_lines_are_written_too_and_nobodys_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with writing(path) as writer:
        writer.put("before")
        assert eventually(lambda: path.read_text() == "before\n")
        child = os.fork()
        if child == 0:
            writer.put("child")
            writer.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        writer.put("after")
    assert path.read_text() == "before\nchild\nafter\n"


def fork(work: Callable[[], bool]) -> int:
    """A forked child that does the work and ends, with 0 where it is true. It may have no more than `WAIT_SECONDS`."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
        os._exit(0 if work() else 1)
    return child


def is_done(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def is_full(path: Path) -> bool:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [descriptor], [], 0)[1]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("is_parents_turn", [True, False])
def test_a_forked_child_is_held_up_once_at_most_by_a_pipe_that_nobody_reads(
    pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, is_parents_turn: bool
) -> None:
    path, reader = pipe
    monkeypatch.setattr(log_writer, "CHILD_SECONDS", 0.1)
    with writing(path) as writer:
        text = "x" * (2 * PIPE_BYTES if is_parents_turn else PIPE_BYTES - 1)
        writer.put(text)
        assert eventually(lambda: is_full(path))

        def work() -> bool:
            for _ in range(1000):
                writer.put("child")
            return writer.dropped == 1000

        assert is_done(fork(work))
        assert writer.dropped == 0
        read_until(reader, text.encode() + b"\n")


def read_until(descriptor: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(descriptor, PIPE_BYTES)
    return data


def test_a_forked_child_writes_again_once_there_is_room_and_reports_what_it_dropped(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    has_dropped, may_go_on = os.pipe(), os.pipe()
    with writing(path) as writer:

        def work() -> bool:
            while not writer.dropped:
                writer.put("x" * 99)
            os.write(has_dropped[1], b".")
            os.read(may_go_on[0], 1)
            with captured_logs() as lines:
                writer.put("again")
            return [line["count"] for line in lines] == [1]

        child = fork(work)
        os.close(has_dropped[1])
        os.read(has_dropped[0], 1)
        first = os.read(reader, PIPE_BYTES)
        os.write(may_go_on[1], b".")
        assert is_done(child)
        writer.put("last")
        assert read_until(reader, b"last\n") == b"again\nlast\n"
    assert set(first.split(b"\n")) == {b"x" * 99, b""}
    for descriptor in (has_dropped[0], *may_go_on):
        os.close(descriptor)


def test_a_forked_childs_line_is_whole_however_long_it_is(
    pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reader = pipe
    monkeypatch.setattr(log_writer, "CHILD_SECONDS", WAIT_SECONDS)  # the machine may be slower than its reader
    text = "y" * 20_000
    with writing(path) as writer:

        def work() -> bool:
            writer.put(text)
            return not writer.dropped

        child = fork(work)
        begun = os.read(reader, 1)
        writer.put("parent")  # which waits for its turn
        assert begun + read_until(reader, b"parent\n") == f"{text}\nparent\n".encode()
        assert is_done(child)


def test_lines_in_a_pipe_that_others_write_to_as_well_stay_whole(pipe: tuple[Path, int]) -> None:
    path, descriptor = pipe
    with writing(path) as one, writing(path) as other:
        for number in range(300):
            for name, writer in (("one", one), ("other", other)):
                writer.put(f"{name} {number} {'x' * 200} end")
        data = b""
        while data.count(b"\n") < 600:
            data += os.read(descriptor, 4096)
            time.sleep(0.001)  # a reader that is slower than they are
    lines = data.decode().splitlines()
    for name in ("one", "other"):
        numbers = [int(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
        assert numbers == list(range(300))
    assert all(line.endswith("x end") for line in lines)


WRITE_LONG_LINES = """
import sys
from sage_edge.server.log_writer import LogWriter
writer = LogWriter(None)
writer.start()
for number in range(40):
    line = " ".join([sys.argv[1], str(number), "x" * 20_000, "end"])
    writer.put(line)
print("all are queued", flush=True)
sys.stdin.read()
writer.close()
"""


def start_writing_long_lines(name: str, descriptor: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE_LONG_LINES, name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, stderr=descriptor, cwd=PROJECT, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == b"all are queued\n"
    return process


def read_lines(descriptor: int, count: int) -> list[list[str]]:
    """The words of each line, read by someone who is slower than they are written."""
    data = b""
    while data.count(b"end\n") < count and (read := os.read(descriptor, 3000)):
        data += read
    return [line.split() for line in data.decode().splitlines()]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_lines_of_several_processes_stay_whole_however_long_they_are(kind: str) -> None:
    if kind == "pipe":
        descriptor, shared = os.pipe()
        fcntl.fcntl(shared, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    else:
        descriptor, shared = (end.detach() for end in socket.socketpair())
    processes = [start_writing_long_lines(name, shared) for name in ("one", "other")]
    os.close(shared)
    lines = read_lines(descriptor, 80)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    os.close(descriptor)
    assert all(line[2:] == ["x" * 20_000, "end"] for line in lines)
    for name in ("one", "other"):
        assert [line[1] for line in lines if line[0] == name] == [str(number) for number in range(40)]


def test_a_process_that_dies_with_a_line_half_written_keeps_nobody_from_writing() -> None:
    descriptor, shared = os.pipe()
    fcntl.fcntl(shared, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    one = start_writing_long_lines("one", shared)
    assert os.read(descriptor, 3)  # from here on it has the turn
    other = start_writing_long_lines("other", shared)
    os.close(shared)
    one.kill()
    one.communicate()
    lines = read_lines(descriptor, 40)
    other.communicate()
    os.close(descriptor)
    assert [line[-3] for line in lines][-39:] == [str(number) for number in range(1, 40)]


def test_what_is_logged_while_a_line_is_queued_waits_for_nothing(tmp_path: Path) -> None:
    # As by the garbage collector, which may run anywhere, and end what has something to say.
    with writing(tmp_path / "log") as writer:

        class Said(deque[bytes]):
            def append(self, line: bytes) -> None:
                super().append(line)
                if b"first" in line:
                    writer.put("within")

        writer._lines = Said()
        thread = threading.Thread(target=writer.put, args=("first",), daemon=True)
        thread.start()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
        writer.put("last")
    assert (tmp_path / "log").read_text().splitlines() == ["first", "within", "last"]
