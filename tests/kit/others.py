"""What everybody else sees while one connection misbehaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.frame_client import FrameClient, frame_client, request
from tests.kit.http2_frames import reset_frame
from tests.kit.stock import Server


@contextmanager
def others_go_on(server: Server) -> Iterator[None]:
    """Another connection's endless answer (/ticks) that goes on while something happens, and new ones after it.

    What happens may be logged, once, with the number of its connection.
    """
    with frame_client(server) as other:
        stream_id = other.open(request(b"/ticks"))
        stream = other.streams[stream_id]
        other.wait_until(lambda: len(stream.body) > 5)
        written = len(server.log.text)
        yield
        received = len(stream.body)
        other.wait_until(lambda: len(stream.body) > received + 50)
        assert not stream.is_over
        assert other.get(b"/ok").status == 200
        with frame_client(server) as newcomer:
            assert newcomer.get(b"/ok").status == 200
        other.send(reset_frame(stream_id))
    assert server.process.poll() is None
    failures = [line for line in server.log.text[written:].splitlines() if re.search(r"\[(error|warning)\]", line)]
    assert len(failures) <= 1, failures
    assert all(re.search(r"connection=\d+", line) for line in failures), failures


def wait_for_drain(client: FrameClient) -> None:
    """Ask until the server announces its end, or takes no more streams."""
    while not client.goaways and client.get(b"/ok").status == 200:
        pass
