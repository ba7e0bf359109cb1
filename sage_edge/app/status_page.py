"""The status page: a Quart application that shows the edge's figures, and keeps them moving for those who watch.

All of it is rendered here and whole without a script; with one, the same parts come again each second on an event
stream. Where the figures come from is `server.status_listener`'s.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import trio
from quart import Response, render_template, request
from quart_trio import QuartTrio

from sage_edge.app.sparkline import draw
from sage_edge.core.problems import Problem
from sage_edge.core.readiness import SERVICE_NAME
from sage_edge.core.status import History, Overview, arrange_mounts

REFRESH_SECONDS = 1.0
MOST_VIEWERS = 20
"""Event streams at once; more are refused, and the page says that it stands still."""

PARTS = ("state", "updated", "charts", "slow", "mounts", "protocols", "checks", "endings", "faults", "problems")
"""Of the page, each with an element of that name, that are sent again when they have changed."""


@dataclass(frozen=True)
class Status:
    """What the page shows.

    Attributes:
        overview: the figures now.
        history: of those that are charted.
        problems: the latest first.
        applications: the names of mounts, by prefix.
    """

    overview: Overview
    history: History
    problems: Sequence[Problem]
    applications: Mapping[str, str]


def build_status_page(take_status: Callable[[], Status], *, version: str) -> QuartTrio:
    """Build the application.

    Args:
        take_status: called for each page, and once a second while somebody watches.
        version: of sage-edge.
    """
    app = QuartTrio(__name__)
    app.jinja_env.filters.update(
        count=show_count, size=show_bytes, duration=show_seconds, rate=show_rate, clock=show_clock
    )
    app.jinja_env.globals.update(draw=draw, show_count=show_count, show_rate=show_rate, show_seconds=show_seconds)
    viewers = 0
    latest: tuple[float, Mapping[str, str]] = (-math.inf, {})

    async def render_latest() -> Mapping[str, str]:
        """The parts, rendered once for all who watch."""
        nonlocal latest
        if trio.current_time() - latest[0] >= REFRESH_SECONDS / 2:
            async with app.app_context():
                latest = trio.current_time(), await _render_parts(take_status())
        return latest[1]

    @app.get("/")
    async def page() -> Response:
        nonce = secrets.token_urlsafe(16)
        parts = await render_latest()
        text = await render_template("status.html", name=SERVICE_NAME, version=version, nonce=nonce, parts=parts)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return app.response_class(
            text,
            headers={
                "content-security-policy": policy,
                "cache-control": "no-store",
                "referrer-policy": "no-referrer",
                "x-content-type-options": "nosniff",
            },
        )

    @app.get("/events")
    async def events() -> Response:
        # Another website could not read them, but could have its visitors take all there is for viewers.
        if request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            return app.response_class("They are for this page alone.\n", HTTPStatus.FORBIDDEN)
        if request.method == "HEAD":  # nobody watches by it
            return app.response_class(content_type="text/event-stream")
        if viewers >= MOST_VIEWERS:
            return app.response_class("Too many watch already.\n", HTTPStatus.SERVICE_UNAVAILABLE)

        async def follow() -> AsyncIterator[str]:
            nonlocal viewers
            if viewers >= MOST_VIEWERS:  # others have come since
                return
            viewers += 1
            try:
                shown: Mapping[str, str] = {}
                while True:
                    parts = await render_latest()
                    changed = {name: part for name, part in parts.items() if shown.get(name) != part}
                    shown = parts
                    yield f"data: {json.dumps(changed)}\n\n"
                    await trio.sleep(REFRESH_SECONDS)
            finally:
                viewers -= 1

        response = app.response_class(follow(), headers={"cache-control": "no-store"}, content_type="text/event-stream")
        response.timeout = None
        return response

    return app


async def _render_parts(status: Status) -> Mapping[str, str]:
    mounts = arrange_mounts(status.overview.mounts, status.applications)
    values: dict[str, Any] = {**vars(status), "mounts": mounts}
    return {name: await render_template(f"status/{name}.html", **values) for name in PARTS}


def show_count(number: float) -> str:
    """A whole number, in groups of three digits."""
    return f"{number:,.0f}"


def show_rate(number: float | None) -> str:
    """A number a second; one decimal below ten."""
    if number is None:
        return "none"
    return f"{number:.1f}" if 0 < number < 10 else f"{number:,.0f}"


def show_bytes(size_bytes: float) -> str:
    """A size in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def show_seconds(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "none"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def show_clock(unix_time: float, now: float) -> str:
    """A time, with its date where that is not today's."""
    at, today = datetime.fromtimestamp(unix_time, UTC), datetime.fromtimestamp(now, UTC).date()
    return f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d %H:%M:%S}"
