"""A trusted proxy says who a request came from; nobody else does."""

from __future__ import annotations

import pytest

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.forwarded import ForwardedLayer
from sage_edge.core.forwarded import TrustedProxies
from tests.kit.asgi_calls import Server, http_scope, lifespan_scope, websocket_scope

FIELDS = [
    (b"host", b"inner.test"),
    (b"x-forwarded-for", b"198.51.100.7"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"outer.test:8443"),
]


async def pass_through(scope: Scope, *trusted: str) -> Scope:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    server = Server()
    await ForwardedLayer(application, trusted=TrustedProxies(trusted))(scope, server.receive, server.send)
    return seen[0]


async def test_a_trusted_proxy_is_believed() -> None:
    scope = await pass_through(http_scope(scheme="http", headers=FIELDS), "192.0.2.0/24")
    assert scope["client"] == ("198.51.100.7", 0)
    assert scope["scheme"] == "https"
    assert scope["headers"] == [(b"host", b"outer.test:8443"), *FIELDS[1:]]


@pytest.mark.parametrize(("said", "is_secure"), [(b"https", True), (b"wss", True), (b"http", False), (b"ws", False)])
async def test_a_scheme_is_one_of_what_is_asked_for(said: bytes, is_secure: bool) -> None:
    fields = [*FIELDS[:2], (b"x-forwarded-proto", said)]
    scope = await pass_through(websocket_scope(headers=fields), "192.0.2.1")
    assert scope["scheme"] == ("wss" if is_secure else "ws")
    scope = await pass_through(http_scope(headers=fields), "192.0.2.1")
    assert scope["scheme"] == ("https" if is_secure else "http")


@pytest.mark.parametrize("trusted", [[], ["10.0.0.1"], ["unix"]], ids=repr)
async def test_anyone_elses_words_are_removed(trusted: list[str]) -> None:
    fields = [*FIELDS, (b"forwarded", b"for=10.0.0.1"), (b"x-forwarded-prefix", b"/a"), (b"accept", b"*/*")]
    scope = await pass_through(http_scope(scheme="http", headers=fields), *trusted)
    assert scope["headers"] == [(b"host", b"inner.test"), (b"accept", b"*/*")]
    assert (scope["client"][0], scope["scheme"]) == ("192.0.2.1", "http")


async def test_a_proxy_s_word_has_no_underscore() -> None:
    alike = (b"x_forwarded_for", b"10.0.0.1")
    scope = await pass_through(http_scope(headers=[*FIELDS, alike]), "192.0.2.1")
    assert scope["headers"] == [(b"host", b"outer.test:8443"), *FIELDS[1:]]
    assert (await pass_through(http_scope(headers=[FIELDS[0], alike])))["headers"] == FIELDS[:1]


async def test_a_unix_socket_can_be_trusted() -> None:
    scope = await pass_through(http_scope(client=None, headers=FIELDS), "unix")
    assert scope["client"] == ("198.51.100.7", 0)


@pytest.mark.parametrize("host", [b"a b", b"a@b", b"a:99999999", b""], ids=repr)
async def test_a_host_that_is_none_is_not_taken(host: bytes) -> None:
    scope = await pass_through(http_scope(headers=[*FIELDS[:3], (b"x-forwarded-host", host)]), "192.0.2.1")
    assert scope["headers"][0] == (b"host", b"inner.test")


@pytest.mark.parametrize("hidden", [[(b"x-forwarded-for", b"unknown")], []], ids=repr)
async def test_where_no_address_is_told_the_proxy_is_the_client_and_its_scheme_is_believed(
    hidden: list[tuple[bytes, bytes]],
) -> None:
    fields = [*hidden, (b"x-forwarded-proto", b"https")]
    scope = await pass_through(http_scope(scheme="http", headers=fields), "192.0.2.1")
    assert (scope["client"][0], scope["scheme"]) == ("192.0.2.1", "https")


@pytest.mark.parametrize("name", [b"x-real-ip", b"true-client-ip", b"x-original-forwarded-for"])
async def test_what_other_proxies_tell_in_their_own_headers_is_theirs_alone(name: bytes) -> None:
    fields = [(name, b"10.0.0.1"), (name.replace(b"-", b"_"), b"10.0.0.1")]
    assert (await pass_through(http_scope(headers=fields)))["headers"] == []
    scope = await pass_through(http_scope(headers=fields), "192.0.2.1")
    assert (scope["headers"], scope["client"][0]) == (fields[:1], "192.0.2.1")


async def test_a_lifespan_passes() -> None:
    assert (await pass_through(lifespan_scope()))["type"] == "lifespan"
