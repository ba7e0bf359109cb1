"""The original's command lines and variables, word for word as its README has them."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.kit.edge import Output, clean_environment, edge_command, run_edge, running_process
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("default_port")

URL = "http://localhost:8899"

# Stands where `auto` looks first, so that what the command lines do is shown without the SAGE packages too.
GATEWAY = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = (scope["root_path"] + " " + scope["path"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

# Installed before anything else, it makes the SAGE packages and the model as if they were not there.
WITHOUT_SAGE = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sage", "sagellm_gateway", "sagellm_control", "sagellm_protocol", "xllamacpp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory to run in, with a gateway that `auto` finds."""
    package = tmp_path / "sage" / "llm" / "gateway"
    package.mkdir(parents=True)
    (package / "server.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture
def without_sage(tmp_path: Path) -> dict[str, str]:
    """Variables of an environment where no gateway is installed."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_SAGE)
    return {"PYTHONPATH": str(tmp_path)}


@contextmanager
def running(command: str, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[tuple[Output, Output]]:
    """A shell command that serves on port 8899, once it is ready."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = shutil.which("sh") or "/bin/sh"
    environment = clean_environment({"PATH": search, **(env or {})})
    with running_process([shell, "-c", f"exec {command}"], cwd=cwd, env=environment) as (process, output, log):
        output.wait_for("health  ")
        wait_until_ready(log)
        yield output, log
        process.terminate()
        assert process.wait(30) == 0


def wait_until_ready(log: Output) -> None:
    assert eventually(lambda: ask("/readyz").status_code == 200), f"not ready:\n{log.text}"


def ask(path: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return client.get(URL + path)


def assert_healthy(*, is_mounted: bool, prefix: str) -> None:
    seed = {"status": "ok", "service": "SAGE Edge", "llm_mounted": is_mounted, "llm_prefix": prefix}
    assert ask("/healthz").json() == seed
    readiness = ask("/readyz").json()
    assert {key: readiness[key] for key in seed} == {**seed, "status": "ready"}


@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("sage-edge --port 8899", "/"),
        ("sage-edge --port 8899 --llm-prefix /llm", "/llm"),
        ("sage-edge \\\n  --host 0.0.0.0 \\\n  --port 8899 \\\n  --log-level warning", "/"),
        ("sage-edge \\\n  --port 8899 \\\n  --llm-prefix /api/llm", "/api/llm"),
        ("sage-edge \\\n  --port 8899 \\\n  --log-level debug", "/"),
        ("sage-edge", "/"),
    ],
    ids=["default usage", "custom prefix", "production", "multi-service", "development", "no options"],
)
def test_command_lines_that_mount_the_gateway(gateway: Path, command: str, prefix: str) -> None:
    root = prefix.rstrip("/")
    with running(command, gateway) as (output, log):
        assert ask(f"{root}/v1/models").text == f"{root} {root}/v1/models"
        assert_healthy(is_mounted=True, prefix=prefix)
        assert f"sage.llm.gateway.server:app at {URL}{prefix}" in output.text
        if root:
            assert ask("/v1/models").status_code == 404
    assert ("[info]" in log.text) is ("warning" not in command)
    assert ("[debug]" in log.text) is ("debug" in command)


def test_without_llm_gateway_none_need_be_installed(tmp_path: Path, without_sage: dict[str, str]) -> None:
    with running("sage-edge --port 8899 --no-llm", tmp_path, without_sage):
        assert_healthy(is_mounted=False, prefix="/")
        assert ask("/v1/models").status_code == 404


def test_a_gateway_that_is_not_installed_names_the_command_that_installs_it(
    tmp_path: Path, without_sage: dict[str, str]
) -> None:
    # Metrics and the page off: another edge may have their default addresses, of which a warning tells.
    off = ("--metrics-bind", "none", "--admin-bind", "none")
    result = run_edge("--host", "127.0.0.1", "--port", "0", *off, cwd=tmp_path, env=without_sage)
    assert result.returncode == 3
    error, hint = result.stderr.splitlines()
    assert error == "sage-edge: error: --gateway: no SAGE gateway is installed"
    if sys.version_info < (3, 12):
        assert hint == "sage-edge: hint: in a checkout of sage-edge: pip install '.[sagellm]'"
    else:
        assert "use Python 3.11, name another gateway with --gateway, or mount none with --no-llm" in hint


def test_environment_variables(gateway: Path) -> None:
    variables = {
        "SAGE_EDGE_HOST": "0.0.0.0",
        "SAGE_EDGE_PORT": "8899",
        "SAGE_EDGE_LLM_PREFIX": "/llm",
        "SAGE_EDGE_LOG_LEVEL": "info",
    }
    with running("sage-edge", gateway, variables):
        assert ask("/llm/v1/models").text == "/llm /llm/v1/models"
        assert_healthy(is_mounted=True, prefix="/llm")


def test_without_a_gateway_the_edge_is_ready_soon(tmp_path: Path, without_sage: dict[str, str]) -> None:
    durations = []
    for _ in range(3):
        started = time.monotonic()
        with subprocess.Popen(
            edge_command("--host", "127.0.0.1", "--port", "0", "--no-llm"),
            cwd=tmp_path,
            env=clean_environment(without_sage),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            log = Output(process.stderr)
            log.wait_for(r"\[info\] ready")
            durations.append(time.monotonic() - started)
            process.terminate()
            process.wait(30)
            log.wait_for_end()
    assert statistics.median(durations) < 10  # about 0.6 on an idle machine; this one may be busy
