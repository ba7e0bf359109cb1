"""Servers for the traps: the edge, or stock Hypercorn (see `tests.kit.stock`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.kit.stock import IS_STOCK, Server, running_server

Launch = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module", autouse=True)
def unmeasured(unmeasured_edges: None) -> None:
    """What is shown is what an edge withstands."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the gateways in it."""
    for path in Path(__file__).parent.glob("gateways/*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def launch(directory: Path, certificates: Path) -> Launch:
    """Runs a server of the test's own: `launch({"--option": value}, is_tls=True)`."""

    def launch(
        options: dict[str, object] | None = None,
        *,
        is_tls: bool = True,
        gateway: str = "gateway:app",
        files: Path = certificates,
    ) -> AbstractContextManager[Server]:
        return running_server(gateway, directory, certificates=files if is_tls else None, options=options or {})

    return launch


class Shared:
    """A server that tests share, for as long as it lives."""

    def __init__(self, directory: Path, certificates: Path | None) -> None:
        self._directory = directory
        self._certificates = certificates
        self._stack = ExitStack()
        self._server: Server | None = None
        shutil.copy(Path(__file__).parent / "gateways" / "gateway.py", directory)

    def get(self) -> Server:
        """A server that runs. Stock Hypercorn does not survive what it is for, so each test has one of its own."""
        if self._server is None or IS_STOCK or self._server.process.poll() is not None:
            self.stop()
            running = running_server("gateway:app", self._directory, certificates=self._certificates)
            self._server = self._stack.enter_context(running)
        return self._server

    def stop(self) -> None:
        """End it."""
        self._stack.close()
        self._server = None


@pytest.fixture(scope="session")
def shared_tls(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("tls"), certificates)
    yield shared
    shared.stop()


@pytest.fixture(scope="session")
def shared_plaintext(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("plaintext"), None)
    yield shared
    shared.stop()


@pytest.fixture
def server(shared_tls: Shared) -> Server:
    """A server that speaks TLS."""
    return shared_tls.get()


@pytest.fixture
def plaintext_server(shared_plaintext: Shared) -> Server:
    """A server that speaks http/1.1 and HTTP/2 by prior knowledge."""
    return shared_plaintext.get()
