"""Text of others, made harmless for a terminal and a page."""

from __future__ import annotations

CONTINUED = "    "
"""What the lines of a text begin with, behind its first."""


LONGEST_TEXT = 1024
"""So much of a client's text is kept and told: it chooses how long its path, method and the like are."""


def shorten(text: str) -> str:
    """A text that is no longer than `LONGEST_TEXT`, and the mark of what is left out."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def escape_unprintable(text: str) -> str:
    """The text on one line, with what moves a cursor, turns the direction of writing or cannot be seen as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def indent_lines(text: str) -> str:
    """The same of each line of a text; all but the first are indented, so that none passes for another's first."""
    if text.isprintable():
        return text
    return f"\n{CONTINUED}".join(escape_unprintable(line.expandtabs()) for line in text.split("\n"))
