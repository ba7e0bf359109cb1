"""The model is found without importing its package, and runs without a network side."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("sagellm_protocol", reason="the SAGE gateway is published for Python 3.11 only")
pytest.importorskip("xllamacpp")

from sage_edge.demo import model
from sage_edge.demo.engine import Engine

pytestmark = pytest.mark.demo

LISTENING = "0A"


def find_listening_tcp_sockets() -> set[str]:
    """The inodes of this process's TCP sockets that listen."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    listening = {f"socket:[{row[9]}]" for row in rows if row[3] == LISTENING}
    # A descriptor can be closed between the listing and the reading: the listing's own is.
    own = {os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}  # noqa: PTH115
    return listening & own


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_loaded_model_listens_on_no_port(engine: Engine) -> None:
    assert engine.statistics.model == model.MODEL_ID
    assert find_listening_tcp_sockets() == set()


def test_the_models_package_is_not_imported() -> None:
    assert model.find_model().is_file()
    assert model.MODEL_PACKAGE not in sys.modules


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MODEL_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(ModuleNotFoundError) as caught:
        model.find_model()
    assert caught.value.name == "a_package_that_is_not_installed"
