"""Documents that are made from the program, or quote it, say what it says."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import PROJECT
from tests.kit.reference import REFERENCE, build_reference

DOCS = PROJECT / "docs"
SCRIPTS = PROJECT / "scripts"
SAYS_ALL = {
    "only the supervisor of --workers restarts: nothing is done",
    "this machine lacks one of a host's addresses",
    "uvloop cannot be loaded, asyncio's own event loop is used",
}
"""Warnings that need no explanation."""


def test_the_reference_of_the_settings_is_that_of_the_settings() -> None:
    assert REFERENCE.read_text() == build_reference(), "python -m tests.kit.reference"


def test_every_message_that_is_explained_is_one_that_the_edge_has() -> None:
    source = "\n".join(path.read_text() for path in (PROJECT / "sage_edge").rglob("*.py"))
    headings = re.findall(r"^## .*?`([^`]+)`", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    missing = [heading for heading in headings if not all(part in source for part in heading.split(" … "))]
    assert missing == []


def test_every_warning_and_error_is_explained_unless_it_says_all_itself() -> None:
    explained = " ".join((DOCS / "troubleshooting.md").read_text().split())
    logged = {message for path in (PROJECT / "sage_edge").rglob("*.py") for message in find_problems(path.read_text())}
    assert len(logged) > 30
    assert {message for message in logged if f"`{message}" not in explained} == SAYS_ALL


def find_problems(source: str) -> Iterator[str]:
    """The messages that are logged there as warnings or errors, where they are written out."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr="warning" | "error" | "exception" | "critical"),
                args=[ast.Constant(value=str(message)), *_],
            ):
                yield message


def test_every_option_that_the_guides_name_is_one_that_the_edge_has() -> None:
    options = set(re.findall(r"(?<=[` ])--[a-z][a-z-]+", build_reference())) | {"--config", "--help"}
    for name in ("operating.md", "troubleshooting.md"):
        text = re.sub(r"```.*?```", "", (DOCS / name).read_text(), flags=re.DOTALL)
        assert set(re.findall(r"`(--[a-z][a-z-]+)", text)) <= options, name


@pytest.mark.parametrize("script", re.findall(r"^\| `(\w+)` \|", (SCRIPTS / "README.md").read_text(), re.MULTILINE))
def test_every_script_sets_up_what_it_lacks(script: str, tmp_path: Path) -> None:
    """Without an environment the first thing that it lacks is Python, where there is none: that says who looked."""
    for program in ("bash", "cat", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    environment = {"PATH": str(tmp_path), "VENV": str(tmp_path / "none")}
    done = subprocess.run([SCRIPTS / script, "demo"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "scripts/setup")
