"""The edge's own pages, as a Quart application on trio: health endpoints and the landing page.

Which paths and methods get here is decided by `core.routing`; what readiness says by
`core.readiness`. No gateway is ever called from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quart import Response, jsonify, render_template, request
from quart_trio import QuartTrio

from sage_edge.core.readiness import SERVICE_NAME, Readiness


@dataclass(frozen=True)
class MountSummary:
    """What the landing page says of a mount: its prefix ("/" for the root), name, and links by title."""

    prefix: str
    name: str
    links: Mapping[str, str]


def build_health_app(readiness: Readiness, *, version: str, mounts: Sequence[MountSummary]) -> QuartTrio:
    """Build the application.

    Args:
        readiness: what is reported.
        version: of sage-edge.
        mounts: what the landing page lists.
    """
    app = QuartTrio(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it; Quart types the base

    @app.get("/healthz")
    async def healthz() -> Response:
        return _uncached(jsonify(readiness.liveness_body()))

    @app.get("/readyz")
    async def readyz() -> Response:
        report = readiness.report()
        response = _uncached(jsonify(readiness.readiness_body(report)))
        response.status_code = report.http_status
        return response

    @app.get("/")
    async def landing() -> Response:
        report = readiness.report()
        response: Response
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            page = await render_template(
                "landing.html", name=SERVICE_NAME, version=version, mounts=mounts, report=report
            )
            response = app.response_class(page)
        else:
            response = jsonify(
                name=SERVICE_NAME,
                version=version,
                status=report.status,
                mounts=[{"prefix": mount.prefix, "name": mount.name, "links": dict(mount.links)} for mount in mounts],
                links={"health": "/healthz", "readiness": "/readyz"},
            )
        response.headers["vary"] = "accept"
        return _uncached(response)

    return app


def _uncached(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    return response
