"""How commands show their help, and which one is meant where none is named.

What the commands do is `cli`'s, which options they take `options`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from sage_edge.core.settings import GROUPS

ROOT_OPTIONS = frozenset({"--help", "-h", "--version"})


class SettingsCommand(TyperCommand):
    """A command that takes every setting; its help has them by concern."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Show them."""
        _write_options(self.get_params(ctx), ctx, formatter)


class DefaultServeGroup(TyperGroup):
    """Commands, where options without a command belong to `serve`, as in the original's command lines."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `serve` where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ROOT_OPTIONS):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Show the commands, and before the many options; those of `serve`, too."""
        self.format_commands(ctx, formatter)
        _write_options([*self.get_params(ctx), *self.commands["serve"].params], ctx, formatter)


def _write_options(parameters: Iterable[Any], context: Any, formatter: Any) -> None:
    """Write a section for each group of settings, behind one for all other options."""
    titles = {name: group.__doc__ for group in GROUPS for name in group.model_fields}
    sections: dict[str | None, list[tuple[str, str]]] = {"Options": []}
    for parameter in parameters:
        sections.setdefault(titles.get(parameter.name, "Options"), []).append(parameter.get_help_record(context))
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)
