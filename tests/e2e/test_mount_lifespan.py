"""What a mounted application is told: its lifespan, state and place.

Holds the edges that all mount tests share: starting one takes longer than most of the tests, so each is started once
and serves all of them. Tests keep apart by keys. The applications are in tests/kit/gateways.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.gateways.starlette_app import GREETING

PROTOCOLS = ["h2", "http/1.1"]
GRACE_SECONDS = 0.1
"""How long the edges of these tests let a request go on after its client left."""

APPLICATIONS = {
    "fastapi": ("tests.kit.gateways.fastapi_app:app", "asyncio"),
    "starlette": ("tests.kit.gateways.starlette_app:app", "asyncio"),
    "quart": ("tests.kit.gateways.quart_app:app", "asyncio"),
    "starlette-trio": ("tests.kit.gateways.starlette_app:app", "trio"),
    "quart-trio": ("tests.kit.gateways.trio_app:app", "trio"),
}


@dataclass(frozen=True)
class Mounting:
    """Which application to mount and where; the parameter of the mount tests."""

    name: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.name}@{self.prefix}"

    @property
    def options(self) -> list[str]:
        """Of `sage-edge serve`."""
        gateway, loop = APPLICATIONS[self.name]
        return [
            *("--gateway", gateway, "--gateway-loop", loop, "--llm-prefix", self.prefix),
            *("--cancel-grace-seconds", str(GRACE_SECONDS)),
        ]


MOUNTINGS = [Mounting(name, prefix) for name in APPLICATIONS for prefix in ("/", "/llm")]


class Mounted:
    """A running edge with an application mounted."""

    def __init__(self, mounting: Mounting, edge: Edge, closing: ExitStack) -> None:
        self.name = mounting.name
        self.prefix = mounting.prefix.rstrip("/")
        self.is_quart = mounting.name.startswith("quart")
        self.edge = edge
        self._clients = {
            protocol: closing.enter_context(edge.client(http2=protocol == "h2", follow_redirects=True))
            for protocol in PROTOCOLS
        }

    def path(self, path: str) -> str:
        """A path of the application, as a client asks for it."""
        return self.prefix + path

    def ask(self, protocol: str, path: str, method: str = "GET", **options: Any) -> httpx2.Response:
        """Ask the application, on a connection that the tests share; follows redirects, keeps no cookies."""
        client = self._clients[protocol]
        client.cookies.clear()
        return client.request(method, self.path(path), **options)

    def tell(self, key: str, what: str) -> None:
        """Write into the application's journal."""
        assert self.ask("h2", f"/journal/{key}/{what}", "POST").status_code == 204

    def wait_for(self, key: str, what: str) -> dict[str, float]:
        """The application's journal of a key, once `what` is in it: when things happened."""
        return dict(self.ask("h2", f"/journal/{key}/{what}", timeout=10).json())


_POOL = pytest.StashKey[Callable[[Mounting], Mounted]]()


def share(mounting: Mounting, config: pytest.Config, certificates: Path) -> Mounted:
    """The edge with that mounting, started once and ended with the test run."""
    if _POOL not in config.stash:
        closing = ExitStack()
        config.add_cleanup(closing.close)
        running: dict[Mounting, Mounted] = {}

        def start(wanted: Mounting) -> Mounted:
            if wanted not in running:
                edge = closing.enter_context(running_edge(*wanted.options, certificates=certificates))
                running[wanted] = Mounted(wanted, edge, closing)
            return running[wanted]

        config.stash[_POOL] = start
    return config.stash[_POOL](mounting)


def new_key() -> str:
    """A key of the journal that no other test uses."""
    return uuid4().hex


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_is_told_where_the_application_is_mounted(mounted: Mounted, protocol: str) -> None:
    described = mounted.ask(protocol, "/describe").json()

    assert described["path"] == mounted.path("/describe")
    assert described["root_path"] == mounted.prefix
    assert described["http_version"] == ("2" if protocol == "h2" else "1.1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_sees_the_state_that_the_lifespan_made(mounted: Mounted, protocol: str) -> None:
    assert mounted.ask(protocol, "/describe").json()["greeting"] == GREETING


@pytest.mark.parametrize("mounting", MOUNTINGS, ids=str)
def test_sigterm_runs_the_shutdown_handlers_and_exits_with_0(
    mounting: Mounting, certificates: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "lifespan"
    variables = {"MOUNT_TEST_LIFESPAN_FILE": str(notes)}

    with running_edge(*mounting.options, certificates=certificates, env=variables) as edge:
        assert notes.read_text().split() == ["startup"]
        assert edge.stop() == 0

    assert notes.read_text().split() == ["startup", "shutdown"]
    assert not re.search(r"\[warning\](?!.*event loop was held up)", edge.log.text)
    assert "[error]" not in edge.log.text
