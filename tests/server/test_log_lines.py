"""Log lines look as structlog's own renderer shows the same fields, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.app.access_log import access_log
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
    """The same line by structlog's renderer, of names and values made harmless before."""
    fields = {repr(name) if " " in name else name: value for name, value in fields.items()}
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


class Forger:
    """Looks as it likes."""

    def __repr__(self) -> str:
        return f"<a{FORGED}>"


FORGED = "\n2026-01-01T00:00:00.000000Z [info] request [sage_edge.access] status=200\x1b[2J\u202e"


def test_neither_a_name_nor_what_an_object_looks_like_passes_for_a_line_or_for_other_fields() -> None:
    fields = {"event": "unknown", f"a{FORGED}": 1, "b c=d": 2, "e.f-g": 3, "é": 4, "h": Forger(), "i": [Forger()]}
    line = TextRenderer(has_colors=False)(None, "info", fields)
    assert line.isprintable()
    shown = FORGED.encode("unicode_escape").decode()
    assert line == f"unknown {'a' + shown!r}=1 'b c=d'=2 e.f-g=3 é=4 h=<a{shown}> i=[<a{shown}>]"


@pytest.fixture
def restored() -> Iterator[None]:
    """Undo what `configure_logs` does to the process."""
    with restored_logging():
        yield


REQUEST = {
    "client": "192.0.2.1",
    "path": '/a b\x1b[31m\u00e9?x="1"',
    "status": 200,
    "duration_ms": 0.3,
    "request_id": "its own",
}


@pytest.mark.usefixtures("restored")
def test_a_warning_of_the_access_log_is_a_problem_as_any_other(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.start()
    configure_logs("info", "text", writer)
    access_log.warning("odd")
    writer.close()
    assert [problem.text for problem in writer.problems.latest] == ["odd"]


@pytest.mark.usefixtures("restored")
def test_of_a_line_that_is_not_wanted_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.start()
    monkeypatch.setattr(TextRenderer, "__call__", lambda *_: pytest.fail("rendered"))
    configure_logs("warning", "text", writer)
    access_log.info("request", **REQUEST)
    writer.close()
    assert (tmp_path / "log").read_text() == ""
