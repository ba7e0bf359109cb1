"""What a query of Prometheus asks for: its series, and every label it mentions. Reads words, checks no grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<range>\[[^\]]*\])
    |(?P<number>[0-9.]+[a-z0-9]*)
    |(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<sign>=~|!~|!=|>=|<=|==|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


@dataclass(frozen=True)
class Query:
    """What a query mentions.

    Attributes:
        selected: each series' name, with the labels in its braces.
        grouped: the labels that it is grouped or joined by.
    """

    selected: tuple[tuple[str, frozenset[str]], ...]
    grouped: frozenset[str]


def read_query(text: str) -> Query:
    """Read a query.

    Raises:
        ValueError: it has a character that no query has.
    """
    words = list(_split(text))
    selected: list[tuple[str, frozenset[str]]] = []
    grouped: set[str] = set()
    position = 0
    while position < len(words):
        kind, word = words[position]
        after = words[position + 1][1] if position + 1 < len(words) else ""
        position += 1
        if kind != "name" or word.lower() in _OPERATORS:
            continue
        if word in _GROUPING:
            names, position = _read_list(words, position, "(", ")")
            grouped |= set(names)
        elif after == "{":
            labels, position = _read_list(words, position, "{", "}")
            selected.append((word, frozenset(labels)))
        elif after != "(" and after not in _GROUPING:
            selected.append((word, frozenset()))
    return Query(tuple(selected), frozenset(grouped))


def _split(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None:
            raise ValueError(f"{text[position:]!r} is no part of a query")
        if match.lastgroup != "space":
            yield str(match.lastgroup), match[0]
        position = match.end()


def _read_list(words: list[tuple[str, str]], position: int, opening: str, closing: str) -> tuple[list[str], int]:
    """The names in brackets, and where it goes on; none where there are no brackets."""
    if position == len(words) or words[position][1] != opening:
        return [], position
    names = []
    while words[position][1] != closing:
        if words[position][0] == "name":
            names.append(words[position][1])
        position += 1
    return names, position + 1
