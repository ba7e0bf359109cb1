"""What a gateway logs or binds costs no more than a line of its own, and says nothing in one of the edge's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.observe.support import status_url, wait_for_text
from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http2 import RawHTTP2, raw_http2

GATEWAY = """
import logging, os, structlog, trio

log = structlog.get_logger("gateway")

class Unshowable:
    def __repr__(self):
        raise RuntimeError("on purpose")

circle = {}
circle["itself"] = circle
BOUND = {
    "/secrets": {"prompt": "a secret", "trace_id": "forged", "events": 77, "exc_info": True, "request_id": "forged"},
    "/repr": {"user": Unshowable()},
    "/key": {"user": {("no", "key"): 1}},
    "/circle": {"user": circle},
}
WARNINGS = {"/no-event": {"msg": "a dict"}, "/event": {"event": Unshowable()}, "/no-text": Unshowable()}
WORKERS = {"/object": object(), "/bytes": b"3", "/unhashable": {"id": 3}, "/number": 9}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**BOUND.get(scope["path"], {}))
    if scope["path"] in WARNINGS:
        logging.getLogger("gateway").warning(WARNINGS[scope["path"]])
    if scope["path"] in WORKERS:
        log.warning(f"pool is full at {scope['path']}", worker=WORKERS[scope["path"]])
    if scope["path"] == "/fail":
        structlog.contextvars.bind_contextvars(user=Unshowable())
        raise ValueError("on purpose")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        while not os.path.exists("may-end"):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await trio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"."})
"""


@contextmanager
def beside_a_stream(directory: Path, *options: str) -> Iterator[tuple[Edge, RawHTTP2]]:
    """A connection that has another stream, which goes on meanwhile and ends well."""
    (directory / "logging_gateway.py").write_text(GATEWAY)
    with (
        running_edge("--gateway", "logging_gateway:app", *options, cwd=directory) as edge,
        raw_http2(edge) as connection,
    ):
        beside = connection.request(b"/stream")
        connection.wait_until(lambda: len(connection.responses[beside].body) > 0)
        yield edge, connection
        (directory / "may-end").touch()
        response = connection.wait_for(beside)
        assert response.is_ended
        assert response.body.endswith(b".")


def test_what_a_gateway_on_the_edges_loop_binds_is_in_none_of_the_edges_lines(tmp_path: Path) -> None:
    with beside_a_stream(tmp_path, "--gateway-loop", "trio") as (edge, connection):
        for path in (b"/secrets", b"/repr", b"/key", b"/circle"):
            assert connection.wait_for(connection.request(path)).body == b"."
            edge.log.wait_for(rf"request.*{path.decode()}.*complete")
        connection.wait_for(connection.request(b"/fail"))
        edge.log.wait_for("request failed")
        edge.log.wait_for("request.*path=/fail status=500")
        for word in ("secret\\b", "forged", "events", "user", "trace_id"):
            assert word not in edge.log.text


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_worker_of_the_gateways_is_told_in_its_line_and_taken_for_none_of_the_edges(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    options = ("--gateway-loop", "trio", "--admin-bind", "127.0.0.1:0", *options)
    with beside_a_stream(tmp_path, *options) as (edge, connection):
        for path in ("/object", "/bytes", "/unhashable", "/number"):
            assert connection.wait_for(connection.request(path.encode())).body == b"."
            edge.log.wait_for(f"pool is full at {path}.* worker=")
            shown = wait_for_text(status_url(edge), f"pool is full at {path}")
        assert "worker 9" not in shown


def test_a_gateway_that_warns_of_anything_answers_as_it_would(tmp_path: Path) -> None:
    with beside_a_stream(tmp_path, "--gateway-loop", "trio") as (edge, connection):
        for path in (b"/no-event", b"/event", b"/no-text"):
            assert connection.wait_for(connection.request(path)).body == b"."
        edge.log.wait_for(r"a log line could not be formatted \[gateway\]", count=2)
        edge.log.wait_for(r"\[warning\] {'msg': 'a dict'} \[gateway\]")
