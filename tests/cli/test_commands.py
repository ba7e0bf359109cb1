"""What each command prints and how it ends."""

from __future__ import annotations

import re
import socket
import tomllib
from pathlib import Path

import pytest

from sage_edge import __version__
from sage_edge.cli import run
from sage_edge.core.configuration import CONFIG_VARIABLE
from sage_edge.core.setting_groups import TLSSettings
from sage_edge.core.settings import GROUPS, environment_variable_of, option_of
from tests.kit.edge import run_edge, running_edge

PLAIN = "tests.kit.gateways.plain:app"
NAMES = [name for group in GROUPS for name in group.model_fields]


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends well and has nothing to say on stderr."""
    code = run(arguments)
    output, errors = capsys.readouterr()
    assert errors == ""
    assert code == 0
    return output


class TestVersionAndHelp:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert output_of(capsys, "--version") == f"sage-edge {__version__}\n"

    @pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("serve", "--help")])
    def test_help_names_every_option_with_its_variable(
        self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
    ) -> None:
        words = output_of(capsys, *arguments).split()
        for name in NAMES:
            assert option_of(name) in words
            assert f"{environment_variable_of(name)}]" in words
        assert "--config" in words
        assert f"{CONFIG_VARIABLE}]" in words

    def test_help_names_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = output_of(capsys, "--help")
        for command in ("serve", "check", "config", "routes", "probe", "certs"):
            assert f"\n  {command} " in text

    @pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("probe", "--help")])
    def test_help_has_commands_first_and_settings_by_concern(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        text = output_of(capsys, *arguments)
        commands = [] if len(arguments) > 1 else ["Commands"]
        assert re.findall(r"^(\w.*):$", text, re.MULTILINE) == [
            *commands,
            "Options",
            *(group.__doc__ for group in GROUPS),
        ]
        tls = text.partition("\nTLS:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  --([\w-]+)", tls, re.MULTILINE) == [
            name.replace("_", "-") for name in TLSSettings.model_fields
        ]

    def test_what_commands_do_is_said_whole_in_a_narrow_terminal(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        assert "..." not in output_of(capsys, "--help").partition("Commands:")[2].partition("\n\n")[0]

    def test_the_module_runs_as_the_command_does(self) -> None:
        result = run_edge("--version")
        assert (result.returncode, result.stdout, result.stderr) == (0, f"sage-edge {__version__}\n", "")


class TestServe:
    @pytest.mark.parametrize("arguments", [(), ("serve",)])
    def test_options_without_a_command_are_those_of_serve(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        result = run_edge(*arguments, "--no-llm", "--bind", "unix:none/edge.sock", cwd=tmp_path)
        assert result.returncode == 3
        assert "cannot listen on unix:none/edge.sock" in result.stderr


class TestConfig:
    def test_what_it_prints_is_a_file_that_says_the_same(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        given = [
            *("--port", "1234", "--bind", "[::1]:1", "--bind", "unix:/a b", "--certfile", 'a "b".pem', "--no-llm"),
            *("--llm-prefix", "/api/llm/", "--no-access-log", "--drain-seconds", "1.5", "--gateway", "ü.m:app"),
        ]
        printed = output_of(capsys, "config", *given)
        file = tmp_path / "edge.toml"
        file.write_text(printed)
        again = output_of(capsys, "config", "--config", str(file))
        values = tomllib.loads(printed)
        assert tomllib.loads(again) == values
        assert values["bind"] == ["[::1]:1", "unix:/a b"]
        assert values["certfile"] == ['a "b".pem']
        assert values["llm_prefix"] == "/api/llm"
        assert (values["no_llm"], values["access_log"], values["drain_seconds"]) == (True, False, 1.5)
        for name in NAMES:
            assert f"{name} " in printed

    def test_each_value_has_its_origin_and_the_nearest_wins(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "edge.toml"
        file.write_text("port = 1\nhost = 'from.file'\nlog_level = 'error'\n")
        monkeypatch.setenv(CONFIG_VARIABLE, str(file))
        monkeypatch.setenv("SAGE_EDGE_PORT", "2")
        monkeypatch.setenv("SAGE_EDGE_HOST", "from.environment")
        lines = output_of(capsys, "config", "--port", "3").splitlines()
        origins = {line.split(" ")[0]: [part.strip() for part in line.split("#")] for line in lines if " = " in line}
        assert origins["port"] == ["port = 3", "option --port"]
        assert origins["host"] == ['host = "from.environment"', "environment SAGE_EDGE_HOST"]
        assert origins["log_level"] == ['log_level = "error"', str(file)]
        assert origins["no_llm"] == ["no_llm = false", "default"]

    def test_faults_are_named_beside_what_holds(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["config", "--port", "99999"]) == 2
        output, errors = capsys.readouterr()
        assert "port = 8899" in output
        assert errors.startswith("sage-edge: error: --port: ")


class TestRoutes:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((), {"/healthz, /readyz": "health (GET, HEAD)", "/*": "gateway auto"}),
            (
                ("--llm-prefix", "/llm", "--gateway", "mine:app"),
                {
                    "/healthz, /readyz": "health (GET, HEAD)",
                    "/llm, /llm/*": "gateway mine:app",
                    "/": "landing page (GET, HEAD)",
                    "anything else": "404",
                },
            ),
            (
                ("--no-llm",),
                {
                    "/healthz, /readyz": "health (GET, HEAD)",
                    "/": "landing page (GET, HEAD)",
                    "anything else": "404",
                },
            ),
        ],
    )
    def test_table(
        self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: dict[str, str]
    ) -> None:
        lines = output_of(capsys, "routes", *arguments).splitlines()
        rows = [line.strip().split("  ", 1) for line in lines]
        assert {path: text.strip() for path, text in rows} == expected


class TestCheck:
    def test_opens_no_socket(self, capsys: pytest.CaptureFixture[str], certificates: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
            options = ("--host", "127.0.0.1", "--port", port, "--gateway", PLAIN, *tls)
            lines = output_of(capsys, "check", *options).splitlines()
        assert lines[0] == "sage-edge: everything is in order"
        assert any(f"https://127.0.0.1:{port}  (" in line for line in lines)
        assert any(f"{certificates}/cert.pem for localhost" in line for line in lines)

    def test_creates_no_development_certificate(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        output_of(capsys, "check", "--dev-tls", "--no-llm")
        assert list(tmp_path.iterdir()) == []

    def test_finds_what_serve_would(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["check", "--gateway", "no_such_module:app", "--certfile", "none.pem"]) == 3
        output, errors = capsys.readouterr()
        assert output == ""
        assert [line.partition(": ")[2] for line in errors.splitlines() if "error" in line] == [
            "error: --certfile: cannot read none.pem: no such file",
            "error: --gateway: there is no module no_such_module",
        ]


class TestProbe:
    @pytest.mark.parametrize("is_tls", [True, False])
    def test_an_edge_that_is_ready(
        self, capsys: pytest.CaptureFixture[str], certificates: Path, tmp_path: Path, is_tls: bool
    ) -> None:
        path = tmp_path / "edge.sock"
        binds = ("--bind", "127.0.0.1:0", "--bind", f"unix:{path}")
        tls = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
        given = tls if is_tls else ()
        with running_edge("--no-llm", binds=binds, certificates=certificates if is_tls else None) as edge:
            assert output_of(capsys, "probe", "--port", str(edge.port), *given) == "ready\n"
            assert output_of(capsys, "probe", "--bind", f"unix:{path}", *given) == "ready\n"

    def test_an_edge_whose_gateway_is_starting(self, capsys: pytest.CaptureFixture[str]) -> None:
        gateway = "tests.kit.gateways.faulty.lifespans:waiting"
        with running_edge("--gateway", gateway, wait_for_ready=False) as edge:
            assert run(["probe", "--port", str(edge.port)]) == 1
        output, errors = capsys.readouterr()
        assert output == ""
        assert f"sage-edge: error: the edge at 127.0.0.1:{edge.port} is starting\nsage-edge: hint: started: " in errors

    def test_nothing_listening(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        assert run(["probe", "--port", port]) == 1
        assert f"no edge answers at 127.0.0.1:{port}: connection refused" in capsys.readouterr().err


class TestCerts:
    def test_says_what_it_made_and_what_it_kept(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        arguments = ("certs", "create", "--directory", str(tmp_path), "--name", "edge.test")
        files = ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"]
        for what in ("created", "kept"):
            lines = output_of(capsys, *arguments).splitlines()
            assert [line.split("  ", 2)[2].strip() for line in lines] == [f"{tmp_path / f}  ({what})" for f in files]
        assert "(kept)" not in output_of(capsys, *arguments, "--force")

    def test_a_name_that_no_certificate_can_have(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert run(["certs", "create", "--directory", str(tmp_path), "--name", "a@b"]) == 2
        assert "error: a certificate cannot be for 'a@b'" in capsys.readouterr().err
