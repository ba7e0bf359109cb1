"""The plaintext port: redirects to the host that was asked, and to nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sage_edge.app.redirect import RedirectApplication
from tests.app.applications import answer
from tests.kit.asgi_calls import http_scope, websocket_scope
from tests.kit.exchange import RecordingExchange


async def ask(
    path: str = "/", *, host: bytes | None = b"edge.test", port: int = 443, **scope: Any
) -> RecordingExchange:
    headers = [] if host is None else [(b"host", host)]
    values = {"scheme": "http", "http_version": "1.1", "headers": headers, **scope}
    exchange = RecordingExchange(scope=http_scope(path, **values))
    await exchange.run(RedirectApplication(answer, port))
    return exchange


def location(exchange: RecordingExchange) -> str:
    assert exchange.status == 308
    return exchange.headers["location"]


@pytest.mark.parametrize(
    ("path", "query", "port", "url"),
    [
        ("/", b"", 443, "https://edge.test/"),
        ("/a/b", b"x=1&y=%20", 443, "https://edge.test/a/b?x=1&y=%20"),
        ("/v1%2Fmodels", b"", 8899, "https://edge.test:8899/v1%2Fmodels"),
        ("//evil.test/", b"", 443, "https://edge.test//evil.test/"),
        ("/", b"next=https://evil.test/", 443, "https://edge.test/?next=https://evil.test/"),
    ],
)
async def test_path_and_query_are_kept_and_the_port_is_the_edge_s(path: str, query: bytes, port: int, url: str) -> None:
    assert location(await ask(path, query_string=query, port=port)) == url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (b"Edge.Test:8080", "https://edge.test/"),
        (b"192.0.2.7:80", "https://192.0.2.7/"),
        (b"[2001:DB8::1]:80", "https://[2001:db8::1]/"),
        (b"under_score.test", "https://under_score.test/"),
    ],
)
async def test_the_port_that_was_asked_is_dropped(host: bytes, url: str) -> None:
    assert location(await ask(host=host)) == url


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"a b",
        b"user@evil.test",
        b"edge.test/..",
        b"edge.test\\evil.test",
        b"edge.test#",
        b"edge.test?",
        b"edge.test\r\nx: y",
        b"%65vil.test",
        b"edge.test:99999",
        b"edge.test:",
        b"[::1",
        b"[v1.a]",
        b"a,b",
        b"x" * 254,
        "edge.tést".encode(),
    ],
)
async def test_odd_hosts_are_refused(host: bytes | None) -> None:
    exchange = await ask(host=host)
    assert exchange.status == 400
    assert "location" not in exchange.headers


@pytest.mark.parametrize(
    ("path", "query", "method", "status"),
    [
        ("/", b"a\r\nset-cookie: x", "GET", 400),
        ("/", b"a b", "GET", 400),
        ("/%0d%0a", b"", "GET", 400),
        ("/../", b"", "GET", 400),
        ("*", b"", "OPTIONS", 404),
        ("/", b"", "TRACE", 405),
        ("/healthz", b"", "POST", 405),
    ],
)
async def test_what_the_edge_would_refuse_is_refused(path: str, query: bytes, method: str, status: int) -> None:
    exchange = await ask(path, query_string=query, method=method)
    assert exchange.status == status
    assert "location" not in exchange.headers


async def test_a_redirect_keeps_the_method_and_is_not_stored() -> None:
    exchange = await ask("/v1/chat/completions", method="POST")
    assert location(exchange) == "https://edge.test/v1/chat/completions"
    assert exchange.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_answered_here(path: str) -> None:
    exchange = await ask(path)
    assert (exchange.status, exchange.body) == (200, b"answer")


@pytest.mark.parametrize(
    ("path", "method", "mount"),
    [("/healthz", "GET", "health"), ("/healthz", "POST", "health"), ("/x", "GET", "redirect"), ("/%", "GET", "none")],
)
async def test_what_is_asked_here_has_its_mount(path: str, method: str, mount: str) -> None:
    assert (await ask(path, method=method)).mount == mount


async def test_a_websocket_is_redirected_where_the_server_can_say_so() -> None:
    scope = websocket_scope("/ws", extensions={"websocket.http.response": {}}, http_version="1.1")
    exchange = RecordingExchange(scope=scope)
    await exchange.run(RedirectApplication(answer, 443))
    start = exchange.sent[0]
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 308)
    assert dict(start["headers"])[b"location"] == b"https://edge.test/ws"
