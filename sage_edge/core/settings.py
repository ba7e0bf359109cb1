"""The settings as one frozen tree, and how each is spelled.

The command line, the environment, the TOML file, `sage-edge config`, docs/configuration.md and the table in the
README are all made from the fields of `core.setting_groups`. Reading them is `core.configuration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sage_edge.core.bind import Bind, TCPBind, parse_bind
from sage_edge.core.limits import Limits
from sage_edge.core.setting_groups import (
    BudgetSettings,
    GatewaySettings,
    LifeSettings,
    LimitSettings,
    ListenSettings,
    LogSettings,
    MetricsSettings,
    ProxySettings,
    TLSSettings,
    TracingSettings,
)

ENVIRONMENT_PREFIX = "SAGE_EDGE_"


class Settings(
    ListenSettings,
    ProxySettings,
    TLSSettings,
    GatewaySettings,
    LimitSettings,
    BudgetSettings,
    LogSettings,
    MetricsSettings,
    TracingSettings,
    LifeSettings,
    BaseSettings,
):
    """All settings, checked field by field. `core.conflicts` checks them against each other."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone: `core.configuration` has merged the sources, to know each one's origin."""
        return (init_settings,)

    @property
    def limits(self) -> Limits:
        """What the connections go by."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    @property
    def redirect_binds(self) -> Sequence[Bind]:
        """Where plaintext HTTP is redirected: at a passed socket, or at the hosts that the edge listens on by TCP."""
        if self.redirect_http is None:
            return ()
        if isinstance(self.redirect_http, str):
            return (parse_bind(self.redirect_http),)
        hosts = [bind.host for bind in self.binds if isinstance(bind, TCPBind)] or [self.host.strip("[]")]
        return tuple(TCPBind(host, self.redirect_http) for host in dict.fromkeys(hosts))

    @property
    def is_redirect_shared(self) -> bool:
        """Whether another edge may answer where plaintext HTTP is redirected."""
        return self.reuse_port or isinstance(self.redirect_http, str)

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.certfile) or self.dev_tls


GROUPS: Sequence[type[BaseModel]] = tuple(base for base in Settings.__bases__ if base is not BaseSettings)
"""Settings by concern, in the order in which they are shown."""


def option_of(name: str) -> str:
    """The command-line option of a field."""
    return "--" + name.replace("_", "-")


def spellings_of(name: str) -> Sequence[str]:
    """The command-line option of a field, and the one that turns it off, if it has one."""
    option = option_of(name)
    is_switch = Settings.model_fields[name].annotation is bool and not name.startswith("no_")
    return (option, f"--no-{option[2:]}") if is_switch else (option,)


def environment_variable_of(name: str) -> str:
    """The environment variable of a field."""
    return ENVIRONMENT_PREFIX + name.upper()


def describe(name: str) -> str:
    """A field's meaning, as in `--help`."""
    return Settings.model_fields[name].description or ""


def hint_of(name: str) -> str:
    """What to do about a bad value of a field: its own hint, or else the first sentence of its meaning."""
    extra = Settings.model_fields[name].json_schema_extra
    return str(extra["hint"]) if isinstance(extra, dict) else describe(name).partition(". ")[0].removesuffix(".") + "."


def default_of(name: str) -> Any:
    """A field's default."""
    return Settings.model_fields[name].default
