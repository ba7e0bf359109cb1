"""`python -m tests.bench`, which is what scripts/bench runs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tests.bench import chart, report
from tests.bench.kinds import Load
from tests.bench.loads import LOADS, QUICK
from tests.bench.processes import allow_many_files
from tests.bench.rounds import compare
from tests.bench.servers import SERVERS, Server
from tests.bench.table import table

_Named = TypeVar("_Named", Load, Server)


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer loads and shorter turns: a few minutes.")] = False,
    loads: Annotated[
        str,
        typer.Option(help="Only these, separated by commas. Known: " + ", ".join(load.name for load in LOADS) + "."),
    ] = "",
    servers: Annotated[
        str,
        typer.Option(
            help="Only these, separated by commas. Known: " + ", ".join(server.name for server in SERVERS) + "."
        ),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each server has its turn.")] = 3,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="About how long a turn lasts: 3, or 1 with --quick.", show_default=False),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there, with each round.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables there.")] = None,
    chart_file: Annotated[Path | None, typer.Option("--chart", help="Draw a chart there (PNG).")] = None,
) -> None:
    """Compare the edge with its peers: the same application, certificate and loads, each server on one core."""
    chosen_loads = _chosen(LOADS, loads or (",".join(QUICK) if quick else ""), "--loads")
    default_servers = ",".join(server.name for server in SERVERS if server.is_default)
    chosen_servers = _chosen(SERVERS, servers or default_servers, "--servers")
    turn = seconds or (1.0 if quick else 3.0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended
    allow_many_files()
    header = report.circumstances(chosen_servers, rounds=rounds, seconds=turn)
    texts = [report.preface(header)]
    typer.echo(texts[0])
    results = []
    for result in compare(chosen_loads, chosen_servers, rounds=rounds, seconds=turn, say=_say):
        results.append(result)
        texts.append(table(result))
        typer.echo(texts[-1])
    if markdown:
        markdown.write_text("\n".join(texts))
    if json_file:
        json_file.write_text(json.dumps(report.as_json(header, results), indent=1) + "\n")
    if chart_file:
        chart.draw(results, chart_file)


def _chosen(known: Sequence[_Named], names: str, option: str) -> list[_Named]:
    """Those named, in the order of the names; all if none is named."""
    by_name = {each.name: each for each in known}
    wanted = names.split(",") if names else list(by_name)
    if unknown := [name for name in wanted if name not in by_name]:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; known: {', '.join(by_name)}", param_hint=option)
    return [by_name[name] for name in wanted]


def _say(line: str) -> None:
    typer.echo(line, err=True)


if __name__ == "__main__":
    typer.run(main)
