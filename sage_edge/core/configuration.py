"""Reads settings from where they can come from, and reports every fault at once.

Precedence: option > environment (`SAGE_EDGE_*`) > TOML file > default. The values are read by
pydantic-settings' own sources; they are merged here, so that each value's origin is known.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from sage_edge.core.conflicts import find_conflicts
from sage_edge.core.errors import EdgeError, Fault, reason_of
from sage_edge.core.settings import (
    ENVIRONMENT_PREFIX,
    Settings,
    environment_variable_of,
    hint_of,
    option_of,
)

CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
DEFAULT_SOURCE = "default"


@dataclass(frozen=True)
class Origin:
    """Where a value came from.

    Attributes:
        source: for a person: "default", "option --port", "environment SAGE_EDGE_PORT", "edge.toml".
        label: how a fault in the value names it: "--port", "SAGE_EDGE_PORT", "edge.toml: port".
    """

    source: str
    label: str


@dataclass(frozen=True)
class Configuration:
    """What was read.

    Attributes:
        settings: the effective settings; where there are faults, with defaults for the faulty fields.
        origins: where each field's value came from.
        faults: everything that is wrong, in no particular order.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    faults: tuple[Fault, ...]

    def has_defaults(self, *names: str) -> bool:
        """Whether nobody has given any of these fields a value."""
        return all(self.origins[name].source == DEFAULT_SOURCE for name in names)

    def raise_faults(self) -> None:
        """Raise an EdgeError with the faults, if there are any."""
        if self.faults:
            raise EdgeError(*self.faults)


def read_configuration(options: Mapping[str, Any], config_file: Path | None = None) -> Configuration:
    """Read and check the settings, the environment's among them.

    Args:
        options: field names and values given on the command line.
        config_file: the TOML file; where None, the one `SAGE_EDGE_CONFIG` names, if any.
    """
    faults: list[Fault] = []
    if config_file is None and os.environ.get(CONFIG_VARIABLE):
        config_file = Path(os.environ[CONFIG_VARIABLE])
    values: dict[str, Any] = {}
    origins = {name: Origin(DEFAULT_SOURCE, option_of(name)) for name in Settings.model_fields}

    def take(found: Mapping[str, Any], source: str, label: str) -> None:
        for name, value in found.items():
            values[name] = value
            names = {"key": name, "option": option_of(name), "variable": environment_variable_of(name)}
            origins[name] = Origin(source.format(**names), label.format(**names))

    if config_file is not None:
        file_name = str(config_file).replace("{", "{{").replace("}", "}}")
        take(_read_toml(config_file, faults), file_name, f"{file_name}: {{key}}")
    take(EnvSettingsSource(Settings)(), "environment {variable}", "{variable}")
    faults.extend(_find_unknown_variables(os.environ))
    take(options, "option {option}", "{option}")

    settings, invalid = _validate(values, origins)
    faults.extend(invalid)
    faulty = {fault.setting for fault in faults}
    faults.extend(fault for fault in find_conflicts(settings) if not faulty & {fault.setting, *fault.involved})
    return Configuration(settings, origins, tuple(faults))


def _read_toml(path: Path, faults: list[Fault]) -> Mapping[str, Any]:
    try:
        if not path.is_file():
            # pydantic-settings passes over a file that is missing; a named one must exist.
            path.open("rb").close()
        # As it is written: called, the source takes keys in any case, and of two that differ in it drops one.
        return TomlConfigSettingsSource(Settings, path).toml_data
    except OSError as error:
        faults.append(
            Fault(f"--config: cannot read {path}: {reason_of(error)}", "name an existing TOML file", cause=error)
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(Fault(f"--config: {path} is not valid TOML: {error}", "see https://toml.io", cause=error))
    return {}


def _find_unknown_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    known = {CONFIG_VARIABLE, *map(environment_variable_of, Settings.model_fields)}
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in known or _is_from_kubernetes(name, environ):
            continue
        rest = {candidate.removeprefix(ENVIRONMENT_PREFIX): candidate for candidate in known}
        close = get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), rest, n=1)
        hint = f"did you mean {rest[close[0]]}?" if close else "unset it"
        yield Fault(f"{name}: unknown setting in the environment", hint)


def _is_from_kubernetes(name: str, environ: Mapping[str, str]) -> bool:
    """Kubernetes injects SAGE_EDGE_SERVICE_HOST, SAGE_EDGE_PORT_8899_TCP, ... where a Service is called sage-edge."""
    rest = name.removeprefix(ENVIRONMENT_PREFIX)
    return ENVIRONMENT_PREFIX + "SERVICE_HOST" in environ and rest.startswith(("SERVICE_", "PORT_"))


def _validate(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> tuple[Settings, list[Fault]]:
    """The settings, with faulty values left at their defaults, and a fault for each of those."""
    # Not left to pydantic: some names with an underscore are parameters of BaseSettings itself.
    known = {name: value for name, value in values.items() if name in Settings.model_fields}
    faults = [_explain_unknown(name, origins[name].source) for name in values if name not in known]
    try:
        return Settings(**known), faults
    except ValidationError as error:
        details = {str(detail["loc"][0]): detail for detail in reversed(error.errors())}
    faults.extend(_explain(name, detail, known[name], origins) for name, detail in details.items())
    return Settings(**{name: value for name, value in known.items() if name not in details}), faults


def _explain_unknown(name: str, file_name: str) -> Fault:
    close = get_close_matches(name.lower().replace("-", "_"), Settings.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else "remove it"
    return Fault(f"{file_name}: unknown setting {name!r}", hint)


def _explain(name: str, detail: ErrorDetails, value: object, origins: Mapping[str, Origin]) -> Fault:
    hint = f"{option_of(name)} or {environment_variable_of(name)}: {hint_of(name)}"
    if isinstance(value, str) and value.startswith("tcp://"):
        hint = "Kubernetes set this for a Service called sage-edge; set enableServiceLinks: false in the pod"
    if detail["type"] == "value_error":
        reason = str(detail["ctx"]["error"])
    else:
        message = detail["msg"]
        reason = f"{value!r}: {message[0].lower()}{message[1:]}"
    return Fault(f"{origins[name].label}: {reason}", hint, setting=name)
