"""What a request of HTTP/1.1 is for: its host and its target, which must not differ (RFC 9112 section 3)."""

from __future__ import annotations

import re

import pytest

from tests.kit.http1_events import get, read_request, refusal


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"edge.test",
        b"edge_1.test.",
        b"127.0.0.1:80",
        b"[::1]",
        b"[2001:DB8::1]:65535",
        b"[::ffff:1.2.3.4]",
        b"a:0",
        b"%61!$&'()*+,;=~",
    ],
)
def test_a_host_is_read(host: bytes) -> None:
    assert read_request(get(host=b"Host: %b\r\n" % host)).fields == [(b"host", host)]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b":80",
        b"a:",
        b"a:65536",
        b"a:000080",
        b"a:+1",
        b"a:b",
        b"a:1:2",
        b"::1",
        b"[]",
        b"[::1",
        b"[::1]x",
        b"[:::]",
        b"[1.2.3.4]",
        b"[fe80::1%25eth0]",
        b"[v1.a]",
        b"user@a",
        b"a/b",
        b"a b",
        b"a, b",
        b"a%2",
        b"a%zz",
        b"a\\b",
        b'"a"',
        b"\xc3\xa9",
    ],
)
def test_a_malformed_host_is_refused(host: bytes) -> None:
    assert refusal(get(host=b"Host: %b\r\n" % host)) == (400, "The host is malformed.")


def test_a_host_is_needed_since_version_1_1() -> None:
    assert refusal(get(host=b"")) == (400, "The request names no host.")
    assert read_request(get(line=b"GET / HTTP/1.0", host=b"")).fields == []


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("second", [b"host: edge.test", b"HOST: other.test"])
def test_two_hosts_are_refused(version: bytes, second: bytes) -> None:
    assert refusal(get(b"X: 1", second, line=b"GET / HTTP/" + version)) == (400, "host is given more than once.")


@pytest.mark.parametrize(
    ("target", "host", "origin_form"),
    [
        (b"http://edge.test/a", b"edge.test", b"/a"),
        (b"http://edge.test//a/%2F?b=c://d/", b"edge.test", b"//a/%2F?b=c://d/"),
        (b"HTTP://EDGE.test", b"edge.TEST", b"/"),
        (b"http://edge.test:80?b", b"edge.test", b"/?b"),
        (b"http://edge.test/", b"edge.test:80", b"/"),
        (b"http://edge.test#a", b"edge.test", b"/#a"),
        (b"HTTPS://edge.test:443/", b"edge.test", b"/"),
        (b"http://edge.test:8080/", b"EDGE.test:08080", b"/"),
        (b"https://[::1]:8443/", b"[::1]:8443", b"/"),
    ],
)
def test_an_absolute_target_names_the_host_and_a_path(target: bytes, host: bytes, origin_form: bytes) -> None:
    request = read_request(get(b"X: 1", line=b"GET %b HTTP/1.1" % target, host=b"Host: %b\r\n" % host))
    authority = re.split(rb"[/?#]", target.partition(b"://")[2])[0]
    assert request.target == origin_form
    assert request.fields == [(b"host", authority), (b"x", b"1")]


def test_an_absolute_target_makes_up_for_the_host_of_version_1_0() -> None:
    request = read_request(get(b"X: 1", line=b"GET http://edge.test/ HTTP/1.0", host=b""))
    assert request.fields == [(b"host", b"edge.test"), (b"x", b"1")]


@pytest.mark.parametrize(
    "target",
    [
        b"http://other.test/",
        b"http://edge.test:443/",
        b"https://edge.test:80/",
        b"http://edge.test.evil/",
    ],
)
def test_an_absolute_target_of_another_host_is_refused(target: bytes) -> None:
    detail = "The request's target and its host field name different hosts."
    assert refusal(get(line=b"GET %b HTTP/1.1" % target)) == (400, detail)


@pytest.mark.parametrize("target", [b"ftp://edge.test/", b"other+scheme://edge.test", b"ftp://other.test:80/"])
@pytest.mark.parametrize("line", [b"GET %b HTTP/1.1", b"GET %b HTTP/1.0"])
def test_a_scheme_that_is_not_served_is_said_to_be(target: bytes, line: bytes) -> None:
    detail = "The request's target has a scheme that is not served here."
    assert refusal(get(line=line % target)) == (400, detail)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"a",
        b"edge.test:80",
        b"?a",
        b"http:/edge.test/",
        b"http:///",
        b"http://",
        b"://edge.test/",
        b"1http://edge.test/",
        b"http://user@edge.test/",
        b"http://edge.test:/",
        b"http://edge.test\\@other.test/",
    ],
)
def test_a_target_of_no_form_is_refused(target: bytes) -> None:
    assert refusal(get(line=b"GET %b HTTP/1.1" % target)) == (400, "The request's target is malformed.")


def test_an_asterisk_is_the_target_of_options() -> None:
    assert read_request(get(line=b"OPTIONS * HTTP/1.1")).target == b"*"


def test_connect_has_an_authority_and_nothing_behind_it_is_a_request() -> None:
    request = read_request(get(line=b"CONNECT other.test:443 HTTP/1.1"))
    assert (request.target, request.fields, request.keeps_alive) == (
        b"other.test:443",
        [(b"host", b"edge.test")],
        False,
    )


@pytest.mark.parametrize("target", [b"other.test", b"*", b"http://edge.test/", b"user@a:1"])
def test_connect_to_something_else_is_refused(target: bytes) -> None:
    assert refusal(get(line=b"CONNECT %b HTTP/1.1" % target)) == (400, "The request's target is malformed.")
