"""The routing table of a running edge, the same over HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http1 import exchange
from tests.kit.raw_http2 import raw_http2

PLAIN = ("--gateway", "tests.kit.gateways.plain:app")

PROTOCOLS = ["h2", "http/1.1"]


@pytest.fixture(scope="module", params=["/llm", "/", "/h", "/s"])
def edge_at(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[str, Edge]]:
    with running_edge(*PLAIN, "--llm-prefix", request.param, certificates=certificates) as edge:
        yield request.param, edge


def ask(edge: Edge, protocol: str, target: bytes, method: bytes = b"GET") -> tuple[int, dict[str, str], bytes]:
    if protocol == "http/1.1":
        return exchange(edge, method + b" " + target + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    with raw_http2(edge) as connection:
        response = connection.wait_for(connection.request(target, method=method))
        headers = {name.decode(): value.decode() for name, value in response.headers}
        return response.status, headers, bytes(response.body)


TABLE = [
    # target, then who answers with the gateway at /llm, /, /h and /s: a status, "health", "landing" or "gateway"
    (b"/healthz", "health", "health", "health", "health"),
    (b"/readyz", "health", "health", "health", "health"),
    (b"/", "landing", "gateway", "landing", "landing"),
    (b"/llm", "gateway", "gateway", 404, 404),
    (b"/llm/", "gateway", "gateway", 404, 404),
    (b"/llm/v1/models", "gateway", "gateway", 404, 404),
    (b"/llm/healthz", "gateway", "gateway", 404, 404),
    (b"/h", 404, "gateway", "gateway", 404),
    (b"/h/ealthz", 404, "gateway", "gateway", 404),
    (b"/healthz/", 404, "gateway", 404, 404),
    (b"/healthzz", 404, "gateway", 404, 404),
    (b"/sessions", 404, "gateway", 404, 404),
    (b"/s/sessions", 404, "gateway", 404, "gateway"),
    (b"/llmx", 404, "gateway", 404, 404),
    (b"//llm", 404, "gateway", 404, 404),
    (b"/llm//v1", "gateway", "gateway", 404, 404),
    (b"/llm/../healthz", 400, 400, 400, 400),
    (b"/llm/%2e%2e/healthz", 400, 400, 400, 400),
    (b"/llm/.%2E/healthz", 400, 400, 400, 400),
    (b"/llm/..%2fhealthz", 400, 400, 400, 400),
    (b"/llm/./v1", 400, 400, 400, 400),
    (b"/%6clm/v1/models", 404, "gateway", 404, 404),
    (b"/%68ealthz", 404, "gateway", 404, 404),
    (b"/llm%2Fv1/models", 404, "gateway", 404, 404),
    (b"/llm/v1/models/org%2Fname", "gateway", "gateway", 404, 404),
    (b"/llm/%00", 400, 400, 400, 400),
    (b"/llm/%0d%0a", 400, 400, 400, 400),
    (b"/llm/%7f", 400, 400, 400, 400),
    (b"/llm/%ff", 400, 400, 400, 400),
    (b"/llm/%zz", 400, 400, 400, 400),
    (b"/llm/caf\xc3\xa9", 400, 400, 400, 400),
    (b"/llm/caf%C3%A9", "gateway", "gateway", 404, 404),
]
PREFIXES = ["/llm", "/", "/h", "/s"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].decode("latin-1"))
def test_routing_table(edge_at: tuple[str, Edge], protocol: str, row: tuple[bytes, str | int]) -> None:
    prefix, edge = edge_at
    target, expected = row[0], row[1 + PREFIXES.index(prefix)]

    status, headers, body = ask(edge, protocol, target)

    if isinstance(expected, int):
        assert status == expected
        return
    assert status == 200
    assert headers["content-type"] == "application/json"
    answer = json.loads(body)
    if expected == "gateway":
        assert answer["raw_path"] == target.decode()
        assert answer["root_path"] == prefix.rstrip("/")
        assert answer["http_version"] == ("2" if protocol == "h2" else "1.1")
    elif expected == "health":
        assert answer["status"] == ("ok" if target == b"/healthz" else "ready")
        assert answer["llm_mounted"] is True
        assert answer["llm_prefix"] == prefix
    else:
        assert [mount["prefix"] for mount in answer["mounts"]] == [prefix]
