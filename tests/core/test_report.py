"""What a person is told of an edge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage_edge.core.configuration import read_configuration
from sage_edge.core.report import (
    describe_certificate,
    describe_listeners,
    describe_mounts,
    describe_routes,
    find_base_url,
    format_configuration,
    format_rows,
)
from sage_edge.core.settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SAGE_EDGE_"):
            monkeypatch.delenv(name)


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x7f"), min_size=1)
paths = st.one_of(st.none(), texts.map(Path))
several_paths = st.lists(texts.map(Path), max_size=3).map(tuple)
seconds = st.floats(min_value=0, max_value=86_400, exclude_min=True)
ports = st.integers(0, 65535)
counts = st.integers(1, 2**31 - 1)
windows = st.integers(65_535, 2**31 - 1)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "host": texts,
    "port": ports,
    "bind": st.lists(st.one_of(ports.map("a:{}".format), texts.map("unix:/{}".format)), max_size=3).map(tuple),
    "reuse_port": st.booleans(),
    "trusted_proxies": st.lists(
        st.one_of(st.just("unix"), st.ip_addresses().map(str), st.ip_addresses(v=6).map("{}/128".format)), max_size=3
    ).map(tuple),
    "proxy_protocol": st.booleans(),
    "certfile": several_paths,
    "keyfile": several_paths,
    "keyfile_password_file": paths,
    "dev_tls": st.booleans(),
    "ca_certs": paths,
    "tls_min": st.sampled_from(["1.2", "1.3"]),
    "redirect_http": st.one_of(ports, st.sampled_from(["fd://3", "systemd:web"])),
    "public_port": st.integers(1, 65535),
    "hsts_seconds": st.integers(0, 2**31 - 1),
    "client_auth": st.sampled_from(["none", "optional", "required"]),
    "gateway": st.sampled_from(["auto", "demo", "m.n:a.b", "m:f()"]),
    "gateway_loop": st.sampled_from(["auto", "asyncio", "trio"]),
    "llm_prefix": st.sampled_from(["/", "/llm", "/a/b~c"]),
    "no_llm": st.booleans(),
    "startup_seconds": seconds,
    "cancel_grace_seconds": seconds,
    "sse_heartbeat_seconds": st.floats(0.1, 86_400),
    "max_connections": counts,
    "max_connections_per_client": counts,
    "max_streams": counts,
    "max_header_bytes": st.integers(1024, 2**20),
    "max_body_bytes": counts,
    "max_message_bytes": counts,
    "max_buffered_bytes": st.integers(2**20),
    "stream_window_bytes": windows,
    "connection_window_bytes": windows,
    "handshake_seconds": seconds,
    "header_seconds": seconds,
    "body_seconds": seconds,
    "idle_seconds": seconds,
    "stall_seconds": seconds,
    "budget_seconds": seconds,
    "max_resets": counts,
    "max_pings": counts,
    "max_settings": counts,
    "max_priorities": counts,
    "max_empty_frames": counts,
    "max_window_updates": counts,
    "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
    "log_format": st.sampled_from(["text", "json"]),
    "log_file": paths,
    "access_log": st.booleans(),
    "access_log_query": st.booleans(),
    "admin_bind": st.one_of(st.just("none"), ports.map("a:{}".format)),
    "metrics_bind": st.one_of(st.just("none"), ports.map("a:{}".format)),
    "tracing": st.booleans(),
    "drain_delay_seconds": seconds,
    "drain_seconds": seconds,
    "workers": st.integers(1, 256),
    "max_requests": counts,
    "max_memory_bytes": st.integers(2**20),
}


def test_every_setting_is_tried_below() -> None:
    assert set(OPTIONS) == set(Settings.model_fields)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_the_configuration_that_is_shown_is_a_file_that_gives_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    shown = read_configuration(options)
    file = tmp_path / "edge.toml"
    file.write_text("\n".join(format_configuration(shown)), encoding="utf-8")
    read = read_configuration({}, file)
    assert read.settings == shown.settings
    assert sorted(map(str, read.faults)) == sorted(map(str, shown.faults)), "conflicts are still conflicts"


def test_the_configuration_shows_every_group_setting_and_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAGE_EDGE_HOST", "localhost")
    monkeypatch.chdir(tmp_path)
    Path("edge.toml").write_text("bind = ['a:1', 'b:2']")
    lines = list(format_configuration(read_configuration({"port": 1}, Path("edge.toml"))))
    assert [line[2:] for line in lines if line.startswith("# ") and "is not set" not in line] == [
        group.__doc__ for group in GROUPS
    ]
    assert [line for line in lines if line.startswith(("host ", "port ", "bind ", "certfile ", "dev_tls "))] == [
        'host = "localhost"                        # environment SAGE_EDGE_HOST',
        "port = 1                                  # option --port",
        'bind = ["a:1", "b:2"]                     # edge.toml',
        "certfile = []                             # default",
        "dev_tls = false                           # default",
    ]


def test_rows_are_two_columns() -> None:
    assert format_rows([("a", "first"), ("longer", "second"), ("b", "")]) == [
        "  a       first",
        "  longer  second",
        "  b",
    ]


def test_listeners_say_what_they_speak() -> None:
    tls = describe_listeners(["[::1]:443", "unix:/a"], is_tls=True)
    assert tls == [
        ("listening", "https://[::1]:443  (HTTP/2 and HTTP/1.1 over TLS)"),
        ("listening", "unix:/a  (HTTP/2 and HTTP/1.1 over TLS)"),
    ]
    plain = describe_listeners(["a:80"], is_tls=False)
    assert plain == [("listening", "http://a:80  (HTTP/1.1 and HTTP/2 with prior knowledge, not encrypted)")]


@pytest.mark.parametrize(
    ("addresses", "is_tls", "url"),
    [
        ([], True, ""),
        (["unix:/a"], True, ""),
        (["unix:/a", "0.0.0.0:1"], True, "https://localhost:1"),
        (["[::]:1"], False, "http://localhost:1"),
        (["127.0.0.1:1"], True, "https://localhost:1"),
        (["[::1]:1"], True, "https://localhost:1"),
        (["10.0.0.1:1", "127.0.0.1:2"], True, "https://10.0.0.1:1"),
        (["[2001:db8::1]:1"], True, "https://[2001:db8::1]:1"),
    ],
)
def test_the_base_url_can_be_opened_on_this_machine(addresses: list[str], is_tls: bool, url: str) -> None:
    assert find_base_url(addresses, is_tls=is_tls) == url


URL = "https://localhost:1"
HEALTH = ("health", f"{URL}/healthz  {URL}/readyz")
THREAD = "asyncio, in a thread of its own"


@pytest.mark.parametrize(
    ("values", "gateway", "links", "rows"),
    [
        ({}, None, {}, [("gateway", "none (--no-llm)"), ("landing", f"{URL}/")]),
        (
            {},
            "demo",
            {"docs": "/docs"},
            [("gateway", f"demo at {URL}/  ({THREAD})"), ("docs", f"{URL}/docs")],
        ),
        (
            {"llm_prefix": "/llm", "gateway_loop": "trio"},
            "m:a",
            {"docs": "/docs"},
            [
                ("gateway", f"m:a at {URL}/llm  (in the edge's trio loop)"),
                ("docs", f"{URL}/llm/docs"),
                ("landing", f"{URL}/"),
            ],
        ),
    ],
)
def test_mounts_are_listed_with_their_pages(
    values: dict[str, Any], gateway: str | None, links: dict[str, str], rows: list[tuple[str, str]]
) -> None:
    assert describe_mounts(Settings(**values), gateway, links, URL) == [HEALTH, *rows]


def test_a_certificate_is_named_with_its_days() -> None:
    row = describe_certificate(Path("c.pem"), ["a", "b"], "2030-01-02", 12.6)
    assert row == ("tls", "c.pem for a, b; expires 2030-01-02 (in 13 days)")


EDGE = ("/healthz, /readyz", "health (GET, HEAD)")
REST = [("/", "landing page (GET, HEAD)"), ("anything else", "404")]


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ({}, [EDGE, ("/*", "gateway auto")]),
        ({"llm_prefix": "/llm"}, [EDGE, ("/llm, /llm/*", "gateway auto"), *REST]),
        ({"no_llm": True}, [EDGE, *REST]),
        ({"no_llm": True, "llm_prefix": "/llm"}, [EDGE, *REST]),
    ],
)
def test_routes_are_listed_in_the_order_in_which_they_match(
    values: dict[str, Any], rows: list[tuple[str, str]]
) -> None:
    assert describe_routes(Settings(**values)) == rows
