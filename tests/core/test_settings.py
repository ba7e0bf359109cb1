"""The settings one by one, and the sets of them that make no sense together."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sage_edge.core.bind import FileDescriptorBind, TCPBind, UnixBind
from sage_edge.core.conflicts import find_conflicts
from sage_edge.core.limits import Limits
from sage_edge.core.setting_groups import DEFAULT_METRICS_BIND
from sage_edge.core.settings import (
    GROUPS,
    BudgetSettings,
    LimitSettings,
    Settings,
    default_of,
    describe,
    environment_variable_of,
    option_of,
    spellings_of,
)

NAMES = list(Settings.model_fields)


def test_every_setting_is_in_exactly_one_group() -> None:
    assert sorted(name for group in GROUPS for name in group.model_fields) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_named_alike_everywhere_and_described_in_sentences(name: str) -> None:
    assert option_of(name) == "--" + name.replace("_", "-")
    assert environment_variable_of(name) == "SAGE_EDGE_" + name.upper()
    assert re.fullmatch(r".{10,}\.", describe(name))
    assert getattr(Settings(), name) == default_of(name)


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("port", ["--port"]),
        ("access_log", ["--access-log", "--no-access-log"]),
        ("dev_tls", ["--dev-tls", "--no-dev-tls"]),
        ("no_llm", ["--no-llm"]),
        ("max_streams", ["--max-streams"]),
    ],
)
def test_a_switch_can_be_turned_off_unless_it_is_named_for_that(name: str, spellings: list[str]) -> None:
    assert list(spellings_of(name)) == spellings


def test_the_environment_is_not_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_EDGE_PORT", "1")
    assert Settings().port == 8899


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "binds"),
    [
        ({}, (TCPBind("0.0.0.0", 8899),)),
        ({"host": "::1", "port": 0}, (TCPBind("::1", 0),)),
        ({"host": "[::1]"}, (TCPBind("::1", 8899),)),
        ({"bind": ("unix:/a", "fd://3"), "port": 1}, (UnixBind("/a"), FileDescriptorBind(3))),
        ({"bind": "localhost:1, unix:/a,"}, (TCPBind("localhost", 1), UnixBind("/a"))),
        ({"bind": ["localhost:1"]}, (TCPBind("localhost", 1),)),
        ({"bind": ""}, (TCPBind("0.0.0.0", 8899),)),
    ],
)
def test_bind_replaces_host_and_port(values: dict[str, Any], binds: tuple[Any, ...]) -> None:
    assert Settings(**values).binds == binds


@pytest.mark.parametrize(
    ("text", "setting", "mount"), [("/", "/", ""), ("/llm/", "/llm", "/llm"), ("//", "/", ""), ("/a/b", "/a/b", "/a/b")]
)
def test_the_prefix_is_normalised(text: str, setting: str, mount: str) -> None:
    settings = Settings(llm_prefix=text)
    assert (settings.llm_prefix, settings.mount_prefix) == (setting, mount)


@pytest.mark.parametrize("gateway", ["auto", "demo", "m:a", "m.n:a.b", "m:f()", "_m1:a_", "módulo:á"])
def test_gateways_that_can_be_named(gateway: str) -> None:
    assert Settings(gateway=gateway).gateway == gateway


@pytest.mark.parametrize("value", ["INFO", "Info", "info"])
def test_a_log_level_is_read_in_any_case(value: str) -> None:
    assert Settings(log_level=value).log_level == "info"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("port", -1),
        ("port", 65536),
        ("port", "http"),
        ("bind", ["localhost"]),
        ("bind", 5),
        ("certfile", 5),
        ("client_auth", "maybe"),
        ("gateway", ""),
        ("gateway", "module"),
        ("gateway", "module:"),
        ("gateway", "1m:a"),
        ("gateway", "m:a("),
        ("gateway", "m:a()()"),
        ("gateway", "m:a "),
        ("gateway_loop", "uvloop"),
        ("llm_prefix", "llm"),
        ("llm_prefix", "/a b"),
        ("startup_seconds", 0),
        ("startup_seconds", 86_401),
        ("cancel_grace_seconds", -1),
        ("drain_seconds", float("inf")),
        ("drain_seconds", float("nan")),
        ("max_connections", 0),
        ("max_connections", 2**40 + 1),
        ("max_connections", 1.5),
        ("max_connections", "many"),
        ("max_connections_per_client", -1),
        ("max_streams", 0),
        ("max_streams", 2**32),  # SETTINGS_MAX_CONCURRENT_STREAMS has 32 bits
        ("max_header_bytes", 1023),
        ("max_header_bytes", 2**20 + 1),
        ("max_body_bytes", 0),
        ("max_message_bytes", 0),
        ("max_buffered_bytes", 2**20 - 1),
        ("stream_window_bytes", 65_534),
        ("stream_window_bytes", 2**31),
        ("connection_window_bytes", 65_534),
        ("connection_window_bytes", 2**31),
        ("handshake_seconds", 0),
        ("header_seconds", -1),
        ("body_seconds", 86_401),
        ("idle_seconds", "soon"),
        ("stall_seconds", float("inf")),
        ("budget_seconds", 0),
        ("max_resets", 0),
        ("max_window_updates", 0),
        ("log_level", "loud"),
        ("log_level", 5),
        ("log_format", "xml"),
        ("access_log", "perhaps"),
    ],
)
def test_values_that_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert {detail["loc"][0] for detail in caught.value.errors()} == {name}


@pytest.mark.parametrize(
    ("values", "is_tls"), [({}, False), ({"certfile": Path("a")}, True), ({"dev_tls": True}, True)]
)
def test_connections_are_encrypted_where_there_is_a_certificate(values: dict[str, Any], is_tls: bool) -> None:
    assert Settings(**values).is_tls is is_tls


def test_the_limits_are_the_settings_of_the_same_names() -> None:
    limits = Settings(max_streams=7, stall_seconds=1.5, max_pings=3).limits
    assert (limits.max_streams, limits.stall_seconds, limits.max_pings) == (7, 1.5, 3)
    assert asdict(Settings().limits) == {field.name: default_of(field.name) for field in fields(Limits)}


def test_every_setting_of_a_limit_or_budget_limits_something() -> None:
    names = {field.name for field in fields(Limits)}
    assert names == {*LimitSettings.model_fields, *BudgetSettings.model_fields, "cancel_grace_seconds"}


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().limits.max_streams = 1  # type: ignore[misc]


def test_by_default_a_client_can_fill_a_streams_window_within_its_connections_and_its_memory() -> None:
    limits = Settings().limits
    assert limits.stream_window_bytes <= limits.connection_window_bytes <= limits.max_buffered_bytes
    assert limits.max_message_bytes <= limits.max_buffered_bytes
    assert limits.max_connections_per_client <= limits.max_connections


@pytest.mark.parametrize(
    "value",
    [-1, 65536, "65536", "", "http", "systemd", "systemd:", "systemd:80", "fd://x", "unix:a", "a:80", True, 8.5],
)
def test_plaintext_is_redirected_at_a_port_or_a_passed_socket(value: object) -> None:
    with pytest.raises(ValidationError, match=r"is not a TCP port \(0 to 65535\), fd://N or systemd:NAME"):
        Settings(redirect_http=value)  # type: ignore[arg-type]


PEM = Path("a.pem")


@pytest.mark.parametrize(
    ("values", "conflicts"),
    [
        ({}, []),
        ({"certfile": PEM}, []),
        ({"certfile": (PEM, PEM), "keyfile": PEM}, []),
        ({"certfile": PEM, "keyfile": (PEM, PEM)}, ["keyfile"]),
        ({"certfile": PEM, "tls_min": "1.3", "redirect_http": 80, "hsts_seconds": 0}, []),
        ({"tls_min": "1.3", "redirect_http": 80, "hsts_seconds": 0}, ["tls_min", "redirect_http", "hsts_seconds"]),
        ({"certfile": PEM, "redirect_http": 0, "workers": 1}, []),
        ({"certfile": PEM, "redirect_http": 80, "public_port": 443}, []),
        ({"certfile": PEM, "public_port": 443}, ["public_port"]),
        ({"certfile": PEM, "redirect_http": 8080, "port": 8080}, ["redirect_http"]),
        ({"certfile": PEM, "redirect_http": 8080, "bind": ("unix:a", "a.test:8443", "b.test:8080")}, ["redirect_http"]),
        ({"certfile": PEM, "redirect_http": 8080, "port": 8080, "bind": ("a.test:8443",)}, []),
        ({"certfile": PEM, "redirect_http": 0, "port": 0}, []),
        ({"certfile": PEM, "redirect_http": "systemd:web"}, []),
        ({"certfile": PEM, "redirect_http": "systemd:web", "bind": ("systemd", "fd://3")}, []),
        ({"certfile": PEM, "redirect_http": "systemd:web", "bind": ("systemd:web",)}, ["redirect_http"]),
        ({"certfile": PEM, "redirect_http": "fd://3", "bind": ("fd://3",)}, ["redirect_http"]),
        ({"certfile": PEM, "keyfile": PEM, "keyfile_password_file": PEM}, []),
        ({"dev_tls": True}, []),
        ({"certfile": PEM, "client_auth": "required", "ca_certs": PEM}, []),
        ({"dev_tls": True, "client_auth": "optional", "ca_certs": PEM}, []),
        ({"keyfile": PEM}, ["keyfile"]),
        ({"keyfile": PEM, "dev_tls": True}, ["keyfile"]),
        ({"keyfile_password_file": PEM}, ["keyfile_password_file"]),
        ({"dev_tls": True, "certfile": PEM}, ["dev_tls"]),
        ({"client_auth": "required", "ca_certs": PEM}, ["client_auth"]),
        ({"client_auth": "required", "certfile": PEM}, ["client_auth"]),
        ({"client_auth": "required"}, ["client_auth", "client_auth"]),
        ({"ca_certs": PEM, "certfile": PEM}, ["ca_certs"]),
        ({"reuse_port": True, "bind": ("unix:edge.sock", "localhost:0")}, []),
        ({"reuse_port": True, "bind": ("unix:edge.sock", "systemd")}, ["reuse_port"]),
        ({"certfile": PEM, "reuse_port": True, "bind": ("fd://3",), "redirect_http": 8080}, []),
        ({"certfile": PEM, "reuse_port": True, "bind": ("fd://3",), "redirect_http": "fd://4"}, ["reuse_port"]),
        ({"port": 80, "metrics_bind": "0.0.0.0:80"}, ["metrics_bind"]),
        ({"port": 80, "admin_bind": "127.0.0.1:80"}, ["admin_bind"]),
        (
            {"bind": ("unix:a", "fd://3"), "metrics_bind": "fd://3", "admin_bind": "unix:a"},
            ["metrics_bind", "admin_bind"],
        ),
        ({"metrics_bind": "a.test:80", "admin_bind": "a.test:80"}, ["admin_bind"]),
        ({"admin_bind": DEFAULT_METRICS_BIND}, ["admin_bind"]),
        ({"certfile": PEM, "redirect_http": 80, "metrics_bind": "127.0.0.1:80"}, ["metrics_bind"]),
        ({"port": 0, "metrics_bind": "0.0.0.0:0", "admin_bind": "0.0.0.0:0"}, []),
        ({"bind": ("systemd",), "metrics_bind": "systemd:metrics", "admin_bind": "none"}, []),
        ({"port": 9899}, []),
        ({"port": 9899, "reuse_port": True}, ["metrics_bind"]),
        (
            {"keyfile": PEM, "keyfile_password_file": PEM, "ca_certs": PEM},
            ["keyfile", "keyfile_password_file", "ca_certs"],
        ),
    ],
)
def test_settings_that_make_no_sense_together(values: dict[str, Any], conflicts: list[str]) -> None:
    faults = list(find_conflicts(Settings(**values)))
    assert [fault.setting for fault in faults] == conflicts
    for fault in faults:
        assert fault.setting is not None
        assert fault.what.startswith(option_of(fault.setting) + ": ")
        assert fault.hint


def test_proxies_may_be_given_one_by_one_or_in_a_list() -> None:
    entries = ("10.0.0.1", "10.1.0.0/16", "unix")
    for given in (
        entries,
        "10.0.0.1,10.1.0.0/16, unix",
        ("10.0.0.1, 10.1.0.0/16", "unix"),
        ["10.0.0.1,10.1.0.0/16,unix"],
    ):
        assert Settings(trusted_proxies=given).trusted_proxies == entries  # type: ignore[arg-type]
