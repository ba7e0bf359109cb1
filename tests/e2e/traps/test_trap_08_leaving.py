"""Trap 8: an application learns that its client has left, in whichever way it asks."""

from __future__ import annotations

import json

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import frame_client, request


@pytest.mark.parametrize("path", [b"/leave", b"/poll", b"/push"])
def test_an_application_learns_that_its_client_has_left(launch: Launch, path: bytes) -> None:
    # Without the cancellation, which would end it in any case.
    with launch({"--cancel-grace-seconds": 600}) as server, frame_client(server) as asking:
        with frame_client(server) as client:
            stream = client.streams[client.open(request(path))]
            client.wait_until(lambda: bool(stream.body))
        assert eventually(lambda: json.loads(asking.get(b"/counts").body)["seen"] == ["left"])
