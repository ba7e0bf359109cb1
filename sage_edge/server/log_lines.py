"""How a log line looks, as text or as JSON. What becomes a line, and where lines go, is `server.logs`.

The text is what `structlog.dev.ConsoleRenderer` makes of the same fields, for a fraction of its cost: each request has
a line.
"""

from __future__ import annotations

import re

from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer
from structlog.typing import EventDict

from sage_edge.core.printable import CONTINUED, escape_unprintable, indent_lines

_is_plain = re.compile(r"[!#-&(-<>-~]*").fullmatch
"""Whether a text is shown as it is: ASCII that can be seen, without quotes and equals signs. Most are."""
_is_quoted = re.compile(r"[ =\"']").search
"""Whether a text might pass for two fields, or for no text."""
_BLOCKS = ("stack", "exception")
"""The fields that are told below the line."""
_SEPARATOR = f"\n\n{'=' * 79}\n"

render_json = JSONRenderer()
"""Makes one object a line. A processor of structlog's, the last."""


class TextRenderer:
    """Makes lines for people: time, level, what happened, who says so, and the other fields as they come.

    Nothing of a name or value is for a terminal to obey, or looks like a line of its own.

    Args:
        has_colors: whether they are for a terminal.
    """

    def __init__(self, *, has_colors: bool) -> None:
        style = ConsoleRenderer.get_default_column_styles(has_colors)
        reset = style.reset
        self._timestamp = style.timestamp, reset
        self._levels = {
            name: (f"[{color}{style.bright}", f"{reset}]")
            for name, color in ConsoleRenderer.get_default_level_styles(has_colors).items()
        }
        self._other_level = "[", f"{reset}]"
        self._event = style.bright, reset
        self._logger = f"[{reset}{style.bright}{style.logger_name}", f"{reset}]{reset}"
        self._key, self._equals, self._reset = style.kv_key, f"{reset}={style.kv_value}", reset

    def __call__(self, _: object, __: str, fields: EventDict) -> str:
        """The line, without its end. A processor of structlog's, the last; the fields are used up."""
        blocks = [f"\n{CONTINUED}{_indent(text)}" for name in _BLOCKS if (text := fields.pop(name, None)) is not None]
        parts = []
        if "timestamp" in fields:
            parts.append(_escape(fields.pop("timestamp")).join(self._timestamp))
        if "level" in fields:
            level = _escape(fields.pop("level"))
            parts.append(level.join(self._levels.get(level, self._other_level)))
        if "event" in fields:
            parts.append(_indent(fields.pop("event")).join(self._event))
        if "logger" in fields:
            parts.append(_escape(fields.pop("logger")).join(self._logger))
        key, equals, reset = self._key, self._equals, self._reset
        for name, value in fields.items():
            shown = value if type(value) is str and _is_plain(value) else _show(value)
            # A name may be a client's, too: a gateway may log the keys of a body.
            parts.append(f"{key}{name if name.isidentifier() else _show(name)}{equals}{shown}{reset}")
        return " ".join(filter(None, parts)).rstrip(" ") + _SEPARATOR.join(blocks)


def _show(value: object) -> str:
    if not isinstance(value, str):
        return escape_unprintable(repr(value))
    shown = escape_unprintable(value)
    return repr(shown) if _is_quoted(shown) else str(shown)


def _escape(value: object) -> str:
    return escape_unprintable(str(value))


def _indent(value: object) -> str:
    return indent_lines(str(value).rstrip("\n"))
