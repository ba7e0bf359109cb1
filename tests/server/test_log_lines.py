"""Log lines look as structlog's own renderer shows the same fields, whatever is in them and whichever way they take."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.app.access_log import ACCESS_LOG
from sage_edge.core.printable import CONTINUED, escape_unprintable, indent_lines
from sage_edge.server.log_lines import TextRenderer
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.logs import configure_logs
from tests.kit.restored_logging import restored_logging


class Kind(StrEnum):
    """Text that is more than text."""

    PLAIN = "plain"
    SPACED = "with space"


TEXTS = st.text(st.sampled_from("ab/%é =\"'\\\t\n\r\x1b\u2028\u202e\udc80")) | st.text()
VALUES = (
    TEXTS
    | st.integers()
    | st.floats()
    | st.none()
    | st.booleans()
    | st.binary()
    | st.lists(TEXTS)
    | st.sampled_from(Kind)
)
FIELDS = st.fixed_dictionaries(
    {"event": TEXTS},
    optional={
        "timestamp": TEXTS,
        "level": st.sampled_from(["debug", "info", "warning", "error", "critical", "level 15"]),
        "logger": TEXTS,
        "stack": TEXTS,
        "exception": TEXTS,
        **dict.fromkeys(["path", "status", "request_id", "a key"], VALUES),
    },
)


def render_as_structlog_does(fields: dict[str, Any], *, has_colors: bool) -> str:
    """The same line by structlog's renderer, of values made harmless before."""
    for name, value in fields.items():
        if not isinstance(value, str):
            continue
        if name in {"event", "stack", "exception"}:
            first = "" if name == "event" else CONTINUED
            fields[name] = first + indent_lines(value.rstrip("\n"))
        else:
            fields[name] = escape_unprintable(value)
    renderer = structlog.dev.ConsoleRenderer(colors=has_colors, pad_event_to=0, pad_level=False, sort_keys=False)
    return str(renderer(None, "info", fields))


@pytest.mark.parametrize("has_colors", [False, True])
@given(fields=FIELDS)
def test_a_line_of_text_is_what_structlog_makes_of_it(has_colors: bool, fields: dict[str, Any]) -> None:
    line = TextRenderer(has_colors=has_colors)(None, "info", dict(fields))
    assert line == render_as_structlog_does(dict(fields), has_colors=has_colors)


@pytest.fixture
def restored() -> Iterator[None]:
    """Undo what `configure_logs` does to the process."""
    with restored_logging():
        yield


class Listener(logging.Handler):
    """Someone else who wants every line."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one."""
        self.records.append(record)


def without_time(line: str) -> str:
    shown, count = re.subn(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", line)
    assert count == 1
    return shown


REQUEST = {
    "client": "192.0.2.1",
    "path": '/a b\x1b[31m\u00e9?x="1"',
    "status": 200,
    "duration_ms": 0.3,
    "request_id": "its own",
}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("line_format", ["text", "json"])
def test_the_access_log_takes_a_short_way_unless_someone_else_listens(
    tmp_path: Path, line_format: Literal["text", "json"]
) -> None:
    path = tmp_path / "log"
    writer = LogWriter(path)
    writer.start()
    configure_logs("info", line_format, writer)
    log, listener = structlog.get_logger(ACCESS_LOG), Listener()
    with structlog.contextvars.bound_contextvars(worker=2, request_id="another"):
        log.info("request", **REQUEST)
        assert not listener.records
        for listened_at in (logging.getLogger(), logging.getLogger(ACCESS_LOG)):
            listened_at.addHandler(listener)
            log.info("request", **REQUEST)
            listened_at.removeHandler(listener)
        log.info("request", **REQUEST)
        logging.getLogger(ACCESS_LOG).addFilter(drop := lambda record: False)
        log.info("request", path="filtered out")
        logging.getLogger(ACCESS_LOG).removeFilter(drop)
    writer.close()
    assert len(listener.records) == 2
    lines = [without_time(line) for line in path.read_text().splitlines()]
    assert len(lines) == 4
    assert len(set(lines)) == 1
    assert "its own" in lines[0]
    assert "worker" in lines[0]
    assert "another" not in lines[0]


@pytest.mark.usefixtures("restored")
def test_a_warning_of_the_access_log_is_a_problem_as_any_other(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.start()
    configure_logs("info", "text", writer)
    structlog.get_logger(ACCESS_LOG).warning("odd")
    writer.close()
    assert [problem.text for problem in writer.problems.latest] == ["odd"]


@pytest.mark.usefixtures("restored")
def test_of_a_line_that_is_not_wanted_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.start()
    monkeypatch.setattr(TextRenderer, "__call__", lambda *_: pytest.fail("rendered"))
    configure_logs("warning", "text", writer)
    structlog.get_logger(ACCESS_LOG).info("request", **REQUEST)
    writer.close()
    assert (tmp_path / "log").read_text() == ""
