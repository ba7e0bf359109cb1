"""Where settings come from, which source wins, and how all that is wrong is reported at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sage_edge.core.configuration import Configuration, Origin, read_configuration
from sage_edge.core.errors import EdgeError
from sage_edge.core.settings import Settings, environment_variable_of, hint_of, option_of

# For every setting three valid values, as option, environment and file give them; none is the default.
VALUES: dict[str, tuple[Any, str, Any]] = {
    "host": ("option", "environment", "file"),
    "port": (1, "2", 3),
    "bind": (("a:1",), "a:2,b:2", ["a:3", "b:3"]),
    "reuse_port": (True, "true", True),
    "trusted_proxies": (("10.0.0.1",), "10.0.0.2,unix", ["10.0.0.3", "10.0.0.0/24"]),
    "proxy_protocol": (True, "true", True),
    "certfile": ((Path("option"),), "environment,second", ["file", "second"]),
    "keyfile": ((Path("option"),), "environment,second", "file"),
    "keyfile_password_file": (Path("option"), "environment", "file"),
    "dev_tls": (True, "true", True),
    "ca_certs": (Path("option"), "environment", "file"),
    "tls_min": ("1.3", "1.3", "1.3"),
    "client_auth": ("optional", "required", "optional"),
    "redirect_http": (1, "2", "systemd:file"),
    "public_port": (1, "2", 3),
    "hsts_seconds": (0, "2", 3),
    "gateway": ("option:a", "environment:a", "file:a"),
    "gateway_loop": ("asyncio", "trio", "asyncio"),
    "llm_prefix": ("/option", "/environment", "/file"),
    "no_llm": (True, "1", True),
    "startup_seconds": (1.0, "2", 3),
    "cancel_grace_seconds": (4.0, "2", 3),
    "max_connections": (1, "2", 3),
    "sse_heartbeat_seconds": (1.0, "2", 3.5),
    "max_connections_per_client": (1, "2", 3),
    "max_streams": (1, "2", 3),
    "max_header_bytes": (2048, "4096", 8192),
    "max_body_bytes": (1, "2", 3),
    "max_message_bytes": (1, "2", 3),
    "max_buffered_bytes": (2_097_152, "4194304", 8_388_608),
    "stream_window_bytes": (65_535, "65536", 65_537),
    "connection_window_bytes": (65_535, "65536", 65_537),
    "handshake_seconds": (1.0, "2", 3.5),
    "header_seconds": (1.0, "2", 3.5),
    "body_seconds": (1.0, "2", 3.5),
    "idle_seconds": (1.0, "2", 3.5),
    "stall_seconds": (1.0, "2", 3.5),
    "budget_seconds": (1.0, "2", 3.5),
    "max_resets": (1, "2", 3),
    "max_pings": (1, "2", 3),
    "max_settings": (1, "2", 3),
    "max_priorities": (1, "2", 3),
    "max_empty_frames": (1, "2", 3),
    "max_window_updates": (1, "2", 3),
    "log_level": ("debug", "WARNING", "error"),
    "log_format": ("json", "json", "json"),
    "log_file": (Path("option"), "environment", "file"),
    "access_log": (False, "no", False),
    "access_log_query": (True, "yes", True),
    "admin_bind": ("none", "a:2", "unix:/file"),
    "metrics_bind": ("none", "a:2", "unix:/file"),
    "tracing": (True, "yes", True),
    "drain_delay_seconds": (1.0, "2", 3.5),
    "drain_seconds": (1.0, "2", 3.5),
    "workers": (1, "2", 3),
    "max_requests": (1, "2", 3),
    "max_memory_bytes": (2**20, str(2**21), 2**22),
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SAGE_EDGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge.toml"


def whats(configuration: Configuration) -> list[str]:
    return sorted(fault.what for fault in configuration.faults)


def value_of(name: str, value: object) -> object:
    return getattr(Settings(**{name: value}), name)  # type: ignore[arg-type]


def test_every_setting_is_tried_below() -> None:
    assert set(VALUES) == set(Settings.model_fields)
    for name, values in VALUES.items():
        assert value_of(name, values[0]) != Settings.model_fields[name].default


@pytest.mark.parametrize("name", VALUES)
def test_an_option_wins_over_the_environment_over_the_file_over_the_default(
    name: str, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    option, environment, in_file = VALUES[name]
    default = Settings.model_fields[name].default
    variable = environment_variable_of(name)

    def check(configuration: Configuration, value: object, origin: Origin) -> None:
        assert getattr(configuration.settings, name) == value
        assert configuration.origins[name] == origin
        others = [configuration.origins[other].source for other in VALUES if other != name]
        assert others == ["default"] * len(others)

    check(read_configuration({}), default, Origin("default", option_of(name)))
    file.write_text(f"{name} = {json.dumps(in_file)}")
    check(read_configuration({}, file), value_of(name, in_file), Origin(str(file), f"{file}: {name}"))
    monkeypatch.setenv(variable, environment)
    check(read_configuration({}, file), value_of(name, environment), Origin(f"environment {variable}", variable))
    options = {name: option}
    check(read_configuration(options, file), option, Origin(f"option {option_of(name)}", option_of(name)))


def test_an_option_may_be_the_default_and_still_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_EDGE_PORT", "1")
    assert read_configuration({"port": 8899}).settings.port == 8899


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_EDGE_PORT", "")
    monkeypatch.setenv("SAGE_EDGE_CONFIG", "")
    configuration = read_configuration({})
    assert configuration.settings == Settings()
    assert configuration.faults == ()


def test_the_environment_may_name_the_file(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text("port = 1")
    monkeypatch.setenv("SAGE_EDGE_CONFIG", str(file))
    configuration = read_configuration({})
    assert configuration.settings.port == 1
    assert configuration.faults == ()


def test_a_file_that_is_an_option_wins_over_the_environments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text("port = 1")
    file.write_text("host = 'a'")
    monkeypatch.setenv("SAGE_EDGE_CONFIG", str(other))
    settings = read_configuration({}, file).settings
    assert (settings.host, settings.port) == ("a", 8899)


def test_a_files_name_may_hold_braces(tmp_path: Path) -> None:
    file = tmp_path / "{key}.toml"
    file.write_text("port = -1")
    configuration = read_configuration({}, file)
    assert configuration.origins["port"] == Origin(str(file), f"{file}: port")
    assert configuration.faults[0].what.startswith(f"{file}: port: -1: ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "--config: cannot read {file}: no such file"),
        (b"port =", "--config: {file} is not valid TOML: Invalid value"),
        (b"port = '\xff'", "--config: {file} is not valid TOML: 'utf-8' codec"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault(file: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        file.write_bytes(content)
    configuration = read_configuration({}, file)
    assert len(configuration.faults) == 1
    assert configuration.faults[0].what.startswith(complaint.format(file=file))
    assert configuration.faults[0].cause is not None
    assert configuration.settings == Settings()


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert whats(read_configuration({}, tmp_path)) == [f"--config: cannot read {tmp_path}: is a directory"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("prot", "did you mean port?"),
        ("llm-prefix", "did you mean llm_prefix?"),
        ("Drain_Seconds", "did you mean drain_seconds?"),
        ("zzz", "remove it"),
        ("_cli_parse_args", "remove it"),
        ("__pydantic_self__", "remove it"),
    ],
)
def test_an_unknown_key_in_the_file_is_a_fault(file: Path, key: str, hint: str) -> None:
    file.write_text(f"{key} = 'x'\nport = 1")
    configuration = read_configuration({}, file)
    assert [(fault.what, fault.hint) for fault in configuration.faults] == [(f"{file}: unknown setting '{key}'", hint)]
    assert configuration.settings.port == 1, "the rest of the file is read"


def test_a_table_in_the_file_is_an_unknown_key(file: Path) -> None:
    file.write_text("[tls]\ncertfile = 'x'")
    assert whats(read_configuration({}, file)) == [f"{file}: unknown setting 'tls'"]


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SAGE_EDGE_PROT", "did you mean SAGE_EDGE_PORT?"),
        ("SAGE_EDGE_LLMPREFIX", "did you mean SAGE_EDGE_LLM_PREFIX?"),
        ("SAGE_EDGE_CONFG", "did you mean SAGE_EDGE_CONFIG?"),
        ("SAGE_EDGE_" + "Z" * 30, "unset it"),
    ],
)
def test_an_unknown_variable_is_a_fault(monkeypatch: pytest.MonkeyPatch, variable: str, hint: str) -> None:
    monkeypatch.setenv(variable, "x")
    configuration = read_configuration({})
    assert [(fault.what, fault.hint) for fault in configuration.faults] == [
        (f"{variable}: unknown setting in the environment", hint)
    ]


KUBERNETES = {
    "SAGE_EDGE_SERVICE_HOST": "10.0.0.1",
    "SAGE_EDGE_SERVICE_PORT": "8899",
    "SAGE_EDGE_SERVICE_PORT_HTTPS": "8899",
    "SAGE_EDGE_PORT_8899_TCP": "tcp://10.0.0.1:8899",
    "SAGE_EDGE_PORT_8899_TCP_ADDR": "10.0.0.1",
}


def test_the_variables_of_a_kubernetes_service_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    assert read_configuration({}).faults == ()


def test_the_same_names_without_a_service_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_EDGE_PORT_8899_TCP", "x")
    assert whats(read_configuration({})) == ["SAGE_EDGE_PORT_8899_TCP: unknown setting in the environment"]


def test_the_one_variable_of_kubernetes_that_is_a_setting_too_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KUBERNETES, "SAGE_EDGE_PORT": "tcp://10.0.0.1:8899"}.items():
        monkeypatch.setenv(name, value)
    faults = read_configuration({}).faults
    assert len(faults) == 1
    assert faults[0].what.startswith("SAGE_EDGE_PORT: 'tcp://10.0.0.1:8899': input should be a valid integer")
    assert "enableServiceLinks" in faults[0].hint
    assert read_configuration({"port": 1}).faults == (), "an option is the way out"


def test_all_that_is_wrong_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text("drain_seconds = 0\nprot = 1\nkeyfile = 'k'")
    monkeypatch.setenv("SAGE_EDGE_LLM_PREFIX", "llm")
    monkeypatch.setenv("SAGE_EDGE_HSOT", "x")
    configuration = read_configuration({"port": -1, "gateway": "x"}, file)
    assert whats(configuration) == [
        "--gateway: 'x' is not module:attribute, module:factory(), demo or auto",
        "--keyfile: a private key is given without a certificate",
        "--port: -1: input should be greater than or equal to 0",
        f"{file}: drain_seconds: 0: input should be greater than 0",
        f"{file}: unknown setting 'prot'",
        "SAGE_EDGE_HSOT: unknown setting in the environment",
        "SAGE_EDGE_LLM_PREFIX: 'llm' does not start with '/'",
    ]
    assert all(fault.hint for fault in configuration.faults)
    assert configuration.settings == Settings(keyfile=Path("k")), "faulty values are left at their defaults"


def test_a_setting_with_two_faults_is_reported_once() -> None:
    faults = read_configuration({"bind": (1, 2, "x")}).faults
    assert [fault.setting for fault in faults] == ["bind"]


@pytest.mark.parametrize(
    ("name", "values", "reasons"),
    [
        ("bind", ("foo", "unix:@edge", "fd://x"), ["'foo' is not host:port", "fd:// needs the number"]),
        ("trusted_proxies", ("a", "10.0.0.1", "10.0.0.1/8"), ["'a' does not appear", "10.0.0.1/8 has host bits"]),
    ],
)
def test_all_that_is_wrong_with_the_values_of_a_setting_is_told(
    name: str, values: tuple[str, ...], reasons: list[str]
) -> None:
    (what,) = whats(read_configuration({name: values}))
    told = what.partition(": ")[2].split("; ")
    assert len(told) == len(reasons)
    assert all(text.startswith(reason) for text, reason in zip(told, reasons, strict=True))


def test_the_hint_of_a_bad_value_names_both_ways_to_set_it_and_its_meaning() -> None:
    hint = read_configuration({"port": -1}).faults[0].hint
    assert hint == "--port or SAGE_EDGE_PORT: TCP port to listen on; 0 takes a free one."


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_hint_of_a_bad_value_is_one_short_sentence(name: str) -> None:
    hint = hint_of(name)
    assert len(hint) < 150
    assert ". " not in hint


def test_a_bad_value_hides_the_conflicts_of_its_own_setting() -> None:
    faults = read_configuration({"client_auth": "maybe", "keyfile": Path("k")}).faults
    assert sorted(str(fault.setting) for fault in faults) == ["client_auth", "keyfile"]


@pytest.mark.parametrize(
    ("options", "faulty"),
    [
        ({"client_auth": "require", "ca_certs": Path("ca"), "dev_tls": True}, "client_auth"),
        ({"certfile": 5, "keyfile": Path("k")}, "certfile"),
        ({"client_auth": "required", "ca_certs": 5, "dev_tls": True}, "ca_certs"),
    ],
)
def test_a_bad_value_makes_up_no_conflict_with_another_setting(options: dict[str, Any], faulty: str) -> None:
    assert [fault.setting for fault in read_configuration(options).faults] == [faulty]


def test_faults_are_raised_together_where_there_are_any() -> None:
    read_configuration({}).raise_faults()
    with pytest.raises(EdgeError) as caught:
        read_configuration({"port": -1, "host": ""}).raise_faults()
    assert len(caught.value.faults) == 2
