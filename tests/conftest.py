"""Fixtures that tests of every room use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

from sage_edge.server.development_certificates import create_development_certificates
from tests.kit.default_port import default_port
from tests.kit.fork_server import UNMEASURED_WORKERS

__all__ = ["default_port"]

settings.register_profile("untimed", deadline=None)  # on a busy machine any example may take long
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, cert.pem and key.pem for localhost, 127.0.0.1 and ::1."""
    directory = tmp_path_factory.mktemp("certificates")
    create_development_certificates(directory, now=datetime.now(UTC))
    return directory


@pytest.fixture(scope="module")
def unmeasured_edges() -> Iterator[None]:
    """Edges as they are run: measuring coverage makes them half as fast, which load and attacks are not about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="module")
def unmeasured_workers() -> Iterator[None]:
    """Workers as they are run, under a supervisor whose coverage is measured: that of all others is enough for them.

    It makes their starts twice as long, and tests of how workers start and end have hundreds of those.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UNMEASURED_WORKERS, "1")
        yield
