"""Every metric there is: as the table of docs/metrics.md, and with values as if everything had happened."""

from __future__ import annotations

from pathlib import Path

from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Histograms

METRICS_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def metrics_table() -> str:
    """Every family: name, labels, meaning."""
    lines = ["| name | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for family in Metrics().families:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(lines)


def filled_metrics() -> Metrics:
    """Every family with two values, or one where it has no labels."""
    metrics = Metrics()
    for values in metrics._families:
        for number in (1, 2):
            labels = [f"{label} {number}" for label in values.family.labels]
            if isinstance(values, Histograms):
                values.of(*labels).observe(number / 10)
            else:
                values.add(*labels, amount=number)
    return metrics
