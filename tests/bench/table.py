"""The tables: medians, and how many times better than stock Hypercorn each server is."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.rounds import Result, Row

STOCK = ("hypercorn-trio", "hypercorn-uvloop")
_BUSY = 0.9
_DISTURBED = 0.15


@dataclass(frozen=True)
class Figure:
    """How a figure is shown, and whether more of it is better."""

    heading: str
    more_is_better: bool = False


FIGURES = {
    "rate": Figure("{unit}/s", more_is_better=True),
    "cpu": Figure("CPU s / 10,000 {unit}"),
    "memory": Figure("peak memory, MB"),
    "stream_kb": Figure("kB / stream"),
    "first_p50": Figure("first event p50, ms"),
    "first_p99": Figure("first event p99, ms"),
    "late_p99": Figure("last event late p99, ms"),
    "jitter_p50": Figure("jitter p50, ms"),
    "jitter_p99": Figure("jitter p99, ms"),
    "alone_p50": Figure("alone p50, ms"),
    "alone_p99": Figure("alone p99, ms"),
    "beside_p50": Figure("beside p50, ms"),
    "beside_p99": Figure("beside p99, ms"),
    "larges": Figure("downloads/s", more_is_better=True),
}


def ratio(result: Result, row: Row, stock: str, name: str = "") -> float | None:
    """How many times better the row is than the stock server, by one figure: the load's first if none is named."""
    name = name or result.load.figures[0]
    base = next((other.figure(name) for other in result.rows if other.server == stock), None)
    value = row.figure(name)
    if not base or not value:
        return None
    return value / base if FIGURES[name].more_is_better else base / value


def is_client_bound(row: Row) -> bool:
    """The client had no time left while the server had: the server can do more than was measured."""
    client, server = row.figure("client_busy"), row.figure("server_busy")
    return client is not None and server is not None and client > _BUSY > server


def notes(row: Row, *, rates: bool) -> str:
    """What has to be known about a row."""
    found = [f"{count:,} x {fault}" for fault, count in row.faults.most_common(3)]
    if not row.rounds:
        found = ["FAILED", *found]
    elif found:
        found = ["ERRORS", *found]
    if rates and is_client_bound(row):
        found.append("client-bound: the server can do more")
    if (others := row.figure("others_busy") or 0) > _DISTURBED:
        found.append(f"disturbed: other processes had {others:.0%} of a core")
    return "; ".join(found).replace("|", "/").replace("\n", " ")


def show(value: float | None) -> str:
    """A number with three digits or so."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(result: Result) -> str:
    """One load as a table in Markdown, its columns aligned."""
    load = result.load
    first, *rest = load.figures
    headings = [FIGURES[name].heading.format(unit=load.unit) for name in load.figures]
    by_cpu = [f"by CPU x {STOCK[0]}"] if first == "rate" else []  # is less disturbed by what else runs on a machine
    lines = [["server", headings[0], *(f"x {stock}" for stock in STOCK), *headings[1:], *by_cpu, "spread", "notes"]]
    for row in result.rows:
        spread = row.spread(first)
        lines.append(
            [
                row.server,
                show(row.figure(first)),
                *(show(ratio(result, row, stock)) for stock in STOCK),
                *(show(row.figure(name)) for name in rest),
                *(show(ratio(result, row, STOCK[0], "cpu")) for _ in by_cpu),
                "-" if spread is None else f"{spread:.0%}",
                notes(row, rates=first == "rate"),
            ]
        )
    return f"## {load.name}\n\n{load.what}\n\n{_aligned(lines)}\n"


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    last = len(widths) - 1
    text = [0, last]  # columns that are not numbers

    def cells(line: list[str]) -> str:
        padded = (
            cell.ljust(width) if column in text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * width if column in text else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return "\n".join([cells(lines[0]), f"| {' | '.join(rule)} |", *map(cells, lines[1:])])
