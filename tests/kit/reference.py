"""The reference of all settings, made from them: `python -m tests.kit.reference` writes docs/configuration.md."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sage_edge.core.settings import GROUPS, default_of, describe, environment_variable_of, spellings_of
from tests.kit.edge import PROJECT

REFERENCE = PROJECT / "docs" / "configuration.md"
INTRODUCTION = """# Configuration

All settings. This page is generated from `sage_edge/core/setting_groups.py`, and a test keeps the two equal.

An option overrides the environment, which overrides the TOML file (`--config FILE`, or `SAGE_EDGE_CONFIG`), which
overrides the default. In the file a setting has the name of its option, with underscores. Unknown names are errors, and
all errors are reported together. `sage-edge config` prints the settings in effect and where each value comes from.
"""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def build_reference() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for group in GROUPS:
        yield f"## {group.__doc__}\n"
        for name, field in group.model_fields.items():
            yield f"### `{', '.join(spellings_of(name))}`\n"
            yield f"{describe(name)}\n"
            default = default_of(name)
            shown = (
                "none" if default in (None, ()) else str(default).lower() if isinstance(default, bool) else str(default)
            )
            yield f"- in the environment: `{environment_variable_of(name)}`; in the file: `{name}`"
            limits = " ".join(_describe_limits(field.metadata))
            yield f"- {_describe_kind(field.annotation)}{f', {limits}' if limits else ''}; default: {shown}\n"


def _describe_kind(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = " ".join(_describe_limits(parts[1:]))
        return f"{_describe_kind(parts[0])}{f', {limits}' if limits else ''}"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in {Union, UnionType}:
        return " or ".join(_describe_kind(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"{_describe_kind(parts[0])}, any number of times"
    return KINDS.get(annotation, "a path")


def _describe_limits(metadata: Any) -> Iterator[str]:
    for each in metadata:
        for bounds in [each, *getattr(each, "metadata", [])]:
            for attribute, words in {"gt": "above", "ge": "from", "le": "to"}.items():
                if (bound := getattr(bounds, attribute, None)) is not None:
                    yield f"{words} {bound:g}" if isinstance(bound, float) else f"{words} {bound}"


if __name__ == "__main__":
    REFERENCE.write_text(build_reference())
