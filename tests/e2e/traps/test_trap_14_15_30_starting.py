"""Traps 14, 15 and 30: what can be served is, and what cannot is one error that says what and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import frame_client
from tests.kit.stock import run_to_its_end

MOST_LINES = 4


def test_an_application_of_asyncio_is_served(launch: Launch) -> None:
    with launch(gateway="plain_quart:app") as server, frame_client(server) as client:
        assert client.get(b"/ok").body == b"ok"


def test_a_start_up_that_fails_is_one_error_with_its_reason(directory: Path) -> None:
    code, text = run_to_its_end(directory, gateway="failing:app")
    assert code not in {0, None}
    assert "no model is there" in text
    assert "Traceback" not in text
    assert "[info] ready" not in text


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_a_file_that_is_not_there_is_named_in_one_error(directory: Path, certificates: Path, missing: str) -> None:
    files = [directory / name if name == missing else certificates / name for name in ("cert.pem", "key.pem")]
    code, text = run_to_its_end(directory, files)
    assert code not in {0, None}
    assert missing in text
    assert len(text.splitlines()) <= MOST_LINES


def test_a_key_of_another_certificate_is_one_error(directory: Path, certificates: Path) -> None:
    key = directory / "other-key.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(key))
    code, text = run_to_its_end(directory, [certificates / "cert.pem", key])
    assert code not in {0, None}
    assert "other-key.pem" in text
    assert len(text.splitlines()) <= MOST_LINES
