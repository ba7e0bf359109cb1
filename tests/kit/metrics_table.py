"""The table of metrics in docs/metrics.md, made from the code."""

from __future__ import annotations

from pathlib import Path

from sage_edge.core.metric_families import Metrics

METRICS_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def metrics_table() -> str:
    """Every family: name, labels, meaning."""
    lines = ["| name | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for family in Metrics().families:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(lines)
