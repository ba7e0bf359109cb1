"""Every command of the README works as it stands there, and its tables are true."""

from __future__ import annotations

import os
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
from sage_edge.core.budgets import REQUEST_COST_BYTES, REQUESTS_FACTOR
from sage_edge.core.configuration import read_configuration
from sage_edge.core.exchange import WINDOW_BYTES
from sage_edge.core.limits import MAX_FIELDS, RUNNING_FACTOR, STALL_PROGRESS_BYTES
from sage_edge.core.settings import Settings
from sage_edge.server.fairness import MOST_EXPIRING, STARTS
from sage_edge.server.running_applications import PATIENT_WITH
from tests.kit.edge import PROJECT, WAIT_SECONDS, Output, clean_environment, run_edge
from tests.kit.readme import README, code_blocks, commands, settings_table

RUNS_THIS = "scripts/test"
SERVES_DEMO = "scripts/serve"
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


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README.read_text()


def test_limits_are_those_of_the_code() -> None:
    text = README.read_text()
    assert f"`send` waits at {HIGH_WATER_BYTES // 1024} KiB" in text
    assert f"{STARTS} begun in a turn of the loop; {MOST_EXPIRING} whose client left" in text
    assert f"from {PATIENT_WITH} on" in text
    assert f"more than {MAX_FIELDS} fields" in text
    assert "twice as many applications that run for it" in text
    assert RUNNING_FACTOR == 2
    requests = REQUESTS_FACTOR * Settings().limits.max_buffered_bytes // REQUEST_COST_BYTES
    assert f"({REQUEST_COST_BYTES // 1024} KiB each: {requests:,} of them)" in text
    assert f"without {STALL_PROGRESS_BYTES // 1024} KiB of progress" in text
    assert f"{WINDOW_BYTES // 1024} KiB may be under way" in text
    assert f"sage-edge {__version__}\n" in text


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
