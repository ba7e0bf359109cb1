"""The parts of README.md that are made from the code, and those that a test runs."""

from __future__ import annotations

import re
from pathlib import Path

from sage_edge.core.settings import default_of, describe, environment_variable_of, spellings_of

README = Path(__file__).parents[2] / "README.md"
MOST_SET = (
    "port",
    "host",
    "bind",
    "certfile",
    "keyfile",
    "gateway",
    "llm_prefix",
    "workers",
    "drain_seconds",
    "trusted_proxies",
    "log_format",
    "metrics_bind",
)
"""What most people set, in the README's order. docs/configuration.md has all settings."""


def settings_table() -> str:
    """The settings that most people set."""
    lines = ["| option | environment | default | meaning |", "| --- | --- | --- | --- |"]
    for name in MOST_SET:
        option = ", ".join(spellings_of(name))
        default = default_of(name)
        shown = "none" if default in {None, ()} else default
        lines.append(f"| `{option}` | `{environment_variable_of(name)}` | {shown} | {describe(name)} |")
    lines.append("| `--config` | `SAGE_EDGE_CONFIG` | none | TOML file with settings. |")
    return "\n".join(lines)


def code_blocks(language: str) -> list[str]:
    """The contents of the README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The command lines of the README's shell blocks, without comments; continued lines are joined."""
    lines = "".join(code_blocks("sh")).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"\s+# .*$", "", line).strip())]
