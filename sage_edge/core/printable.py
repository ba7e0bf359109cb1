"""Text of others, made harmless for a terminal and a page."""

from __future__ import annotations

LINE_BREAKS = "\n\t"


def escape_unprintable(text: str) -> str:
    """The text with what moves a cursor, turns the direction of writing or cannot be seen as escapes.

    Line feeds and tabs stay: whoever writes lines knows what to do with them.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in LINE_BREAKS else char.encode("unicode_escape").decode() for char in text
    )
