"""Trap 13: a request has one line in the log, which knows how long its answer was, streamed or not."""

from __future__ import annotations

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import frame_client
from tests.kit.stock import Server


def lines_of(server: Server, path: str) -> list[str]:
    said = server.output.text + server.log.text
    return [line for line in said.splitlines() if path in line]


@pytest.mark.parametrize("pieces", [1, 12])
def test_a_request_has_one_line_with_the_length_of_its_answer(launch: Launch, pieces: int) -> None:
    path = f"/sized/{pieces}"
    with launch() as server, frame_client(server) as client:
        assert len(client.get(path.encode()).body) == pieces * 1000
        assert eventually(lambda: bool(lines_of(server, path)))
        assert client.get(b"/ok").body == b"ok"
        assert eventually(lambda: bool(lines_of(server, "/ok")))
        (line,) = lines_of(server, path)
        assert str(pieces * 1000) in line
