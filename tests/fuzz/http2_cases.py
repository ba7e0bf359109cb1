"""One client's bytes, nearly right, and applications that do what comes into their heads, from a seed.

Whatever comes: nothing is raised but what an application is told of its own faults, what is written
is frames that are right and in order, and in the end nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import ClientDisconnectedError
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    GOAWAY,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    Field,
    Frame,
    continuation_frame,
    data_frame,
    frame,
    get_fields,
    goaway_frame,
    headers_frame,
    ping_frame,
    plain_block,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, receive, start

INTERESTING_NUMBERS = (0, 1, 5, 6, 100, 4096, 16_384, 65_535, 65_536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
EXTRA_FIELDS: tuple[Field, ...] = (
    (b"content-length", b"10"),
    (b"content-length", b"0"),
    (b"cookie", b"a=b"),
    (b"te", b"trailers"),
    (b"host", b"edge.test"),
    (b"x", b"y" * 200),
    (b"Upper", b"case"),
    (b"connection", b"close"),
    (b"sec-websocket-extensions", b"permessage-deflate"),
)
HPACK_SNIPPETS = (
    b"\x80",
    b"\x20",
    b"\x3f\xe1\x1f",
    b"\x3f\xff\xff\x7f",
    b"\xbe",
    b"\xff\xff\xff\xff\x0f",
    b"\x40\x81\x1f",
)
WEBSOCKET_SNIPPETS = (
    b"\x82\x85\0\0\0\0hello",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x89\x80\0\0\0\0",
    b"\xc1\x83\0\0\0\0\xaa\x00\x00",
)
MAX_STEPS = 10_000
"""More than any case takes."""


class Client:
    """Makes a client's bytes.

    Args:
        random: where its whims come from.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next_id = 1
        self._stateful = HTTP2Client(is_open=False).encoder
        self._open_ids: list[int] = []  # of streams whose end it has not sent
        self._makers: list[Callable[[], bytes]] = [
            *[self._request] * 6,
            *[self._data] * 8,
            *[self._window] * 3,
            self._websocket,
            self._trailers,
            self._pieces,
            self._settings,
            self._rare,
            lambda: ping_frame(is_ack=random.random() < 0.3),
            lambda: reset_frame(self._stream_id(), random.choice(INTERESTING_NUMBERS[:4])),
            lambda: priority_frame(self._stream_id()),
        ]

    def make_bytes(self) -> bytes:
        """The preface, frames, and then some harm to them."""
        random = self._random
        made = [self._settings(), self._request(), SETTINGS_ACK]
        made += [random.choice(self._makers)() for _ in range(random.randrange(1, 30))]
        if random.random() < 0.5:
            for _ in range(random.randrange(1, 3)):
                self._harm(made)
        data = PREFACE + b"".join(made)
        return data if random.random() < 0.97 else self._scratch(data)

    def cut(self, data: bytes) -> list[bytes]:
        """Bytes as they may come."""
        random = self._random
        if random.random() < 0.05:
            return [data[position : position + 1] for position in range(len(data))]
        ends = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(8)))
        return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]

    def _harm(self, made: list[bytes]) -> None:
        random = self._random
        position = random.randrange(len(made))
        one = made[position]
        match random.randrange(7):
            case 0:
                made[position] = self._scratch(one)
            case 1:
                del made[position]
                made.append(b"")
            case 2:
                made.insert(random.randrange(len(made)), one)
            case 3 if len(one) > 9:  # another payload, of another length
                payload = self._scratch(one[9:])[: random.randrange(len(one) - 8)]
                made[position] = len(payload).to_bytes(3, "big") + one[3:9] + payload
            case 4 if len(one) >= 9:  # other flags
                made[position] = one[:4] + bytes((random.randrange(256),)) + one[5:]
            case 5 if len(one) >= 9:  # another stream
                made[position] = one[:5] + self._stream_id().to_bytes(4, "big") + one[9:]
            case _:
                made.insert(position, self._bytes(12))

    def _scratch(self, data: bytes) -> bytes:
        random = self._random
        changed = bytearray(data)
        for _ in range(random.randrange(1, 4)):
            position = random.randrange(len(changed) + 1)
            match random.randrange(3):
                case 0:
                    changed[position : position + 1] = bytes((random.randrange(256),))
                case 1:
                    changed[position:position] = random.choice(HPACK_SNIPPETS)
                case _:
                    del changed[position : position + random.randrange(4)]
        return bytes(changed)

    def _request(self) -> bytes:
        random = self._random
        extra = [random.choice(EXTRA_FIELDS) for _ in range(random.choice((0, 0, 1, 2)))]
        fields = get_fields(*extra, method=random.choice((b"GET", b"POST", b"HEAD")))
        block = bytes(self._stateful.encode(fields)) if random.random() < 0.7 else plain_block(fields)
        if random.random() < 0.02:
            block += random.choice(HPACK_SNIPPETS)
        is_last = random.random() < 0.5
        return headers_frame(
            self._new_id(is_last=is_last),
            block,
            end=is_last,
            pad=random.choice((None, None, 0, 7)),
            depends_on=random.choice((None, None, 0, 2)),
        )

    def _websocket(self) -> bytes:
        fields = get_fields(*EXTRA_FIELDS[-1:], method=b"CONNECT", protocol=b"websocket")
        return headers_frame(self._new_id(is_last=False), plain_block(fields), end=False)

    def _data(self) -> bytes:
        random = self._random
        is_last = random.random() < 0.2
        stream_id = self._open_id(is_last=is_last)
        if random.random() < 0.3:
            return data_frame(stream_id, random.choice(WEBSOCKET_SNIPPETS), end=is_last)
        data = bytes(random.choice((0, 1, 10, 100, 5000, 16_183)))
        return data_frame(stream_id, data, end=is_last, pad=random.choice((None, None, 0, 200)))

    def _trailers(self) -> bytes:
        is_last = self._random.random() < 0.9
        return headers_frame(self._open_id(is_last=is_last), plain_block([(b"x-sum", b"1")]), end=is_last)

    def _pieces(self) -> bytes:
        stream_id = self._new_id(is_last=True)
        block = plain_block(get_fields())
        middle = self._random.randrange(len(block) + 1)
        return headers_frame(stream_id, block[:middle], is_whole=False) + continuation_frame(
            stream_id, block[middle:], is_last=self._random.random() < 0.97
        )

    def _settings(self) -> bytes:
        random = self._random
        values = {
            1: INTERESTING_NUMBERS[:8],
            2: (0, 1),
            3: (0, 9),
            4: INTERESTING_NUMBERS[:10],
            5: (16_384, 65_536),
            9: (7,),
        }
        chosen = [random.choice(tuple(values)) for _ in range(random.randrange(3))]
        return settings_frame(*((number, random.choice(values[number])) for number in chosen))

    def _window(self) -> bytes:
        stream_id = self._random.choice((0, self._stream_id()))
        return window_frame(stream_id, self._random.choice(INTERESTING_NUMBERS[1:10]))

    def _rare(self) -> bytes:
        random = self._random
        match random.randrange(8):
            case 0:
                return goaway_frame()
            case 1:
                return window_frame(random.choice((0, self._stream_id())), random.choice(INTERESTING_NUMBERS))
            case 2:
                return settings_frame((random.randrange(10), random.choice(INTERESTING_NUMBERS)))
            case 3:
                return self._request() * 2
            case 4:
                return priority_frame(self._stream_id(), self._stream_id())
            case 5:
                return data_frame(self._stream_id(), b"late")
            case 6:
                return frame(random.randrange(11), random.randrange(256), self._stream_id(), self._bytes(20))
            case _:
                return frame(random.randrange(10, 256), random.randrange(256), self._stream_id(), self._bytes(20))

    def _new_id(self, *, is_last: bool) -> int:
        self._next_id += 2
        if not is_last:
            self._open_ids.append(self._next_id - 2)
        return self._next_id - 2

    def _open_id(self, *, is_last: bool) -> int:
        if not self._open_ids or self._random.random() < 0.02:
            return self._stream_id()
        stream_id = self._random.choice(self._open_ids)
        if is_last:
            self._open_ids.remove(stream_id)
        return stream_id

    def _stream_id(self) -> int:
        random = self._random
        if random.random() < 0.01:
            return random.choice((0, 2, self._next_id + 100, 2**31 - 1))
        return 1 + 2 * random.randrange(max(self._next_id // 2, 1))

    def _bytes(self, most: int) -> bytes:
        size = self._random.randrange(most)
        return self._random.getrandbits(8 * size).to_bytes(size, "big") if size else b""


class Application:
    """Answers one exchange, step by step; never against ASGI's order.

    Args:
        exchange: to be answered.
        random: where its whims come from.
    """

    def __init__(self, exchange: Exchange, random: Random) -> None:
        self.exchange = exchange
        self.has_ended = False
        self._random = random
        self._is_websocket = exchange.scope["type"] == "websocket"
        self._steps = iter(self._choose_steps())

    def step(self) -> None:
        """Do the next thing, if there is one."""
        message = next(self._steps, None)
        if message is None:
            self.has_ended = True
            return
        try:
            message()
        except ClientDisconnectedError:
            self.has_ended = True

    def _choose_steps(self) -> list[Callable[[], object]]:
        random = self._random
        exchange = self.exchange
        if self._is_websocket:
            messages: list[dict[str, Any]] = [{"type": "websocket.accept"}] if random.random() < 0.8 else []
            sizes = [random.choice((0, 5, 70_000)) for _ in range(random.randrange(4) if messages else 0)]
            messages += [{"type": "websocket.send", "bytes": bytes(size)} for size in sizes]
            if random.random() < 0.5:
                messages.append({"type": "websocket.close"})
        else:
            has_trailers = random.random() < 0.2
            length = [(b"content-length", b"10")] if random.random() < 0.2 else []
            messages = [start(random.choice((200, 204, 304, 500)), *length, trailers=has_trailers)]
            sizes = [10, 0] if length else [random.choice((0, 1, 100, 70_000)) for _ in range(random.randrange(4))]
            messages += [body(bytes(size), more=True) for size in sizes]
            messages.append(body())
            if has_trailers:
                messages.append({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
            if random.random() < 0.2:
                del messages[random.randrange(len(messages)) :]
        steps: list[Callable[[], object]] = [lambda message=message: exchange.write(message) for message in messages]
        read = receive if self._is_websocket else read_body
        for _ in range(random.randrange(3)):
            steps.insert(random.randrange(len(steps) + 1), lambda: read(exchange))
        return steps


def run_case(random: Random) -> None:
    """Run a connection from its beginning to its end. Raises whatever is wrong."""
    maker = Client(random)
    pieces = maker.cut(maker.make_bytes())
    small = {"max_streams": 3, "max_body_bytes": 200, "max_resets": 3, "max_header_bytes": 1024}
    client = HTTP2Client(is_open=False, **(small if random.random() < 0.3 else {}))
    applications: list[Application] = []
    for piece in pieces:
        while not client.connection.may_read:
            client.take()
        client.feed(piece)
        _run_applications(client, applications, random, random.randrange(6))
        match random.randrange(12):
            case 0:
                client.wait(random.choice((0.5, 1, 20, 100)))
            case 1:
                client.connection.drain()
            case 2 | 3 | 4:
                client.take(random.choice((1, 100, 65_536)), is_once=True)
    client.feed(window_frame(0, 2**20) if random.random() < 0.5 else b"")
    for _ in range(MAX_STEPS):
        _run_applications(client, applications, random, 1 + 2 * len(applications))
        client.take()
        if all(application.has_ended for application in applications):
            break
    else:
        raise AssertionError("it does not come to an end")
    client.wait(100)
    client.wait(100)
    client.take()
    assert client.connection.is_idle, "a stream is left"
    client.wait(100)
    client.take()
    assert client.connection.wants_close
    assert client.host.account.buffered_bytes == 0, "something is left in the account"


def _run_applications(client: HTTP2Client, applications: list[Application], random: Random, steps: int) -> None:
    applications += [Application(exchange, random) for exchange in client.host.exchanges[len(applications) :]]
    for _ in range(steps):
        running = [application for application in applications if not application.has_ended]
        if not running:
            return
        application = random.choice(running)
        application.step()
        if application.has_ended:
            client.connection.end(application.exchange)


def run_cut_case(random: Random) -> None:
    """Feed the same bytes in one piece and in several, without applications. Raises where it makes a difference."""
    maker = Client(random)
    data = maker.make_bytes()
    whole, cut = (HTTP2Client(is_open=False) for _ in range(2))
    whole.feed(data)
    for piece in maker.cut(data):
        cut.feed(piece)
    if GOAWAY in whole.sent_kinds:
        return  # a client that leaves is let go as soon as nothing of its is open, which may be at once
    assert _without_dates(whole.take()) == _without_dates(cut.take())
    assert whole.connection.wants_close == cut.connection.wants_close
    assert whole.connection.is_idle == cut.connection.is_idle
    assert whole.host.account.buffered_bytes == cut.host.account.buffered_bytes
    # What is reset in the same breath need not begin.
    assert len(whole.host.exchanges) <= len(cut.host.exchanges)
    kept = [read_body(exchange) for exchange in whole.host.exchanges if not exchange.is_client_gone]
    assert kept == [read_body(exchange) for exchange in cut.host.exchanges if not exchange.is_client_gone]


def _without_dates(frames: list[Frame]) -> list[object]:
    return [(one.kind, one.flags, one.stream_id, one.kind == HEADERS or one.payload) for one in frames]
