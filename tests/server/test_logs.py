"""Log lines: one format for the edge, the gateway and libraries, all on stderr."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from sage_edge.app.log_context import bind_log_fields
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.logs import configure_logs
from tests.kit.restored_logging import restored_logging

# Tests that bind fields are asynchronous: so each has a context of its own.

FORMATS: list[Literal["text", "json"]] = ["text", "json"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Undo what `configure_logs` does to the process."""
    with restored_logging():
        yield


class Terminal(io.StringIO):
    """As it would be standard error."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
    ],
    ids=str,
)
def test_a_terminal_has_colours_unless_it_or_its_user_can_do_without(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_coloured: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    configure_logs("info", "text")
    EdgeLogger("sage_edge.test").info("said")
    logging.getLogger("a.library").info("said")
    lines = terminal.getvalue().splitlines()
    assert ["\x1b[" in line for line in lines] == [is_coloured] * 2


def raise_and_log(log: Any) -> None:
    secret = "hunter2-" * 3
    try:
        raise RuntimeError(f"no room for {len(secret)}")
    except RuntimeError as error:
        log.error("failed", exc_info=error)


def log_in_every_way() -> None:
    EdgeLogger("sage_edge.test").warning("of the edge", connection=7)
    logging.getLogger("a.library").warning("of a %s", "library")
    raise_and_log(EdgeLogger("sage_edge.test"))
    raise_and_log(logging.getLogger("a.library"))


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    log_in_every_way()
    output, lines = capsys.readouterr()
    assert output == ""
    records = [json.loads(line) for line in lines.splitlines()]
    assert [(record["level"], record["logger"], record["event"]) for record in records] == [
        ("warning", "sage_edge.test", "of the edge"),
        ("warning", "a.library", "of a library"),
        ("error", "sage_edge.test", "failed"),
        ("error", "a.library", "failed"),
    ]
    assert records[0]["connection"] == 7
    assert all(datetime.fromisoformat(record["timestamp"]).tzinfo is not None for record in records)
    assert all("RuntimeError: no room for 24" in record["exception"] for record in records[2:])


def test_text_is_one_line_with_time_level_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "text")
    EdgeLogger("sage_edge.test").warning("of the edge", connection=7)
    logging.getLogger("a.library").warning("of a %s", "library")
    output, lines = capsys.readouterr()
    assert output == ""
    edge, library = lines.splitlines()
    assert edge.partition("Z ")[2] == "[warning] of the edge [sage_edge.test] connection=7"
    assert library.partition("Z ")[2] == "[warning] of a library [a.library]"
    assert "\x1b" not in lines


@pytest.mark.parametrize("line_format", FORMATS)
def test_tracebacks_show_no_values_of_variables(
    capsys: pytest.CaptureFixture[str], line_format: Literal["text", "json"]
) -> None:
    configure_logs("info", line_format)
    raise_and_log(EdgeLogger("sage_edge.test"))
    raise_and_log(logging.getLogger("a.library"))
    lines = capsys.readouterr().err
    assert lines.count("Traceback (most recent call last)") == 2
    assert "hunter2-hunter2" not in lines
    assert "╭" not in lines


@pytest.mark.parametrize("line_format", FORMATS)
@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_severe_lines_are_left_out(
    capsys: pytest.CaptureFixture[str], level: str, expected: list[str], line_format: Literal["text", "json"]
) -> None:
    configure_logs(level, line_format)
    for log in (EdgeLogger("sage_edge.test"), logging.getLogger("a.library")):
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)(f"said at {name}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("said at ")[2].split(" ")[0].split('"')[0] for line in lines] == expected * 2


@pytest.mark.parametrize("line_format", FORMATS)
def test_a_value_with_line_ends_makes_no_line_of_its_own(
    capsys: pytest.CaptureFixture[str], line_format: Literal["text", "json"]
) -> None:
    configure_logs("info", line_format)
    EdgeLogger("sage_edge.test").info("request", path="/a\n2026-01-01T00:00:00Z [error] forged\x1b[31m")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "\x1b" not in line


def test_set_up_again_each_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "text")
    configure_logs("info", "json")
    logging.getLogger("a.library").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_gateway_that_configures_logging_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    logging.basicConfig(level="DEBUG", format="mine: %(message)s", stream=sys.stdout)
    logging.getLogger("gateway").info("said")
    output, lines = capsys.readouterr()
    assert output == ""
    assert json.loads(lines)["event"] == "said"


def forget_the_time(lines: str) -> list[str]:
    shown, count = re.subn(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", lines)
    assert count == len(shown.splitlines())
    return shown.splitlines()


@pytest.mark.parametrize("line_format", FORMATS)
async def test_the_edges_lines_look_as_the_gateways(
    capsys: pytest.CaptureFixture[str], line_format: Literal["text", "json"]
) -> None:
    configure_logs("info", line_format)
    bind_log_fields(worker=2, request_id="the context's")
    for log in (EdgeLogger("one"), structlog.get_logger("one")):
        log.info("request", path='/a b\x1b[31m\u00e9?x="1"', status=200, request_id="its own")
    edges, gateways = forget_the_time(capsys.readouterr().err)
    assert edges == gateways
    assert "its own" in edges
    assert "worker" in edges
    assert "the context's" not in edges


@contextmanager
def written_logs(path: Path) -> Iterator[LogWriter]:
    writer = LogWriter(path)
    writer.start()
    configure_logs("info", "text", writer)
    try:
        yield writer
    finally:
        writer.close()


def test_a_gateway_that_sets_up_loggers_of_its_own_leaves_the_others_here(tmp_path: Path) -> None:
    before = logging.getLogger("a.library")
    with written_logs(tmp_path / "log") as writer:
        # It closes all handlers that there are.
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"mine": {}}})
        before.info("of a library")
        EdgeLogger("sage_edge.test").info("of the edge")
    text = (tmp_path / "log").read_text()
    assert "of a library" in text
    assert "of the edge" in text
    assert writer.dropped == 0


def test_a_gateways_level_is_not_the_edges(tmp_path: Path) -> None:
    with written_logs(tmp_path / "log") as writer:
        logging.getLogger().setLevel("ERROR")
        logging.getLogger("a.library").warning("of a library")
        EdgeLogger("sage_edge.test").warning("of the edge")
    assert "of a library" not in (tmp_path / "log").read_text()
    assert "of the edge" in (tmp_path / "log").read_text()
    assert [problem.text for problem in writer.problems.latest] == ["of the edge"]


def test_of_a_line_of_a_librarys_that_cannot_be_made_is_said_where_it_was_and_why(tmp_path: Path) -> None:
    with written_logs(tmp_path / "log") as writer:
        logging.getLogger("a.library").info("%d", "no number")
    (line,) = (tmp_path / "log").read_text().splitlines()
    said = r"\[warning\] a log line could not be formatted \[a.library\] reason=TypeError at=test_logs.py:\d+$"
    assert re.search(said, line)
    assert writer.dropped == 0, "it is not the disk's fault"
    assert [problem.text for problem in writer.problems.latest] == ["a log line could not be formatted: TypeError"]


class Unshowable:
    """Of a gateway, which may do anything when it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("on purpose")


def circle() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    return itself


@pytest.mark.parametrize(
    "message", [{"msg": "a dict"}, {"event": Unshowable()}, Unshowable()], ids=["no event", "event", "object"]
)
def test_a_warning_of_a_gateways_raises_nothing_whatever_it_is(tmp_path: Path, message: object) -> None:
    with written_logs(tmp_path / "log") as writer:
        logging.getLogger("a.gateway").warning(message)
        structlog.get_logger("a.gateway").warning("odd", reason=message)
        EdgeLogger("sage_edge.test").warning("said")
    assert "said" in (tmp_path / "log").read_text()
    texts = {problem.text for problem in writer.problems.latest}
    assert texts & {"{'msg': 'a dict'}", "a log line could not be formatted: RuntimeError"}
    assert "said" in texts


@pytest.mark.parametrize("line_format", FORMATS)
@pytest.mark.parametrize("value", [Unshowable(), {("no", "key"): 1}, circle()], ids=["repr", "key", "circle"])
def test_a_line_of_the_edges_that_cannot_be_made_raises_nothing(
    capsys: pytest.CaptureFixture[str], line_format: Literal["text", "json"], value: object
) -> None:
    configure_logs("info", line_format)
    EdgeLogger("sage_edge.test").info("said", value=value)
    (line,) = capsys.readouterr().err.splitlines()
    assert ("said" in line) != ("a log line could not be formatted" in line)


def test_a_line_that_cannot_be_put_anywhere_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", output := io.StringIO())
    configure_logs("info", "text")
    output.close()
    EdgeLogger("sage_edge.test").info("said")


class UnshowableError(Exception):
    """Of a gateway, which may do anything when it is looked at."""

    __cause__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


def test_an_error_that_cannot_be_shown_is_told_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "text")
    EdgeLogger("sage_edge.test").error("request failed", exc_info=UnshowableError())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("request failed [sage_edge.test]")
    assert lines[1:] == ["    UnshowableError, which cannot be shown"]


async def test_what_the_edge_binds_is_added_to_all_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    bind_log_fields(request_id="abc")
    logging.getLogger("a.library").info("said")
    structlog.get_logger("a.gateway").info("said")
    EdgeLogger("sage_edge.test").info("said")
    assert [json.loads(line)["request_id"] for line in capsys.readouterr().err.splitlines()] == ["abc"] * 3


async def test_a_gateway_that_clears_what_structlog_has_bound_keeps_the_edges_fields_in_its_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("info", "json")
    bind_log_fields(request_id="abc", connection=3)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id="its own")
    structlog.get_logger("a.gateway").info("said")
    logging.getLogger("a.gateway").info("said")
    for line in capsys.readouterr().err.splitlines():
        fields = json.loads(line)
        assert (fields["request_id"], fields["connection"]) == ("its own", 3)


async def test_what_a_gateway_binds_or_clears_is_not_the_edges(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    bind_log_fields(request_id="abc")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id="forged", trace_id="forged", prompt="a secret", exc_info=True)
    EdgeLogger("sage_edge.test").info("said")
    fields = json.loads(capsys.readouterr().err)
    assert fields.keys() == {"timestamp", "level", "logger", "event", "request_id"}
    assert fields["request_id"] == "abc"


def test_nothing_of_a_client_s_moves_a_cursor_or_turns_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "text")
    EdgeLogger("test").info("request failed", path="/a\x9b31m\x85b\u202e\x1bc\u00e9")
    said = capsys.readouterr().err
    assert "/a\\x9b31m\\x85b\\u202e\\x1bc\u00e9" in said
    assert said.removesuffix("\n").isprintable()


def log_as_a_client_would(log: Any) -> None:
    told = "no model x\x1b[31m\r\n2026-01-01T00:00:00Z [error] forged\u2028[error] forged"
    log.error(told)
    try:
        raise LookupError(told)
    except LookupError as error:
        log.error("failed", exc_info=error)
        try:
            raise RuntimeError(told) from error
        except RuntimeError as another:
            log.error("failed again", exc_info=another)
    log.error("failed at last", exc_info=ExceptionGroup(told, [ValueError(told)]))


def test_a_traceback_that_is_given_as_text_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "text")
    EdgeLogger("sage_edge.test").error("failed", exception="Traceback:\n  File a\nOSError: x\x1b\n")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["    Traceback:", "      File a", "    OSError: x\\x1b"]


@pytest.mark.parametrize(
    "log", [EdgeLogger("sage_edge.test"), structlog.get_logger("a.gateway"), logging.getLogger("a.gateway")]
)
def test_a_text_of_several_lines_passes_for_one_entry_only(capsys: pytest.CaptureFixture[str], log: Any) -> None:
    configure_logs("info", "text")
    log_as_a_client_would(log)
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum("forged" in line for line in lines) == 6
    entries = [line for line in lines if not line.startswith("    ")]
    assert [entry.partition("[error] ")[2].split(" [")[0] for entry in entries] == [
        "no model x\\x1b[31m\\r",
        "failed",
        "failed again",
        "failed at last",
    ]
    assert not any(line.isspace() or not line for line in entries)


def test_problems_are_remembered_without_what_is_filled_in(tmp_path: Path) -> None:
    with written_logs(tmp_path / "log") as writer:
        EdgeLogger("sage_edge.test").error("worker ended", worker=2, pid=7, reason="exit code 1")
        logging.getLogger("a.gateway").warning("no model %s", "secret")
        logging.getLogger("a.gateway").warning("a disk is 90% full")
        logging.getLogger("a.gateway").info("said")
        structlog.get_logger("a.gateway").warning("pool is full", worker=3)
    assert {(problem.text, problem.worker) for problem in writer.problems.latest} == {
        ("worker ended: exit code 1", 2),
        ("no model …", None),
        ("a disk is 90% full", None),
        ("pool is full", None),
    }
    assert "no model secret" in (tmp_path / "log").read_text()
