"""What a request asks for, and what cannot be asked for (RFC 9113 sections 8.3 and 8.5, RFC 8441)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import PROTOCOL_ERROR, Field, get_fields, headers_frame
from tests.kit.protocol_host import respond


def refusal(fields: list[Field]) -> tuple[int, int | None]:
    """The status and the reset that a request's header list is refused with."""
    client = HTTP2Client()
    client.send(headers_frame(1, client.block(fields)))
    answer = client.answer(1)
    assert not client.host.exchanges, "an application was run"
    assert client.connection.is_idle
    assert client.goaway_code() is None
    return answer.status, answer.reset_code


def test_a_request_becomes_a_scope() -> None:
    client = HTTP2Client()
    _, exchange = client.ask(
        (b"accept", b"*/*"), method=b"PUT", path=b"/caf%C3%A9/b?c=%20d", authority=b"edge.test:8443", scheme=b"http"
    )
    scope = {key: value for key, value in exchange.scope.items() if not key.startswith("sage_edge")}
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": "PUT",
        "scheme": "https",
        "path": "/café/b",
        "raw_path": b"/caf%C3%A9/b",
        "query_string": b"c=%20d",
        "root_path": "",
        "headers": [(b"host", b"edge.test:8443"), (b"accept", b"*/*")],
        "client": ("192.0.2.7", 50_000),
        "server": ("192.0.2.1", 443),
        "state": {},
        "extensions": {"http.response.trailers": {}},
    }


def test_a_plaintext_connection_has_the_scheme_http() -> None:
    client = HTTP2Client()
    client.host.is_tls = False
    assert client.ask()[1].scope["scheme"] == "http"


@pytest.mark.parametrize("missing", ["method", "scheme", "path"])
@pytest.mark.parametrize("value", [None, b""])
def test_a_request_without_a_method_scheme_or_path_is_malformed(missing: str, value: bytes | None) -> None:
    assert refusal(get_fields(**{missing: value})) == (0, PROTOCOL_ERROR)


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path", b":authority"])
def test_a_pseudo_field_that_comes_twice_is_malformed(name: bytes) -> None:
    fields = get_fields()
    fields.insert(0, (name, dict(fields)[name]))
    assert refusal(fields) == (0, PROTOCOL_ERROR)


@pytest.mark.parametrize("name", [b":status", b":path2", b":", b":Method", b":protocol"])
def test_a_pseudo_field_that_is_not_a_requests_is_malformed(name: bytes) -> None:
    assert refusal([(name, b"200"), *get_fields()]) == (0, PROTOCOL_ERROR)


def test_a_pseudo_field_after_a_regular_one_is_malformed() -> None:
    assert refusal([(b"accept", b"*/*"), *get_fields()]) == (0, PROTOCOL_ERROR)
    assert refusal([*get_fields(path=None), (b"accept", b"*/*"), (b":path", b"/")]) == (0, PROTOCOL_ERROR)


@pytest.mark.parametrize("name", ["method", "scheme", "authority", "path"])
@pytest.mark.parametrize("wrong", [b"\x00", b"\r", b"\n", b" /", b"/ ", b"\t/", b"/\r\nx: y"])
def test_a_pseudo_field_with_a_forbidden_character_is_malformed(name: str, wrong: bytes) -> None:
    assert refusal(get_fields(**{name: wrong})) == (0, PROTOCOL_ERROR)


@pytest.mark.parametrize("method", [b"G T", b"GET/", b"\xff", b'"GET"', b"G,T"])
def test_a_method_that_is_no_token_is_refused(method: bytes) -> None:
    assert refusal(get_fields(method=method)) in [(400, None), (0, PROTOCOL_ERROR)]


PATHS = [b"a", b"*", b"/a b", b"/\x01", b"/\x7f", b"/a#b", b"http://edge.test/", b"/\xc3\xa9", b"?", b"//a b"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    assert refusal(get_fields(path=path)) in [(400, None), (0, PROTOCOL_ERROR)]  # section 8.3.1


@pytest.mark.parametrize("path", [b"/", b"//", b"/a?b?c", b"/%zz", b"/a;b=c/@:!$&'()*+,=~", b"/?", b"/..//a"])
def test_a_path_is_passed_on_as_it_is(path: bytes) -> None:
    scope = HTTP2Client().ask(path=path)[1].scope
    assert scope["raw_path"] + (b"?" if b"?" in path else b"") + scope["query_string"] == path


def test_options_may_ask_for_the_server_as_a_whole() -> None:
    assert HTTP2Client().ask(method=b"OPTIONS", path=b"*")[1].scope["raw_path"] == b"*"


@pytest.mark.parametrize("scheme", [b"\xff", b"a b", b"1a"])
def test_a_scheme_that_is_none_is_refused(scheme: bytes) -> None:
    assert refusal(get_fields(scheme=scheme)) in [(400, None), (0, PROTOCOL_ERROR)]


AUTHORITIES = [b"", b"a b", b"a/b", b"a\x01", b"a?b", b"a#b", b"a\\b", b"[::1", b"edge.test:https", b"\xff", b":80"]


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_an_authority_that_is_none_is_refused(authority: bytes) -> None:
    refused = [(400, None), (0, PROTOCOL_ERROR)]
    assert refusal(get_fields(authority=authority)) in refused
    assert refusal(get_fields((b"host", authority), authority=None)) in refused


@pytest.mark.parametrize("authority", [b"user@edge.test", b"user:word@edge.test", b"@edge.test"])
def test_an_authority_with_user_information_is_malformed(authority: bytes) -> None:
    assert refusal(get_fields(authority=authority)) in [(400, None), (0, PROTOCOL_ERROR)]  # section 8.3.1


@pytest.mark.parametrize("authority", [b"edge.test", b"edge.test:1", b"[::1]:8443", b"192.0.2.1", b"Edge.Test"])
def test_the_authority_becomes_the_host_field(authority: bytes) -> None:
    assert HTTP2Client().ask(authority=authority)[1].scope["headers"] == [(b"host", authority)]
    by_host = HTTP2Client().ask((b"x", b"y"), (b"host", authority), authority=None)[1]
    assert by_host.scope["headers"] == [(b"host", authority), (b"x", b"y")]


def test_a_request_that_names_no_host_is_refused() -> None:
    assert refusal(get_fields(authority=None)) in [(400, None), (0, PROTOCOL_ERROR)]  # as over HTTP/1.1


def test_a_host_field_may_repeat_the_authority() -> None:
    assert HTTP2Client().ask((b"host", b"EDGE.test"))[1].scope["headers"] == [(b"host", b"edge.test")]


def test_a_host_field_that_contradicts_is_refused() -> None:
    refused = [(400, None), (0, PROTOCOL_ERROR)]
    assert refusal(get_fields((b"host", b"other.test"))) in refused  # section 8.3.1
    assert refusal(get_fields((b"host", b"a.test"), (b"host", b"b.test"), authority=None)) in refused


def test_connect_is_answered_with_405() -> None:
    client = HTTP2Client()
    stream_id = client.request(method=b"CONNECT", scheme=None, path=None, authority=b"a.test:443", end=False)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended) == (405, True)
    assert b"allow" in dict(answer.fields)  # RFC 9110 section 15.5.6
    assert not client.host.exchanges


@pytest.mark.parametrize(
    "fields",
    [
        get_fields(method=b"CONNECT"),
        get_fields(method=b"CONNECT", scheme=None),
        get_fields(method=b"CONNECT", path=None),
        get_fields(method=b"CONNECT", scheme=None, path=None, authority=None),
        get_fields(method=b"CONNECT", scheme=None, path=None, authority=b""),
    ],
)
def test_connect_has_an_authority_and_nothing_else(fields: list[Field]) -> None:
    assert refusal(fields) == (0, PROTOCOL_ERROR)  # section 8.5


@pytest.mark.parametrize("missing", ["scheme", "path", "authority"])
@pytest.mark.parametrize("value", [None, b""])
def test_an_extended_connect_has_a_scheme_a_path_and_an_authority(missing: str, value: bytes | None) -> None:
    pseudo = {"method": b"CONNECT", "protocol": b"websocket", missing: value}
    assert refusal(get_fields(**pseudo)) == (0, PROTOCOL_ERROR)  # RFC 8441 section 4


def test_a_protocol_without_connect_is_malformed() -> None:
    assert refusal(get_fields(protocol=b"websocket")) == (0, PROTOCOL_ERROR)


@pytest.mark.parametrize("protocol", [b"connect-udp", b"WebSocket2", b"\xff", b""])
def test_an_extended_connect_to_an_unknown_protocol_is_refused(protocol: bytes) -> None:
    assert refusal(get_fields(method=b"CONNECT", protocol=protocol))[0] in (400, 501)  # RFC 9220 section 3


def test_a_refused_request_does_not_disturb_the_others() -> None:
    client = HTTP2Client()
    first, exchange = client.ask()
    bad = client.request(path=None)
    last, other = client.ask()
    respond(exchange, b"one")
    respond(other, b"two")
    assert (client.answer(first).body, client.answer(bad).reset_code) == (b"one", PROTOCOL_ERROR)
    assert client.answer(last).body == b"two"
