"""A mounted application's faults cost the request at fault its answer, and nothing else."""

from __future__ import annotations

from pathlib import Path

import h2.errors
import pytest

from tests.e2e.test_mount_lifespan import MOUNTINGS, PROTOCOLS, Mounted, new_key, share
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.fixture(scope="module", params=[mounting for mounting in MOUNTINGS if mounting.name == "fastapi"], ids=str)
def fastapi(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


def statuses_on_one_connection(mounted: Mounted, protocol: str, *paths: str) -> list[int]:
    """Ask for these paths one after the other on a new connection; fails if it does not last."""
    if protocol == "h2":
        with raw_http2(mounted.edge) as connection:
            connection.sock.settimeout(10)
            targets = [mounted.path(path).encode() for path in paths]
            return [connection.wait_for(connection.request(target)).status for target in targets]
    statuses = []
    with mounted.edge.client(http2=False) as client:
        client.timeout = 10
        ports = set()
        for path in paths:
            answer = client.get(mounted.path(path))
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            statuses.append(answer.status_code)
    assert len(ports) == 1
    return statuses


@protocols
def test_an_endpoint_that_raises_answers_500_and_the_connection_goes_on(mounted: Mounted, protocol: str) -> None:
    assert statuses_on_one_connection(mounted, protocol, "/fail", "/describe", "/fail") == [500, 200, 500]


@protocols
def test_an_endpoint_that_raises_is_answered_by_the_framework(mounted: Mounted, protocol: str) -> None:
    assert "Internal Server Error" in mounted.ask(protocol, "/fail").text


@protocols
def test_an_error_with_a_handler_of_its_own_gets_that_answer(fastapi: Mounted, protocol: str) -> None:
    answer = fastapi.ask(protocol, "/fail-handled")

    assert answer.status_code == 500
    assert answer.json() == {"error": {"message": "raised on purpose"}}


@protocols
def test_an_endpoint_that_exits_ends_only_its_own_request(mounted: Mounted, protocol: str) -> None:
    assert statuses_on_one_connection(mounted, protocol, "/exit", "/describe") == [500, 200]
    assert mounted.edge.process.poll() is None
    assert mounted.ask(protocol, "/describe").json()["greeting"]


@protocols
@pytest.mark.parametrize("path", ["/exit-in-thread", "/sub/exit"])
def test_an_exit_in_a_thread_or_below_a_middleware_ends_only_its_own_request(
    fastapi: Mounted, protocol: str, path: str
) -> None:
    assert statuses_on_one_connection(fastapi, protocol, path, "/describe") == [500, 200]
    assert fastapi.edge.process.poll() is None


def test_raising_in_mid_stream_resets_that_http2_stream_alone(mounted: Mounted) -> None:
    key, other_key = new_key(), new_key()
    with raw_http2(mounted.edge) as connection:
        stream_id = connection.request(mounted.path(f"/fail-midway/{key}").encode())
        other_id = connection.request(mounted.path(f"/events/{other_key}").encode())
        failing, other = connection.responses[stream_id], connection.responses[other_id]
        connection.wait_until(lambda: b"data: 0" in failing.body and b"data: 0" in other.body)
        mounted.tell(key, "seen 0")
        connection.wait_for(stream_id)

        assert failing.status == 200
        assert not failing.is_ended
        assert failing.reset_code == h2.errors.ErrorCodes.INTERNAL_ERROR

        mounted.tell(other_key, "seen 0")
        connection.wait_until(lambda: b"data: 1" in other.body)
        assert connection.wait_for(connection.request(mounted.path("/describe").encode())).status == 200


def test_raising_in_mid_stream_closes_an_http1_connection_without_a_last_chunk(mounted: Mounted) -> None:
    key = new_key()
    request = f"GET {mounted.path(f'/fail-midway/{key}')} HTTP/1.1\r\nhost: localhost\r\n\r\n"
    received = b""
    with raw_http1(mounted.edge) as sock:
        sock.sendall(request.encode())
        while b"data: 0\n\n" not in received:
            received += sock.recv(65536)
        mounted.tell(key, "seen 0")
        while data := sock.recv(65536):
            received += data

    assert b"transfer-encoding: chunked" in received.lower()
    assert not received.endswith(b"0\r\n\r\n")
    assert mounted.wait_for(key, "ended")
