"""The routing table as a function of the request line."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sage_edge.core.routing import GENERAL_METHODS, READ_METHODS, Route, Target, decide, normalise_prefix

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
PREFIXES = ("/llm/v2", "/llm", "")

segments = st.text(UNRESERVED, min_size=1).filter(lambda text: text not in {".", ".."})
mount_prefixes = st.lists(segments, max_size=3).map(lambda parts: "".join(f"/{part}" for part in parts))
mount_tables = st.sets(mount_prefixes.filter(lambda prefix: prefix not in {"/healthz", "/readyz"}), max_size=4).map(
    lambda prefixes: sorted(prefixes, key=len, reverse=True)
)

escapes = st.binary(min_size=1, max_size=1).map(lambda byte: b"%%%02X" % byte[0])
pieces = st.one_of(
    st.sampled_from(
        [b"/", b"//", b".", b"..", b"/llm", b"/healthz", b"%2e", b"%2F", b"%", b"%4", b"#", b"\xff", b" ", b"*"]
    ),
    st.text(UNRESERVED, max_size=5).map(str.encode),
    escapes,
)
raw_paths = st.one_of(
    st.lists(pieces, max_size=6).map(lambda parts: b"/" + b"".join(parts)),
    st.lists(pieces, max_size=6).map(b"".join).filter(bool),
    st.binary(min_size=1, max_size=20),
)


def ask(
    raw_path: bytes,
    prefixes: tuple[str, ...] | list[str] = PREFIXES,
    *,
    method: str = "GET",
) -> Route:
    return decide(method, raw_path, prefixes)


@given(raw_paths, mount_tables)
def test_a_mount_gets_its_prefix_and_what_is_below_it_and_nothing_else(raw_path: bytes, prefixes: list[str]) -> None:
    route = ask(raw_path, prefixes)
    if route.target is Target.MOUNT:
        encoded = route.prefix.encode()
        assert route.prefix in prefixes
        assert raw_path == encoded or raw_path.startswith(encoded + b"/")
        assert route.raw_path == raw_path


@given(raw_paths, mount_tables)
def test_no_longer_prefix_would_have_matched(raw_path: bytes, prefixes: list[str]) -> None:
    route = ask(raw_path, prefixes)
    if route.target is Target.MOUNT:
        longer = [prefix.encode() for prefix in prefixes if len(prefix) > len(route.prefix)]
        assert not any(raw_path == prefix or raw_path.startswith(prefix + b"/") for prefix in longer)


def is_malformed(raw_path: bytes) -> bool:
    """As the design's table says, without the help of routing."""
    if any(not 0x21 <= byte <= 0x7E for byte in raw_path) or b"#" in raw_path:
        return True
    escaped = raw_path.split(b"%")[1:]
    if any(len(rest) < 2 or any(chr(digit) not in "0123456789abcdefABCDEF" for digit in rest[:2]) for rest in escaped):
        return True
    decoded = unquote_to_bytes(raw_path)
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return True
    return any(byte < 0x20 or byte == 0x7F for byte in decoded) or not {".", ".."}.isdisjoint(text.split("/"))


@given(raw_paths, mount_tables)
@example(b"/llm/%2e%2E/x", [""])
@example(b"/a%2f..%2fb", [""])
@example(b"/%00", [""])
@example(b"/%7f", [""])
@example(b"/%C3", [""])
@example(b"/\xc3\xa9", [""])
def test_what_is_malformed_is_refused_with_400_and_nothing_else_is(raw_path: bytes, prefixes: list[str]) -> None:
    assert (ask(raw_path, prefixes).status == 400) == is_malformed(raw_path)


@given(raw_paths, mount_tables, st.sampled_from(["GET", "POST", "OPTIONS", "TRACE", "BREW"]))
def test_every_request_line_has_an_answer(raw_path: bytes, prefixes: list[str], method: str) -> None:
    route = ask(raw_path, prefixes, method=method)
    if route.target is Target.REFUSED:
        assert route.status in {400, 404, 405}
        assert route.detail.endswith(".")
    else:
        assert route.path == unquote_to_bytes(route.raw_path).decode()


@given(st.sampled_from([b"/healthz", b"/readyz"]), mount_tables, st.sampled_from(READ_METHODS))
def test_health_is_the_edges_own_whatever_is_mounted(raw_path: bytes, prefixes: list[str], method: str) -> None:
    assert ask(raw_path, prefixes, method=method) == Route(Target.HEALTH, raw_path, raw_path.decode())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
@pytest.mark.parametrize(("raw_path", "prefixes"), [(b"/healthz", PREFIXES), (b"/", ("/llm",))])
def test_the_edges_own_pages_are_for_reading(method: str, raw_path: bytes, prefixes: tuple[str, ...]) -> None:
    route = ask(raw_path, prefixes, method=method)
    assert (route.target, route.status, route.allow) == (Target.REFUSED, 405, READ_METHODS)
    assert method in route.detail


@given(raw_paths, st.sampled_from(["CONNECT", "TRACE"]))
def test_connect_and_trace_are_refused_everywhere(raw_path: bytes, method: str) -> None:
    route = ask(raw_path, method=method)
    assert (route.target, route.status, route.allow) == (Target.REFUSED, 405, GENERAL_METHODS)


@given(segments, mount_tables)
def test_unreserved_characters_come_through_as_they_are(segment: str, prefixes: list[str]) -> None:
    for prefix in prefixes:
        raw_path = f"{prefix}/{segment}".encode()
        assume(raw_path not in {b"/healthz", b"/readyz"})
        route = ask(raw_path, prefixes)
        assert (route.target, route.path.encode(), route.raw_path) == (Target.MOUNT, raw_path, raw_path)


@given(st.text(min_size=1))
def test_text_that_a_client_has_quoted_comes_through_as_it_was(text: str) -> None:
    try:
        raw_path = f"/llm/{quote(text)}".encode()
    except UnicodeEncodeError:
        return
    assume(not is_malformed(raw_path))
    route = ask(raw_path, ["/llm"])
    assert (route.target, route.path, route.raw_path) == (Target.MOUNT, f"/llm/{text}", raw_path)


@pytest.mark.parametrize("raw_path", [b"/llmx", b"//llm", b"/%6clm", b"/LLM", b"/healthz/", b"/%68ealthz", b"/x"])
def test_what_only_resembles_a_prefix_is_not_found(raw_path: bytes) -> None:
    assert ask(raw_path, ["/llm"]).status == 404


@pytest.mark.parametrize("raw_path", [b"*", b"llm", b"llm/x", b"https://edge.test/llm"])
def test_a_target_without_a_leading_slash_is_no_mounts(raw_path: bytes) -> None:
    assert ask(raw_path).target is Target.REFUSED


def test_the_landing_page_is_where_no_mount_owns_the_root() -> None:
    assert ask(b"/", ["/llm"]) == Route(Target.LANDING, b"/", "/")
    assert ask(b"/", []) == Route(Target.LANDING, b"/", "/")
    assert ask(b"/", [""]).target is Target.MOUNT


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("/", ""), ("//", ""), ("/llm", "/llm"), ("/llm/", "/llm"), ("/llm//", "/llm"), ("/a/b_c~d.e-f", "/a/b_c~d.e-f")],
)
def test_prefixes_are_kept_without_a_trailing_slash(text: str, prefix: str) -> None:
    assert normalise_prefix(text) == prefix


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not start with '/'"),
        ("llm", "does not start with '/'"),
        ("/a//b", "single slashes"),
        ("//a", "single slashes"),
        ("/a b", "may hold only letters"),
        ("/%61", "may hold only letters"),
        ("/é", "may hold only letters"),
        ("/a?b", "may hold only letters"),
        ("/a\n", "may hold only letters"),
        ("/a/..", "'.' or '..' segment"),
        ("/./a", "'.' or '..' segment"),
        ("/healthz", "own health endpoint"),
        ("/readyz/", "own health endpoint"),
    ],
)
def test_prefixes_that_cannot_be_matched_literally_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        normalise_prefix(text)


@given(st.one_of(st.text(), st.text(UNRESERVED + "/").map(lambda text: "/" + text)))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    try:
        prefix = normalise_prefix(text)
    except ValueError:
        return
    assert normalise_prefix(prefix or "/") == prefix
    assert prefix == "" or (prefix.startswith("/") and not prefix.endswith("/"))
