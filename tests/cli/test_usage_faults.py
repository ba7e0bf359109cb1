"""Mistakes in the command line, the environment and the file: one error, one hint, exit code 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sage_edge.cli import run


def fail(capsys: pytest.CaptureFixture[str], *arguments: str, faults: list[tuple[str, str]]) -> None:
    """Run a command line with mistakes, and see that it says these faults, as patterns of error and hint, alone."""
    code = run(arguments)
    output, errors = capsys.readouterr()
    assert code == 2, errors
    assert output == ""
    lines = errors.splitlines()
    assert len(lines) == 2 * len(faults), errors
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
        ("certs", "Missing command", "use sage-edge certs create$"),
        ("certs creat", "No such command 'creat'.*create", "use sage-edge certs create$"),
        ("certs create --nam x", "No such option: --nam .*--name", "--help"),
        ("check --no-llm --port abc", "--port: 'abc': .*integer", "SAGE_EDGE_PORT"),
        ("check --no-llm --port 99999", "--port: '99999': .*65535", "SAGE_EDGE_PORT"),
        ("check --no-llm --llm-prefix llm", "--llm-prefix: 'llm' does not start with '/'", "/llm"),
        ("check --no-llm --llm-prefix /a//b", "--llm-prefix: '/a//b' ", "--llm-prefix"),
        ("check --no-llm --bind nowhere", "--bind: 'nowhere' is not host:port", "--bind"),
        ("check --no-llm --bind nowhere", "--bind: .*unix:@NAME, fd://N, systemd or systemd:NAME", "such as"),
        (
            "check --no-llm --trusted-proxies a",
            "--trusted-proxies: 'a' does not",
            "name an address or network such as 10.0.0.0/8",
        ),
        ("check --no-llm --bind ::1:8899", "--bind: an IPv6 address is written in brackets", "--bind"),
        ("check --gateway module", "--gateway: 'module' is not module:attribute", "--gateway"),
        (
            "check --no-llm --log-level loud",
            "--log-level: 'loud': .*'debug', 'info', 'warning' or 'error'",
            "SAGE_EDGE",
        ),
        ("check --no-llm --drain-seconds 0", "--drain-seconds: '0': .*greater than 0", "SAGE_EDGE_DRAIN_SECONDS"),
        ("check --no-llm --keyfile k", "--keyfile: a private key is given without a certificate", "--certfile"),
        (
            "check --no-llm --keyfile-password-file p",
            "--keyfile-password-file: a password is given without",
            "--certfile",
        ),
        ("check --no-llm --dev-tls --certfile c", "--dev-tls: a certificate is given as well", "either"),
        ("routes --client-auth required --ca-certs c", "--client-auth: client certificates need TLS", "--certfile"),
        ("routes --dev-tls --ca-certs c", "--ca-certs: client certificates are not asked for", "--client-auth"),
        ("routes --dev-tls --client-auth required", "--client-auth: required needs the CA", "--ca-certs"),
        ("check --no-llm --config none.toml", "--config: cannot read none.toml: no such file", "name an existing"),
        ("check --no-llm --config typo.toml", r"--config: typo.toml is not valid TOML: .*line 2", "toml"),
        ("check --no-llm --config binary.toml", "--config: binary.toml is not valid TOML", "toml"),
        ("check --no-llm --config unknown.toml", "unknown.toml: unknown setting 'prot'", "did you mean port?"),
        ("check --no-llm --config value.toml", "value.toml: port: 'x': .*integer", "--port"),
    ],
    ids=lambda value: value if value[:2] in {"--", "se", "sr", "ce", "ro", "ch"} and "'" not in value else "",
)
def test_a_mistake(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str,
    what: str,
    advice: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.toml").write_text("port = 1\nhost = \n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "unknown.toml").write_text("prot = 1\n")
    (tmp_path / "value.toml").write_text("port = 'x'\n")
    fail(capsys, *line.split(), faults=[(what, advice)])


def test_a_certificate_authority_that_is_missing_is_one_fault(
    capsys: pytest.CaptureFixture[str], certificates: Path
) -> None:
    options = ("--certfile", str(certificates / "cert.pem"), "--keyfile", str(certificates / "key.pem"))
    faults = [("--client-auth: required needs the CA", "--ca-certs")]
    fail(capsys, "check", "--no-llm", "--client-auth", "required", *options, faults=faults)


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
def test_a_mistake_in_the_environment(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    what: str,
    advice: str,
) -> None:
    monkeypatch.setenv(name, value)
    fail(capsys, "routes", faults=[(what, advice)])
