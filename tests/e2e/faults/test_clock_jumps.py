"""The wall clock jumps: nothing that waits, times out or drains goes by it."""

from __future__ import annotations

import ast
import os
from collections.abc import Set
from pathlib import Path

import pytest

import sage_edge
from tests.e2e.faults.gateway import numbers
from tests.e2e.observe.support import access_lines
from tests.kit.edge import running_edge

PACKAGE = Path(sage_edge.__file__).parent
LIBRARY = os.environ.get("LIBFAKETIME") or next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
YEAR_SECONDS = 365 * 24 * 3600

WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time_ns",
    "datetime.now",
    "datetime.utcnow",
    "date.today",
    "time.localtime",
}
READS_OF_THE_WALL_CLOCK = {
    "cli.py",  # a certificate's days left, as they are printed; the dates of development certificates
    "app/request_id.py",  # the first bits of a UUID of version 7
    "server/certificate_store.py",  # whether a certificate is valid
    "server/logs.py",  # when a problem that the status page shows was told
    "server/preparation.py",  # the dates of development certificates
    "server/run.py",  # a certificate's days left, in /readyz
    "server/status_listener.py",  # the same on the status page
    "server/tracing.py",  # when a span began
}
COMPUTATIONS_WITH_DATES = {
    "server/certificates.py",  # a certificate's days left
    "server/development_ca.py",  # how long development certificates are valid
}


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("jump_seconds", [YEAR_SECONDS // 12, -YEAR_SECONDS], ids=["a month on", "a year back"])
def test_no_stream_is_cut_and_nothing_ends_early_or_late(tmp_path: Path, jump_seconds: int, certificates: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    gateway = ("--gateway", "tests.e2e.faults.gateway:app")
    with (
        running_edge(*gateway, certificates=certificates, env=environment) as edge,
        edge.client() as client,
        client.stream("GET", "/count/100") as response,
    ):
        rest = response.iter_raw()
        body = next(rest)
        clock.write_text(f"{jump_seconds:+d}")
        assert body + b"".join(rest) == numbers(100)
        assert client.get("/healthz").status_code == 200  # on the connection that was idle, as it would seem, for long
        with edge.client(http2=False) as other:
            assert other.get("/count/3").content == numbers(3)
        assert client.get("/count/3").content == numbers(3)
        assert edge.stop() == 0
        months = {line[:7] for line in edge.log.text.splitlines() if line[:4].isdigit()}
        assert len(months) == 2  # the jump was seen
        durations_ms = [line["duration_ms"] for line in access_lines(edge)]
        assert len(durations_ms) >= 4
        assert all(0 <= duration_ms < 60_000 for duration_ms in durations_ms)


def test_the_wall_clock_is_read_where_a_date_is_meant_and_nowhere_else() -> None:
    assert files_that_name(WALL_CLOCKS) == READS_OF_THE_WALL_CLOCK


def test_no_wait_and_no_limit_is_computed_from_a_date() -> None:
    """However a date has come by: a moment that is some time from another is a date's own, or trio's clock has it."""
    assert files_that_name({"timedelta", "datetime.timedelta"}) == COMPUTATIONS_WITH_DATES


def files_that_name(names: Set[str]) -> set[str]:
    """The package's files that use one of some names, which an import alone is not."""
    return {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if uses(path, names)}


def uses(path: Path, names: Set[str]) -> bool:
    """Whether a file uses one of some names."""
    return any(
        ast.unparse(node) in names
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    )
