"""Settings as a command's options: each setting, written once in `core.settings`, becomes one.

What a command does with the configuration that they make belongs to `cli`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sage_edge.core.configuration import CONFIG_VARIABLE, Configuration, read_configuration
from sage_edge.core.settings import (
    GROUPS,
    default_of,
    describe,
    environment_variable_of,
    spellings_of,
)


def with_settings(command: Callable[[Configuration], None]) -> Callable[..., None]:
    """A command that takes every setting as an option, and gets the configuration they make."""

    def with_options(config: Path | None, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None and value != []}
        configuration = read_configuration(given, config)
        from sage_edge.server.logs import configure_logs

        configure_logs(configuration.settings.log_level, configuration.settings.log_format)
        command(configuration)

    with_options.__doc__ = command.__doc__
    with_options.__signature__ = inspect.Signature(list(_option_parameters()))  # type: ignore[attr-defined]
    return with_options


def _option_parameters() -> Iterator[inspect.Parameter]:
    config_help = f"TOML file with settings, named as here with underscores. [env: {CONFIG_VARIABLE}]"
    config = typer.Option("--config", metavar="FILE", help=config_help)
    yield _parameter("config", Path | None, config)
    for group in GROUPS:
        for name, field in group.model_fields.items():
            default = default_of(name)
            note = f"[env: {environment_variable_of(name)}]"
            if default not in {None, ()}:
                note += f" [default: {str(default).lower() if isinstance(default, bool) else default}]"
            info = typer.Option(
                "/".join(spellings_of(name)),
                help=f"{describe(name)} {note}",
                metavar=_metavar(name, field.annotation),
                show_default=False,
            )
            kind: Any = bool if field.annotation is bool else list[str] if default == () else str
            yield _parameter(name, kind | None, info)


def _parameter(name: str, annotation: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, info])


def _metavar(name: str, annotation: Any) -> str | None:
    if annotation is bool:
        return None
    if annotation in {Path | None, tuple[Path, ...]}:
        return "FILE"
    return name.rpartition("_")[2].upper()
