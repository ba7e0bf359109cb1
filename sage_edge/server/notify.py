"""Tells the service manager how the process is: one datagram at a time, as sd_notify(3) describes.

What is said here, and the heartbeat. Nothing of the edge's depends on it: where no service manager listens,
everything goes on without a word. One whose socket is full is told later what it acts on, in its order; a status line,
a heartbeat or a wish for more time is not kept for it, since the next ones say more.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping

import trio

from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PROCESS_VARIABLE = "WATCHDOG_PID"

STATUS_SECONDS = 1.0
"""How often the status line is looked at, and told where it has changed."""
EXTENSION_SECONDS = 15.0
"""How much more time is asked for, each `STATUS_SECONDS`, while something slow is under way. A loop that hangs asks
for none, so that the service manager's own limit ends it."""


MOST_UNTOLD = 8
"""Turns of a life that are kept for a full socket. Of more, the last say where it has come."""


class Notifier:
    """The service manager's ear. Its methods never wait and never raise.

    Args:
        address: of its datagram socket: a path, or a name that begins with `@` in Linux's abstract space; None
            where there is none.
        watchdog_seconds: within which it expects each heartbeat; None where it expects none.
    """

    def __init__(self, address: str | None = None, *, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds if address else None
        self._address = address
        self._status = ""
        self._untold: deque[str] = deque(maxlen=MOST_UNTOLD)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one that the environment names. The variables are removed, so that no child takes them for its own.

        Args:
            environ: usually `os.environ`.
        """
        address = environ.pop(SOCKET_VARIABLE, None)
        interval = environ.pop(WATCHDOG_VARIABLE, "")
        process = environ.pop(WATCHDOG_PROCESS_VARIABLE, None)
        is_expected = interval.isdecimal() and int(interval) > 0 and process in {None, str(os.getpid())}
        return cls(address, watchdog_seconds=int(interval) / 1e6 if is_expected else None)

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is complete."""
        self._turn(status, "READY=1")

    def reloading(self, status: str) -> None:
        """A reload begins; `ready` ends it."""
        # Type=notify-reload tells by the time which of two reloads is meant.
        self._turn(status, "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The end begins."""
        self._turn(status, "STOPPING=1")

    def status(self, text: str) -> None:
        """Show a line in `systemctl status`; the one that is shown already is not told again."""
        if text != self._status and self._send(_as_message(f"STATUS={text}")):
            self._status = text

    def beat(self) -> None:
        """Tell the watchdog that the process lives."""
        self._send("WATCHDOG=1")

    def tell_rest(self) -> bool:
        """Tell what a full socket did not take, in its order; whether it has taken all."""
        while self._untold:
            if not self._tell(self._untold[0]):
                return False
            self._untold.popleft()
        return True

    def extend_timeout(self, seconds: float) -> None:
        """Ask for so much more time, from now, for start-up or the end."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _turn(self, status: str, *assignments: str) -> None:
        self._status = status
        self._untold.append(_as_message(*assignments, f"STATUS={status}"))
        self.tell_rest()

    def _send(self, message: str) -> bool:
        return self.tell_rest() and self._tell(message)

    def _tell(self, message: str) -> bool:
        """Whether it is done with: told, or there is nobody to tell."""
        if not self._address:
            return True
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), address)
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            log.debug("the service manager was not told", message=message, error=repr(error))
        return True


def _as_message(*assignments: str) -> str:
    # A line ends an assignment: text from elsewhere must not begin another.
    return "\n".join(assignment.replace("\n", " ") for assignment in assignments)


async def keep_notified(
    notifier: Notifier, describe_status: Callable[[], str], is_in_transition: Callable[[], bool]
) -> None:
    """Beat, and tell the status and what is left, for as long as the loop turns; runs until it is cancelled.

    Args:
        notifier: whom to tell; without one that is heard, this returns at once.
        describe_status: the status line now.
        is_in_transition: whether start-up or the end is under way, and needs its time.
    """
    if not notifier.is_heard:
        return
    async with trio.open_nursery() as nursery:
        if notifier.watchdog_seconds is not None:
            nursery.start_soon(_beat, notifier, notifier.watchdog_seconds / 2)
        while True:
            notifier.tell_rest()
            notifier.status(describe_status())
            if is_in_transition():
                notifier.extend_timeout(EXTENSION_SECONDS)
            await trio.sleep(STATUS_SECONDS)


async def _beat(notifier: Notifier, interval_seconds: float) -> None:
    while True:
        notifier.beat()
        await trio.sleep(interval_seconds)
