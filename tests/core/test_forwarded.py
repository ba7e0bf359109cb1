"""Who a request came from, by the words of proxies and of those who only claim to be one."""

from __future__ import annotations

from ipaddress import ip_address
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.forwarded import (
    FORWARDING_STARTS,
    Hop,
    TrustedProxies,
    is_forwarding_field,
    parse_address,
    read_hops,
)

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48"])


def client_of(*fields: tuple[str, str], trusted: TrustedProxies = PROXIES) -> str | None:
    hop = trusted.find_client(read_hops([(name.encode(), value.encode("latin-1")) for name, value in fields]))
    return str(hop.client) if hop and hop.client else None


@pytest.mark.parametrize(
    ("entries", "address", "is_trusted"),
    [
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["10.0.0.0/8"], "10.9.9.9", True),
        (["10.0.0.0/8"], "::ffff:10.9.9.9", True),
        (["10.0.0.0/8"], "::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["::/0"], "10.0.0.1", False),
        (["10.0.0.0/8"], None, False),
        (["unix"], None, True),
        (["unix"], "10.0.0.1", False),
        ([], "127.0.0.1", False),
        (["0.0.0.0/0"], "not an address", False),
    ],
)
def test_who_is_trusted(entries: list[str], address: str | None, is_trusted: bool) -> None:
    assert TrustedProxies(entries).trusts(address) is is_trusted


@pytest.mark.parametrize("entry", ["", "10.0.0.300", "10.0.0.1/8", "example.com", "Unix"])
def test_what_is_no_proxy_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the message is the library's
        TrustedProxies([entry])


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.2, 10.0.0.3", "192.0.2.1"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("6.6.6.6, unknown", None),
        ("", None),
        ("192.0.2.1,", None),
        ("192.0.2.1:99999", None),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(value: str, client: str | None) -> None:
    assert client_of(("x-forwarded-for", value)) == client


def test_several_headers_are_one_list() -> None:
    assert client_of(("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1, 10.0.0.2")) == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ('For="[2001:db8::1]:4711";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("for=6.6.6.6, for=192.0.2.1;host=a.test , for=10.0.0.2", "192.0.2.1"),
        ('for="192.0.2.1:80"', "192.0.2.1"),
        ("for=_hidden, for=10.0.0.2", "10.0.0.2"),
        ("for=unknown", None),
        ("proto=https", None),
        ("", None),
        # A client's own malformed beginning hides itself, and not what a proxy added.
        ('for="6.6.6.6, for=192.0.2.1', "192.0.2.1"),
        ('for=6.6.6.6;x=", for="[2001:db8::1]"', "2001:db8::1"),
        ("for=6.6.6.6;;, for=192.0.2.1", "192.0.2.1"),
        ("for=192.0.2.1, nonsense", None),
        # An element may end with a semicolon (RFC 7239 section 4).
        ("for=6.6.6.6, for=192.0.2.1;", "192.0.2.1"),
        ("for=6.6.6.6, for=192.0.2.1;proto=https; ", "192.0.2.1"),
        ("for=6.6.6.6, for=192.0.2.1; , for=10.0.0.2", "192.0.2.1"),
    ],
)
def test_the_standard_header_is_read_the_same_way(value: str, client: str | None) -> None:
    assert client_of(("forwarded", value)) == client


def test_two_kinds_of_header_say_nothing_since_one_may_be_the_clients_own() -> None:
    assert client_of(("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.1")) is None


def test_scheme_and_host_go_with_their_hop() -> None:
    fields = [(b"forwarded", b'for=192.0.2.1;proto=HTTPS;host="a.test:8443", for=10.0.0.2;proto=http;host=inner')]
    assert PROXIES.find_client(read_hops(fields)) == Hop(ip_address("192.0.2.1"), 0, "https", "a.test:8443")
    fields = [
        (b"x-forwarded-for", b"192.0.2.1, 10.0.0.2"),
        (b"x-forwarded-proto", b"https, http"),
        (b"x-forwarded-host", b"a.test"),
    ]
    assert PROXIES.find_client(read_hops(fields)) == Hop(ip_address("192.0.2.1"), 0, "https", "a.test")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"forwarded": "for=unknown;proto=https;host=a.test"}, (None, "https", "a.test")),
        ({"forwarded": "proto=https"}, (None, "https", "")),
        ({"forwarded": "for=6.6.6.6;proto=http, for=_hidden;proto=https"}, (None, "https", "")),
        ({"forwarded": "for=_hidden;host=a.test, for=10.0.0.2;proto=https"}, ("10.0.0.2", "https", "a.test")),
        ({"forwarded": "for=_hidden;proto=https, for=192.0.2.1"}, ("192.0.2.1", "", "")),
        ({"forwarded": "proto=https, nonsense"}, (None, "", "")),
        ({"x-forwarded-proto": "https"}, (None, "https", "")),
        ({"x-forwarded-proto": "http, https", "x-forwarded-host": "a.test"}, (None, "https", "a.test")),
        ({"x-forwarded-for": "unknown", "x-forwarded-proto": "https"}, (None, "https", "")),
        ({"forwarded": "for=192.0.2.1;proto=https", "x-forwarded-proto": "http"}, None),
    ],
)
def test_where_the_address_is_hidden_scheme_and_host_are_believed(
    fields: dict[str, str], expected: tuple[str | None, str, str] | None
) -> None:
    hop = PROXIES.find_client(read_hops([(name.encode(), value.encode()) for name, value in fields.items()]))
    found = hop and (str(hop.client) if hop.client else None, hop.scheme, hop.host)
    assert found == expected


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        *(("http", "http"), ("HTTPS", "https"), ("ws", "http"), ("Wss", "https")),
        *(("ftp", ""), ("", ""), ("x, https", "https")),
    ],
)
def test_a_scheme_is_http_or_https_and_the_last_where_lists_differ(proto: str, scheme: str) -> None:
    (hop,) = read_hops([(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", proto.encode())])
    assert hop.scheme == scheme
    (hop,) = read_hops([(b"forwarded", f'for=192.0.2.1;proto="{proto.rpartition(", ")[2]}"'.encode())])
    assert hop.scheme == scheme


def test_which_headers_are_a_proxys() -> None:
    names = [b"forwarded", b"x-forwarded-for", b"x-forwarded-prefix", b"x-forwarder", b"host", b"forwarded-for"]
    assert [is_forwarding_field(name) for name in names] == [True, True, True, False, False, False]
    others = [b"x-real-ip", b"x_real_ip", b"true-client-ip", b"True_Client_IP".lower(), b"x-original_forwarded_for"]
    assert all(is_forwarding_field(name) and name.startswith(FORWARDING_STARTS) for name in others)
    assert not any(map(is_forwarding_field, [b"x-real", b"x-original-url", b"true", b"x-real-ip-of-mine"]))
    alike = [b"x_forwarded_for", b"x-forwarded_for", b"x_forwarded-proto", b"x_forwarder"]
    assert [is_forwarding_field(name) for name in alike] == [True, True, True, False]
    assert all(name.startswith(FORWARDING_STARTS) for name in [*names[:3], *alike[:3]])


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for"])
@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "\t",
        " @,",
        'for="',
        'for="a,',
        'a="\\",',
        'a="\\\\',
        ";",
        "a=b;",
        "a",
        "a=",
        "a=b,",
        ",",
        "10.0.0.2,",
        "x,",
    ],
)
def test_the_time_is_linear_in_what_any_client_may_send_through_a_proxy(name: str, unit: str) -> None:
    value = "for=192.0.2.1," + unit * (32_000 // len(unit)) + "@"
    before = perf_counter()
    client_of((name, value))
    assert perf_counter() - before < 3  # where each start is tried with each end, it is a minute


@given(st.text(st.characters(max_codepoint=255)), st.ip_addresses(v=4))
def test_whatever_comes_first_a_proxys_own_word_is_found(before: str, address: object) -> None:
    for name in ("forwarded", "x-forwarded-for"):
        own = f"for={address}" if name == "forwarded" else str(address)
        found = client_of((name, before), (name, own), trusted=TrustedProxies([]))
        assert found is not None
        assert found == str(address)


@given(st.text())
def test_an_address_is_read_or_not_and_nothing_is_raised(text: str) -> None:
    address = parse_address(text)
    assert address is None or str(address)
