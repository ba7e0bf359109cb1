"""Ids are nobody's twice, and cost a gateway nothing, whatever it does to the random numbers that all may use."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.collector import running_collector
from tests.kit.edge import running_edge

GATEWAY = """
import json, os, random

random.seed(42)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    answer = {name.decode(): value.decode() for name, value in scope["headers"]}
    answer |= {"worker": os.getpid(), "drawn": random.random()}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""
REQUESTS = 40


def ask_two_workers(directory: Path, *options: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a gateway that seeds random numbers answers, each worker's among it."""
    (directory / "seeding.py").write_text(GATEWAY)
    answers: list[dict[str, Any]] = []
    with running_edge("--gateway", "seeding:app", "--workers", "2", *options, cwd=directory, env=env) as edge:
        edge.log.wait_for("worker ready", count=2)
        while len(answers) < REQUESTS or len({answer["worker"] for answer in answers}) < 2:
            with edge.client(http2=False) as client:  # a connection of its own, to either worker
                answers.append(client.get("/").json())
    return answers


def test_a_gateway_that_seeds_random_numbers_finds_its_sequence(tmp_path: Path) -> None:
    drawn = defaultdict(list)
    for answer in ask_two_workers(tmp_path, "--max-requests", "100000", env={}):
        drawn[answer["worker"]].append(answer["drawn"])
    seeded = random.Random(42)  # noqa: S311
    expected = [seeded.random() for _ in range(REQUESTS * 10)]
    for numbers in drawn.values():
        assert numbers == expected[: len(numbers)]


def test_its_workers_share_no_id(tmp_path: Path) -> None:
    with running_collector() as collector:
        answers = ask_two_workers(tmp_path, "--tracing", env=collector.environment)
    _, traces, spans, _ = zip(*(answer["traceparent"].split("-") for answer in answers), strict=True)
    for ids in (traces, spans, [answer["x-request-id"] for answer in answers]):
        assert len(set(ids)) == len(answers)
