"""What people name as their gateway by mistake, and what they should have named."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

ASGI2 = Callable[[Any, Any], Awaitable[None]]

number = 3


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The right one; no lifespan."""


def plain(scope: Any, receive: Any, send: Any) -> None:
    """Not asynchronous."""


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """As Flask and Django have it."""
    return [b""]


def asgi2(scope: Any) -> ASGI2:
    """As ASGI was before version 3."""

    async def instance(receive: Any, send: Any) -> None: ...

    return instance


class Ready:
    """Makes an application without arguments."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class NeedsModel:
    """Makes an application of a model."""

    def __init__(self, model: str) -> None:
        self.model = model

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def create() -> Any:
    """The right one to call."""
    return application


async def create_asynchronously() -> Any:
    """Makes a coroutine, not an application."""
    return application


def create_nothing() -> None:
    """Forgets to return the application."""


def create_for(model: str) -> Any:
    """Needs an argument that nobody gives."""
    return application


def create_with_error() -> Any:
    """Raises."""
    raise ValueError("no such model")


def create_and_leave() -> Any:
    """Ends the process."""
    sys.exit(1)


def create_with_dependency() -> Any:
    """Needs a package that is not installed."""
    return importlib.import_module("no_such_dependency")


def create_never() -> Any:
    """Never returns."""
    threading.Event().wait()
