"""What a request's span says by OpenTelemetry's semantic conventions for HTTP servers: names, methods and errors.

Plain values: scopes are `app.tracing`'s, OpenTelemetry's classes are `server.tracing`'s.
https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sage_edge.core.exchange import Cause
from sage_edge.core.printable import shorten

Attributes = Mapping[str, str | int | Sequence[str]]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
"""The version of the conventions that the names are of."""
KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
OTHER_METHOD = "_OTHER"
FIRST_EVENT = "first event"
"""The name of the moment in a span at which an event stream's first event was sent."""

_EDGES_CAUSES = frozenset({Cause.ERROR, Cause.DRAINED})
"""What cuts an answer and is no client's doing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a request once it is over.

    Attributes:
        name: of its span, in place of the first one.
        attributes: beside those it began with.
        events: seconds from its beginning, by name.
        error: what failed; None where nothing did.
        duration_seconds: how long it took.
    """

    name: str
    attributes: Attributes
    events: Mapping[str, float]
    error: str | None
    duration_seconds: float


def describe_method(method: str) -> Attributes:
    """A request's method. Those that clients make up count as one, and are told beside it."""
    if method in KNOWN_METHODS:
        return {"http.request.method": method}
    return {"http.request.method": OTHER_METHOD, "http.request.method_original": shorten(method)}


def name_span(method: str, mount: str | None) -> str:
    """A span's name, of which there are few: the method and the mount.

    Args:
        method: as the client sent it.
        mount: None before it is known, and where nothing is mounted at the path.
    """
    shown = method if method in KNOWN_METHODS else "HTTP"
    return shown if mount is None else f"{shown} {mount}"


def find_error(status: int, cause: Cause | None, *, has_ended_well: bool) -> str | None:
    """The `error.type` of a request that failed on the server's side; None of any other, a client's faults included.

    Args:
        status: of the answer; 0 where there was none.
        cause: why the answer is not complete, if it is known.
        has_ended_well: the answer is complete.
    """
    if status >= 500:
        return str(status)
    if cause in _EDGES_CAUSES or (cause is None and not has_ended_well):
        return (cause or Cause.ERROR).value
    return None
