"""Every command of the README works as it stands there, and its tables are true."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from sage_edge import __version__
from sage_edge.app.exchange import HIGH_WATER_BYTES
from sage_edge.core.budgets import HEAD_COST_FACTOR, REQUEST_COST_BYTES, REQUESTS_FACTOR
from sage_edge.core.configuration import read_configuration
from sage_edge.core.exchange import WINDOW_BYTES
from sage_edge.core.limits import MAX_FIELDS, STALL_PROGRESS_BYTES
from sage_edge.core.settings import Settings
from sage_edge.core.supervision import GROWTH
from sage_edge.server.ending import GATEWAY_SECONDS
from sage_edge.server.fairness import MOST_EXPIRING, STARTS
from sage_edge.server.http2.budgets import REFUSALS_FACTOR
from sage_edge.server.http2.streams import EXHAUSTED_STALL_SECONDS
from sage_edge.server.running_applications import PATIENT_WITH
from tests.kit.edge import PROJECT, WAIT_SECONDS, Output, clean_environment, run_edge
from tests.kit.readme import README, code_blocks, commands, settings_table

RUNS_THIS = "scripts/test"
SERVES_DEMO = "scripts/serve"
GUIDE = PROJECT / "docs" / "operating.md"
BINARIES = Path(sys.executable).parent


def environment() -> dict[str, str]:
    """An environment in which this one's commands are found, as in an activated one."""
    return clean_environment({"PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}", "VENV": sys.prefix})


@contextmanager
def started(command: str, cwd: Path = PROJECT) -> Iterator[Output]:
    """A command that serves, once it is ready; ended by SIGTERM, after which it must exit with 0."""
    process = subprocess.Popen(
        shlex.split(command), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        output = Output(process.stdout)
        try:
            output.wait_for(r"\[info\] ready|^  landing|^  tls|^  gateway", seconds=300)
            yield output
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_SECONDS) == 0
        finally:
            process.kill()
            process.wait(WAIT_SECONDS)
            output.wait_for_end()


def run(*command: str, seconds: float = WAIT_SECONDS) -> str:
    """Run a command in the project's folder; what it prints."""
    return subprocess.run(
        command, cwd=PROJECT, env=environment(), capture_output=True, text=True, check=True, timeout=seconds
    ).stdout


def test_settings_table_is_that_of_the_settings() -> None:
    assert settings_table() in README.read_text()


def test_whoever_misses_a_setting_in_the_table_is_sent_to_all_of_them() -> None:
    _, _, section = README.read_text().partition("\n## Settings\n")
    section, _, _ = section.partition("\n## ")
    assert "[docs/configuration.md](docs/configuration.md)" in section
    (about,) = re.findall(r"Of about (\d+) settings", section)
    assert abs(len(Settings.model_fields) - int(about)) < 10


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README.read_text()


def test_every_link_leads_somewhere() -> None:
    pages = [README, *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "scripts").glob("*.md")]
    links = [
        (page, *link.partition("#")) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    ]
    inside = [
        (page, page.parent / path if path else page, anchor) for page, path, _, anchor in links if ":" not in path
    ]
    assert len(inside) > 50
    lost = [
        (page.name, f"{target.name}#{anchor}")
        for page, target, anchor in inside
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert lost == []


def anchors(page: Path) -> set[str]:
    """What its headings are called in links, as GitHub has it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_limits_are_those_of_the_code() -> None:
    limits = Settings().limits
    guide = " ".join(GUIDE.read_text().split())
    assert f"`send` waits at {HIGH_WATER_BYTES // 1024} KiB" in guide
    assert f"`--stall-seconds` ({limits.stall_seconds:g} s) without {STALL_PROGRESS_BYTES // 1024} KiB" in guide
    assert f"requests one address starts in one turn of the loop ({STARTS})" in guide
    assert f"from {PATIENT_WITH} on they are cancelled at once; at {MOST_EXPIRING} its new requests wait" in guide
    assert f"If {MOST_EXPIRING} requests of an address are still running" in guide
    assert f"a request's head ({limits.max_header_bytes // 1024} KiB), or its fields ({MAX_FIELDS})" in guide
    assert (
        f"body ({limits.max_body_bytes // 2**20} MiB), a WebSocket message ({limits.max_message_bytes // 2**20} MiB)"
        in guide
    )
    requests = REQUESTS_FACTOR * limits.max_buffered_bytes // REQUEST_COST_BYTES
    assert f"open requests of one address ({requests:,}, at {REQUEST_COST_BYTES // 1024} KiB each)" in guide
    buffered = f"({limits.max_buffered_bytes // 2**20} MiB; heads count double)"
    assert (f"bytes buffered for one address {buffered}" in guide, HEAD_COST_FACTOR) == (True, 2)
    assert f"has not read for {EXHAUSTED_STALL_SECONDS:g} s is reset" in guide
    assert (
        f"connections in all ({limits.max_connections:,}), or from one address ({limits.max_connections_per_client})"
        in guide
    )
    assert f"streams at once on a connection ({limits.max_streams})" in guide
    refusals = f"refuses with an answer ({REFUSALS_FACTOR * limits.max_resets:,})"
    assert (
        f"that are reset ({limits.max_resets} in {limits.budget_seconds:g} s), requests that the edge {refusals}"
        in guide
    )
    waits = (limits.handshake_seconds, limits.header_seconds, limits.body_seconds, limits.idle_seconds)
    assert "TLS handshake ({:g} s), head ({:g} s), body ({:g} s), idle connection ({:g} s)".format(*waits) in guide
    assert f"{WINDOW_BYTES // 1024} KiB may be under way" in guide
    assert ("growing by another quarter" in guide, GROWTH) == (True, 1.25)


def test_what_the_readme_says_of_limits_is_the_codes() -> None:
    limits = Settings().limits
    text = " ".join(README.read_text().split())
    assert (
        f"one address may have {limits.max_connections_per_client} connections, each with {limits.max_streams} streams"
        in text
    )
    assert f"{limits.max_buffered_bytes // 2**20} MiB waiting in memory" in text
    assert f"{limits.max_header_bytes // 1024} KiB of head and {limits.max_body_bytes // 2**20} MiB of body" in text
    slowness = sorted([limits.header_seconds, limits.body_seconds, limits.stall_seconds])
    assert f"cut off after {slowness[0]:g} to {slowness[-1]:g} seconds" in text
    assert f"may take {GATEWAY_SECONDS:g} seconds more" in text
    assert f"`--drain-delay-seconds` + `--drain-seconds` + {GATEWAY_SECONDS:g}." in text
    assert f"sage-edge {__version__}\n" in README.read_text()


def test_sample_configuration_is_valid(tmp_path: Path) -> None:
    (sample,) = code_blocks("toml")
    path = tmp_path / "edge.toml"
    path.write_text(sample)

    configuration = read_configuration({}, path)

    assert configuration.faults == ()
    given = {name: [value] if name.endswith("file") else value for name, value in tomllib.loads(sample).items()}
    assert configuration.settings.model_dump(include=set(given), mode="json") == given


def test_error_messages_are_as_shown(tmp_path: Path) -> None:
    (shown,) = code_blocks("console")
    command, _, expected = shown.partition("\n")

    result = run_edge(*shlex.split(command)[2:], "--no-llm", cwd=tmp_path)

    assert command.startswith("$ sage-edge ")
    assert result.stderr == expected
    assert result.returncode == 2


def labels(text: str) -> list[str]:
    """What the lines that an edge begins with are called."""
    _, _, announced = text.partition("\nsage-edge ")
    lines = announced.splitlines()[1:]
    return [line.split()[0] for line in takewhile(lambda line: line.startswith("  "), lines)]


def test_every_shell_command_is_run_by_a_test() -> None:
    served = {command.split()[0] for command in commands()}

    assert served == {RUNS_THIS, SERVES_DEMO, "curl", "pip", "sage-edge"}


@pytest.mark.demo
@pytest.mark.usefixtures("default_port")
def test_the_demo_serves_and_answers_as_shown() -> None:
    pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
    curls = [command for command in commands() if command.startswith("curl ")]
    (example,) = code_blocks("python")
    with started(SERVES_DEMO) as output:
        output.wait_for(r"\[info\] ready")
        assert labels(output.text) == labels(README.read_text())
        answers = [run(*shlex.split(curl), "--silent", "--fail") for curl in curls]
        said = run(sys.executable, "-c", example)

    health, readiness, models, chat = answers
    assert health.strip() == '{"status":"ok","service":"SAGE Edge","llm_mounted":true,"llm_prefix":"/"}'
    assert '"status":"ready"' in readiness
    assert '"SmolLM2-135M-Instruct"' in models
    assert chat.rstrip().endswith("data: [DONE]")
    assert said.strip()


@pytest.mark.usefixtures("default_port")
@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("sage-edge ")])
def test_command_lines_serve(command: str, tmp_path: Path) -> None:
    if "my_module" not in command and "--no-llm" not in command:
        pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
    (tmp_path / "my_module.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    with started(command, cwd=tmp_path) as output:
        output.wait_for(r"listening +http://0\.0\.0\.0:8899 ")
        if "warning" not in command:
            output.wait_for(r"\[info\] ready")


@pytest.mark.usefixtures("default_port")
@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("pip ")])
def test_pip_installs_from_the_checkout(command: str, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path))
    python = str(tmp_path / "bin" / "python")
    run(python, "-m", *shlex.split(command), "--constraint", "scripts/constraints.txt", seconds=300)

    assert run(python, "-m", "sage_edge", "--version") == f"sage-edge {__version__}\n"
    with started(f"{python} -m sage_edge --port 8899 --no-llm", cwd=tmp_path):
        pass
