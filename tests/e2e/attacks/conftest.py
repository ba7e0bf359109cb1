"""Edges to be attacked.

Another client's `/healthz` stays under 250 ms at the 99th percentile: on a machine that does nothing else,
`SAGE_EDGE_ATTACK_P99_SECONDS=0.25 python -m pytest tests/e2e/attacks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.kit.attack import GATEWAY, Target, warm_up
from tests.kit.edge import running_edge

MakeTarget = Callable[..., AbstractContextManager[Target]]


@pytest.fixture(scope="module", autouse=True)
def unmeasured(unmeasured_edges: None) -> None:
    """What is shown is what an edge withstands."""


@pytest.fixture(scope="module")
def make_target(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> MakeTarget:
    """Runs an edge with options of its own."""
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "attacked.py").write_text(GATEWAY)

    @contextmanager
    def make(*options: str) -> Iterator[Target]:
        arguments = ("--gateway", "attacked:app", "--no-access-log", *options)
        with running_edge(*arguments, cwd=directory, certificates=certificates) as edge:
            yield warm_up(edge)

    return make


@pytest.fixture(scope="module")
def target(make_target: MakeTarget) -> Iterator[Target]:
    """An edge with the limits it has of itself."""
    with make_target() as running:
        yield running


@pytest.fixture
def fresh(make_target: MakeTarget) -> Iterator[Target]:
    """The same for one test alone, where memory is counted."""
    with make_target() as running:
        yield running


@pytest.fixture(scope="module")
def hasty(make_target: MakeTarget) -> Iterator[Target]:
    """An edge that waits a second for anything."""
    waits = ("--handshake-seconds", "--header-seconds", "--body-seconds", "--idle-seconds", "--stall-seconds")
    with make_target(*[part for wait in waits for part in (wait, "1")]) as running:
        yield running
