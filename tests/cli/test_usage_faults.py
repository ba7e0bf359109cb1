"""Mistakes in the command line, the environment and the file: one error, one hint, exit code 2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kit.edge import run_edge


def fail(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path, faults: list[tuple[str, str]]) -> None:
    """Run a command line with mistakes, and see that it says these faults, as patterns of error and hint, alone."""
    result = run_edge(*arguments, env=env, cwd=cwd)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2 * len(faults), result.stderr
    for error, hint, (what, advice) in zip(lines[::2], lines[1::2], faults, strict=True):
        assert re.search(f"^sage-edge: error: {what}", error), error
        assert hint.startswith("sage-edge: hint: "), hint
        assert re.search(advice, hint), hint


@pytest.mark.parametrize(
    ("line", "what", "advice"),
    [
        ("--prot 1", "No such option: --prot .*--port", "--help"),
        ("serve --prot 1", "No such option: --prot .*--port", "--help"),
        ("srve", "No such command 'srve'.*serve", "--help"),
        ("serve extra", "Got unexpected extra argument", "--help"),
        ("--port", "Option '--port' requires an argument", "--help"),
        ("certs", "Missing command", "--help"),
        ("certs create --nam x", "No such option: --nam .*--name", "--help"),
        ("--no-llm --port abc", "--port: 'abc': .*integer", "SAGE_EDGE_PORT"),
        ("--no-llm --port 99999", "--port: '99999': .*65535", "SAGE_EDGE_PORT"),
        ("--no-llm --llm-prefix llm", "--llm-prefix: 'llm' does not start with '/'", "/llm"),
        ("--no-llm --llm-prefix /a//b", "--llm-prefix: '/a//b' ", "--llm-prefix"),
        ("--no-llm --bind nowhere", "--bind: 'nowhere' is not host:port", "--bind"),
        ("--no-llm --bind ::1:8899", "--bind: an IPv6 address is written in brackets", "--bind"),
        ("--gateway module", "--gateway: 'module' is not module:attribute", "--gateway"),
        ("--no-llm --log-level loud", "--log-level: 'loud': .*'debug', 'info', 'warning' or 'error'", "SAGE_EDGE"),
        ("--no-llm --drain-seconds 0", "--drain-seconds: '0': .*greater than 0", "SAGE_EDGE_DRAIN_SECONDS"),
        ("--no-llm --keyfile k", "--keyfile: a private key is given without a certificate", "--certfile"),
        ("--no-llm --keyfile-password-file p", "--keyfile-password-file: a password is given without", "--certfile"),
        ("--no-llm --dev-tls --certfile c", "--dev-tls: a certificate is given as well", "either"),
        ("routes --client-auth required --ca-certs c", "--client-auth: client certificates need TLS", "--certfile"),
        ("routes --dev-tls --ca-certs c", "--ca-certs: client certificates are not asked for", "--client-auth"),
        ("routes --dev-tls --client-auth required", "--client-auth: required needs the CA", "--ca-certs"),
        ("--no-llm --config none.toml", "--config: cannot read none.toml: no such file", "name an existing"),
        ("--no-llm --config typo.toml", r"--config: typo.toml is not valid TOML: .*line 2", "toml"),
        ("--no-llm --config binary.toml", "--config: binary.toml is not valid TOML", "toml"),
        ("--no-llm --config unknown.toml", "unknown.toml: unknown setting 'prot'", "did you mean port?"),
        ("--no-llm --config value.toml", "value.toml: port: 'x': .*integer", "--port"),
    ],
    ids=lambda value: value if value[:2] in {"--", "se", "sr", "ce", "ro"} and "'" not in value else "",
)
def test_a_mistake(tmp_path: Path, line: str, what: str, advice: str) -> None:
    (tmp_path / "typo.toml").write_text("port = 1\nhost = \n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "unknown.toml").write_text("prot = 1\n")
    (tmp_path / "value.toml").write_text("port = 'x'\n")
    fail(*line.split(), cwd=tmp_path, faults=[(what, advice)])


def test_a_certificate_authority_that_is_missing_is_one_fault(tmp_path: Path, certificates: Path) -> None:
    options = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    faults = [("--client-auth: required needs the CA", "--ca-certs")]
    fail("--no-llm", "--client-auth", "required", *options, cwd=tmp_path, faults=faults)


@pytest.mark.parametrize(
    ("name", "value", "what", "advice"),
    [
        ("SAGE_EDGE_PROT", "1", "SAGE_EDGE_PROT: unknown setting in the environment", "did you mean SAGE_EDGE_PORT?"),
        ("SAGE_EDGE_XYZZY", "1", "SAGE_EDGE_XYZZY: unknown setting in the environment", "unset it"),
        ("SAGE_EDGE_LOG_LEVEL", "loud", "SAGE_EDGE_LOG_LEVEL: 'loud'", "--log-level"),
        ("SAGE_EDGE_PORT", "tcp://10.0.0.1:8899", "SAGE_EDGE_PORT: 'tcp://", "enableServiceLinks: false"),
        ("SAGE_EDGE_CONFIG", "none.toml", "--config: cannot read none.toml", "name an existing"),
        ("SAGE_EDGE_NO_LLM", "perhaps", "SAGE_EDGE_NO_LLM: 'perhaps'", "--no-llm"),
    ],
)
def test_a_mistake_in_the_environment(tmp_path: Path, name: str, value: str, what: str, advice: str) -> None:
    fail("routes", cwd=tmp_path, env={name: value}, faults=[(what, advice)])
