"""What a supervisor and its workers tell each other: lines of JSON over a pair of sockets, and who holds its ends.

The worker's end is here, and what both agree on. The supervisor's is in `server.worker_process`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Self

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.settings import Settings
from sage_edge.server.certificate_set import Names
from sage_edge.server.forked_children import keep_from_children
from sage_edge.server.hand_over import last_call_seconds
from sage_edge.server.listener import inherit

log = EdgeLogger(__name__)

VARIABLE = "_SAGE_EDGE_WORKER"
"""Of a worker's environment: what it inherits."""
BEAT_SECONDS = 1.0
"""How often a worker says that its loop turns."""
READ_BYTES = 64 * 1024
LONGEST_LINE_BYTES = 16 * 1024 * 1024
"""Far more than the metrics of a worker take; what does not end by then is no message, nor is what follows it."""
LONGEST_NAMES_BYTES = 64 * 1024
"""Some thousand names. Linux takes 128 KB in a variable."""
LONGEST_UNSENT_BYTES = 256 * 1024
"""What waits for an end that does not listen; more is lost, a line at a time."""

Message = Mapping[str, Any]


class Order(Enum):
    """What a supervisor wants of a worker.

    Said here and not by a signal, so that one that whoever ends the whole group has sent is not taken for the second.
    """

    DRAIN = "drain"
    LEAVE_TO_ANOTHER = "leave to another"
    """The same, where another has its place already."""
    END = "end"


@dataclass(frozen=True)
class TimeLimits:
    """How long a worker may take. Each has its own: it may have read another configuration than its supervisor.

    Attributes:
        startup_seconds: to import its gateway and start it.
        last_call_seconds: for which it accepts connections once it drains.
        drain_seconds: for streams to finish after that.
    """

    startup_seconds: float
    last_call_seconds: float
    drain_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of a configuration."""
        return cls(settings.startup_seconds, last_call_seconds(settings), settings.drain_seconds)


@dataclass(frozen=True)
class Inheritance:
    """What a worker gets from its supervisor, in a variable of its environment.

    Attributes:
        number: of its place, from 1.
        link: descriptor of its end of the pair.
        listeners: descriptors of the listening sockets, of each place.
        redirect_listeners: the same of the plaintext port, for all places.
        names_in_use: of the certificates that are served now, which the worker's own are compared with: none where
            plaintext is. None where that is not known, and nothing is compared.
        is_measured: whether the supervisor shows the workers' figures. The worker's own settings may be others.
    """

    number: int
    link: int
    listeners: Sequence[Sequence[int]]
    redirect_listeners: Sequence[int]
    names_in_use: Names | None = None
    is_measured: bool = True

    def to_text(self) -> str:
        """As the variable has it: without the names where they are too many for one."""
        names = self.names_in_use if len(json.dumps(self.names_in_use)) <= LONGEST_NAMES_BYTES else None
        return json.dumps({**vars(self), "names_in_use": names})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From the variable, of a supervisor that may be of another version: what is not known is left out."""
        found = json.loads(text)
        if isinstance(found, list):  # as it was first
            return cls(*found)
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in found.items() if name in known})


class WorkerLink:
    """A worker's end.

    Args:
        inheritance: from the supervisor.

    Attributes:
        number: of the worker's place, from 1.
        listeners: the sockets it accepts from.
        other_listeners: those of the other places, by their numbers.
        redirect_listeners: those of the plaintext port.
        names_in_use, is_measured: see `Inheritance`.
        absent: the numbers of places without a worker that is ready; as far as this one needs to know.
        ready, wanted: how many workers are ready, and should be.
        is_replaced: whether another has this one's place, which therefore is to leave.
        has_ended: set once the loop knows that the supervisor is gone; for other threads.
    """

    def __init__(self, inheritance: Inheritance) -> None:
        self.number = inheritance.number
        own = inheritance.listeners[self.number - 1]
        self.listeners = inherit(own)
        # Where the system cannot spread connections, they are the same.
        others = {number: set(row) - set(own) for number, row in enumerate(inheritance.listeners, 1)}
        self.other_listeners = {number: inherit(row) for number, row in others.items() if row}
        self.redirect_listeners = inherit(inheritance.redirect_listeners)
        self.names_in_use = inheritance.names_in_use
        self.is_measured = inheritance.is_measured
        self.absent: frozenset[int] = frozenset()
        self.ready = self.wanted = 0
        self.is_replaced = False
        self.has_ended = threading.Event()
        self._changed = trio.Event()
        self._socket = socket.socket(fileno=inheritance.link)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)
        keep_from_children([self._socket])
        self._sender = MessageSender(self._socket)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """The one that the environment tells of; None where this process is no worker. Its children are none.

        Args:
            environ: usually `os.environ`.
        """
        text = environ.pop(VARIABLE, None)
        return None if text is None else cls(Inheritance.from_text(text))

    def fileno(self) -> int:
        """The descriptor of this end."""
        return self._socket.fileno()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until what the supervisor says makes a condition true."""
        while not condition():
            await self._changed.wait()

    def say(self, event: str, **values: object) -> None:
        """Tell the supervisor. One that does not listen loses it."""
        self._sender.send({"event": event, **values})

    def all_other_listeners(self) -> Sequence[socket.socket]:
        """The sockets of all other places."""
        return [sock for row in self.other_listeners.values() for sock in row]

    async def hear(self) -> AsyncIterator[Order]:
        """What the supervisor wants, until it is gone; how the others are is noted."""
        async for message in read_messages(self._socket):
            match message:
                case {"order": name}:
                    order = Order(name)
                    self.is_replaced |= order is Order.LEAVE_TO_ANOTHER
                    yield order
                case {"ready": ready, "wanted": wanted, "absent": absent}:
                    self.ready, self.wanted, self.absent = ready, wanted, frozenset(absent)
                    changed, self._changed = self._changed, trio.Event()
                    changed.set()
        self.has_ended.set()

    async def beat(self) -> None:
        """Say that the loop turns, and so that it hears; runs until it is cancelled."""
        while True:
            self.say("alive")
            await trio.sleep(BEAT_SECONDS)


class MessageSender:
    """Sends messages to the other end without waiting for it. Either end has one.

    Args:
        sock: not blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unsent = b""

    def send(self, message: Message) -> None:
        """Send a message, behind what could not be sent before. What an end that does not listen is told is lost."""
        if len(self._unsent) < LONGEST_UNSENT_BYTES:
            self._unsent += json.dumps(message).encode() + b"\n"
        try:
            sent_bytes = self._socket.send(self._unsent)
        except OSError as error:
            log.debug("the other end of the link does not listen", error=repr(error))
            return
        self._unsent = self._unsent[sent_bytes:]


async def read_messages(sock: socket.socket) -> AsyncIterator[Message]:
    """The messages from the other end, until it is gone. What is none is logged and left out."""
    rest = b""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(READ_BYTES)
        except OSError:
            return
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                yield message
            else:
                log.warning("a line between supervisor and worker is no message", size_bytes=len(line))
        if len(rest) > LONGEST_LINE_BYTES:
            log.warning("a line between supervisor and worker does not end", size_bytes=len(rest))
            return
