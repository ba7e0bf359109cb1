"""Writes log lines in a thread of its own, so that nobody who logs ever waits for a disk or a reader.

What waits is bounded: beyond that, lines are dropped, counted, and reported once there is room again. A pipe that
nobody reads, a full disk or a closed descriptor costs lines, and nothing else. A forked child has no such thread, and
may end without a word: it writes its lines itself, within `CHILD_SECONDS`. How lines look is `server.log_lines`.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.problems import Problems

log = EdgeLogger(__name__)

QUEUED_BYTES = 4 * 2**20
"""What may wait to be written."""
BATCH_BYTES = 64 * 1024
"""What is written at once to a file."""
CHILD_SECONDS = 0.1
"""How long a forked child waits to write a line. After one that it dropped, it does not wait until it has written
another."""
TURN_POLL_SECONDS = 0.001
"""How often it tries to take its turn meanwhile."""
SHARED_BATCH_BYTES = select.PIPE_BUF
"""The same to a pipe or socket, which others may share: no more than that is sure to stay in one piece. A line that is
longer does among workers, who take turns (`LogWriter._take_turn`)."""
REPORT_SECONDS = 10.0
"""How often, at most, dropped lines are reported."""
STOP_SECONDS = 2.0
"""How long the end waits for what is still to be written."""
MODE = 0o640

_started: weakref.WeakSet[LogWriter] = weakref.WeakSet()


class LogWriter:
    """Queues lines for its thread. `start` it, and `close` it at the end.

    Args:
        path: a file to append to; None for standard error.

    Attributes:
        dropped: how many lines were not written.
        problems: the latest warnings and errors.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor = -1
        self._batch_bytes = BATCH_BYTES
        self._piece_bytes: int | None = None  # as much is written at once of a line that is longer; None for all
        self._lines: deque[bytes] = deque()
        self._shown = b""
        self._queued_bytes = 0
        # Reentrant: the garbage collector may run while it is held, and what it ends may log.
        self._changed = threading.Condition(threading.RLock())
        self._wants_reopening = False
        self._is_closing = False
        self._patience_seconds: float | None = None  # in a child of the process, which has no such thread
        self._is_torn = False  # the latest line was written in part
        self._is_shared = False  # a pipe or socket, which other workers write to as well
        self._reported = 0
        self._reported_at = -REPORT_SECONDS
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self.dropped = 0
        self.problems = Problems()

    @property
    def has_file(self) -> bool:
        """Whether it writes to a file, and not to standard error."""
        return self._path is not None

    def start(self) -> None:
        """Open the file and start the thread.

        Raises:
            OSError: the file cannot be opened.
        """
        self._use(self._open())
        self._thread.start()
        _started.add(self)

    def reopen(self) -> None:
        """Open the file anew, as whoever rotates it asks for. Does not wait; lines queued before go to the new file."""
        with self._changed:
            self._wants_reopening = True
            self._changed.notify()

    def put(self, text: str) -> None:
        """Queue a line, without its end, or drop it. Any thread may."""
        line = f"{text}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            if self._patience_seconds is not None:
                self._put_in_child(line, self._patience_seconds)
                return
            if self._is_closing or self._queued_bytes + len(line) > QUEUED_BYTES:
                self.dropped += 1
                return
            self._queued_bytes += len(line)
            self._lines.append(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def show(self, line: str) -> None:
        """Show a line on the terminal that the next one, or the next of the log, takes the place of.

        Behind what is logged already: as long as a terminal takes nothing, later ones take its place unseen.
        """
        with self._changed:
            self._shown = f"\x1b[K{line}\r".encode()
            self._changed.notify()

    def close(self) -> None:
        """Write what is left, as far as that takes no longer than `STOP_SECONDS`."""
        with self._changed:
            was_closing, self._is_closing = self._is_closing, True
            self._changed.notify()
        if not was_closing and self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def note_fork(self) -> None:
        """Write at once from here on: this is a forked child. What waited is its parent's to write."""
        self._patience_seconds, self._is_closing = CHILD_SECONDS, True
        self.dropped = self._reported = 0
        self._changed = threading.Condition(threading.RLock())  # the parent's thread may have held the old one
        self._lines.clear()

    def _put_in_child(self, line: bytes, patience_seconds: float) -> None:
        if self._write(line, time.monotonic() + patience_seconds):
            self._patience_seconds = CHILD_SECONDS
            self._report()
        else:
            self._patience_seconds = 0.0
            self.dropped += 1

    # The thread's side.

    def _open(self) -> int:
        if self._path is None:
            return 2
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            # A pipe without a reader would be waited for, with the start and every signal; so it is a fault.
            descriptor = os.open(self._path, flags | os.O_NONBLOCK, MODE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "it is a socket, or a pipe that nobody reads") from None
            raise
        os.set_blocking(descriptor, True)
        return descriptor

    def _run(self) -> None:
        while self._wait():
            lines = self._take()
            if lines and not self._write(b"".join(lines)):
                with self._changed:
                    self.dropped += len(lines)
            if shown := self._take_shown():
                self._write(shown)
            self._report()

    def _wait(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._changed:
            while not (self._lines or self._shown or self._wants_reopening or self._is_closing):
                self._changed.wait()
            wants_reopening, self._wants_reopening = self._wants_reopening, False
            goes_on = bool(self._lines or self._shown) or not self._is_closing
        if wants_reopening:
            self._reopen()
        return goes_on

    def _take(self) -> list[bytes]:
        with self._changed:
            lines: list[bytes] = []
            size_bytes = 0
            while self._lines and (not lines or size_bytes + len(self._lines[0]) <= self._batch_bytes):
                lines.append(self._lines.popleft())
                size_bytes += len(lines[-1])
            self._queued_bytes = self._queued_bytes - size_bytes if self._lines else 0
            return lines

    def _take_shown(self) -> bytes:
        with self._changed:
            shown = b"" if self._lines else self._shown
            self._shown = self._shown[len(shown) :]
            return shown

    def _write(self, data: bytes, deadline: float = math.inf) -> bool:
        """Write all of it; False where that is not possible now, or not before the deadline."""
        view = memoryview(b"\n" + data if self._is_torn else data)
        with self._take_turn(deadline) as has_turn:
            while view and has_turn:
                try:
                    if deadline < math.inf and not self._wait_for_room(deadline):
                        return False
                    view = view[os.write(self._descriptor, view[: self._piece_bytes]) :]
                    self._is_torn = bool(view)
                except BlockingIOError:  # whoever shares the pipe has made it so
                    self._wait_for_room(deadline)
                except OSError:
                    return False
        return has_turn

    def _wait_for_room(self, deadline: float) -> bool:
        """Wait until a piece can be written without waiting; False where it could not be before the deadline."""
        room = select.poll()  # `select` itself knows small descriptors alone
        room.register(self._descriptor, select.POLLOUT)
        return bool(room.poll(None if deadline == math.inf else max(0.0, deadline - time.monotonic()) * 1000))

    @contextmanager
    def _take_turn(self, deadline: float) -> Iterator[bool]:
        """Keep the other processes of the edge from writing meanwhile: a client's part of one's line must not look
        like another's line. The system ends the turn of a process that dies. False where it has not come in time."""
        try:
            yield not self._is_shared or self._lock(deadline)
        finally:
            with suppress(OSError):
                if self._is_shared:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _lock(self, deadline: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | (0 if deadline == math.inf else fcntl.LOCK_NB))
            except (BlockingIOError, PermissionError):  # another has it: systems differ in how they say so
                if time.monotonic() >= deadline:
                    return False
                time.sleep(TURN_POLL_SECONDS)
            except OSError:
                return True  # a system without locks on pipes
            else:
                return True

    def _reopen(self) -> None:
        if self._path is None:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            log.error("the log file cannot be opened anew; the old one stays", reason=error.strerror)
            return
        os.close(self._descriptor)
        self._use(descriptor)

    def _use(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = _mode_of(descriptor)
        self._is_shared = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        is_file = stat.S_ISREG(mode)
        self._batch_bytes = BATCH_BYTES if is_file else SHARED_BATCH_BYTES
        self._piece_bytes = None if is_file else SHARED_BATCH_BYTES

    def _report(self) -> None:
        now = time.monotonic()
        count = self.dropped - self._reported
        if count and now - self._reported_at >= REPORT_SECONDS:
            self._reported, self._reported_at = self.dropped, now
            log.warning("log lines were dropped: they could not be written in time", count=count)


def _mode_of(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_mode
    except OSError:
        return 0  # closed: nothing will be written


def _note_fork() -> None:
    for writer in _started:
        writer.note_fork()


os.register_at_fork(after_in_child=_note_fork)
