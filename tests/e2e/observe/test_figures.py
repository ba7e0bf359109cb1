"""What clients counted, the metrics, the access log and the status page agree, with real processes and real clients."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.e2e.observe.gateway import ENDLESS, EVENT, HELD_SECONDS
from tests.e2e.observe.support import (
    METRICS,
    Figures,
    access_lines,
    observed_edge,
    status_url,
    wait_for_figure,
    wait_for_text,
)
from tests.kit.edge import WAIT_SECONDS, Edge, clean_environment, edge_command, run_edge, running_edge
from tests.kit.eventually import eventually

CLIENTS = 18
REBOUND = {"host": "rebound.example"}
EVENTS = 40
SLOW_EVENTS = 400
LEAVES_AFTER = 10


@dataclass
class Seen:
    """What one client saw of its stream."""

    request_id: str
    events: int
    size_bytes: int


def read_events(
    edge: Edge, request_id: str, count: int, *, http2: bool, leaves_after: int = ENDLESS, pause_seconds: float = 0
) -> Seen:
    """Read a stream of events as a client does, to its end or a while."""
    read = b""
    with (
        edge.client(http2=http2) as client,
        client.stream("GET", f"/events/{count}", headers={"x-request-id": request_id}) as response,
    ):
        assert response.headers["x-request-id"] == request_id
        for chunk in response.iter_raw():
            read += chunk
            time.sleep(pause_seconds)
            if read.count(b"\n\n") >= leaves_after:
                break
    return Seen(request_id, read.count(b"\n\n"), len(read))


def test_metrics_log_and_status_page_agree_with_what_the_clients_counted(certificates: Path) -> None:
    with (
        observed_edge("--admin-bind", "127.0.0.1:0", certificates=certificates) as (edge, url),
        ThreadPoolExecutor(CLIENTS + 2) as threads,
    ):
        readers = [
            threads.submit(read_events, edge, f"reader-{number}", EVENTS, http2=bool(number % 3))
            for number in range(CLIENTS)
        ]
        slow = threads.submit(read_events, edge, "slow", SLOW_EVENTS, http2=False, pause_seconds=0.01)
        leaver = threads.submit(read_events, edge, "leaver", ENDLESS, http2=True, leaves_after=LEAVES_AFTER)
        stayed = [future.result() for future in (*readers, slow)]
        left = leaver.result()
        total = CLIENTS + 2
        figures = wait_for_figure(url, lambda figures: figures.sum("requests_total", mount="/") == total)
        edge.log.wait_for("ending='client left'")
        lines = {line["request_id"]: line for line in access_lines(edge)}
        page = wait_for_text(status_url(edge), rf"\b{total} ended so far.*client left 1\b")
        with edge.client() as client:
            sent_to_leaver = client.get("/sent/leaver").json()

    assert [seen.events for seen in stayed] == [EVENTS] * CLIENTS + [SLOW_EVENTS]
    assert left.events >= LEAVES_AFTER
    # The log, request by request.
    assert len(lines) == total
    for seen in stayed:
        line = lines[seen.request_id]
        assert (line["events"], line["sent_bytes"], line["ending"]) == (seen.events, seen.size_bytes, "complete")
        assert (line["mount"], line["status"], line["path"]) == ("/", 200, f"/events/{seen.events}")
        assert 0 <= line["first_byte_ms"] <= line["first_event_ms"] <= line["duration_ms"]
        assert ("stream" in line) is (line["protocol"] == "HTTP/2")
    assert len({line["connection"] for line in lines.values()}) == total
    assert lines["leaver"]["ending"] == "client left"
    assert left.events <= lines["leaver"]["events"] <= sent_to_leaver
    assert left.size_bytes <= lines["leaver"]["sent_bytes"] <= lines["leaver"]["events"] * len(EVENT)
    # The metrics, in sum.
    by_protocol = {"1.1": CLIENTS // 3 + 1, "2": CLIENTS - CLIENTS // 3 + 1}
    for protocol, count in by_protocol.items():
        assert figures.sum("requests_total", protocol=protocol, method="GET", status="200", mount="/") == count
        assert figures.sum("time_to_first_event_seconds_count", protocol=protocol) == count
        assert figures.sum("request_duration_seconds_count", protocol=protocol) == count
    events = sum(line["events"] for line in lines.values())
    assert figures.sum("events_total") == events
    assert figures.sum("time_between_events_seconds_count") == events - total
    assert figures.sum("response_body_bytes_total") == sum(line["sent_bytes"] for line in lines.values())
    assert figures.sum("cancellations_total") == figures.sum("cancellations_total", cause="client_left") == 1
    assert figures.sum("cancellation_seconds_count", cause="client_left") == 1
    assert figures.sum("requests_in_flight") == 0
    assert figures.sum("connections_accepted_total") == figures.sum("tls_handshake_seconds_count") == total
    assert figures.sum("tls_handshake_failures_total") == figures.sum("protocol_errors_total") == 0
    # The page, which has the same figures.
    assert f" {events:,} sent so far" in page
    for name, protocol in (("HTTP/1.1", "1.1"), ("HTTP/2", "2")):
        assert f" {name} 0 {by_protocol[protocol]} " in page


def test_a_stream_that_is_cut_by_the_drain_is_counted_as_such() -> None:
    with observed_edge("--drain-seconds", "0.2") as (edge, url), edge.client() as client:
        request = client.stream("GET", f"/events/{ENDLESS}", headers={"x-request-id": "cut"})
        with request as response:
            chunks = response.iter_raw()
            next(chunks)
            assert Figures(url).sum("requests_in_flight", mount="/") == 1
            assert Figures(url).sum("phase", phase="ready") == 1
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for("ending=drained")
        assert edge.process.wait(WAIT_SECONDS) == 0
        (line,) = access_lines(edge)
        assert line["events"] > 0


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_gateway_that_holds_up_the_edge_itself_is_seen(loop: str) -> None:
    # In a thread of its own, too: it keeps the interpreter's lock.
    with observed_edge("--gateway-loop", loop) as (edge, url), edge.client() as client:
        assert client.get("/hold").status_code == 200
        figures = Figures(url)
        edge.log.wait_for("the edge's event loop was held up")
    assert figures.sum("loop_lag_seconds") > HELD_SECONDS / 2


def test_faults_of_clients_are_counted_by_kind(certificates: Path) -> None:
    with observed_edge(certificates=certificates) as (edge, url):
        with socket.create_connection(("127.0.0.1", edge.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while sock.recv(1000):
                pass
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", edge.port)) as sock:  # noqa: PT011
            edge.ssl_context("spdy/1").wrap_socket(sock, server_hostname="localhost")
        with (
            socket.create_connection(("127.0.0.1", edge.port)) as sock,
            edge.ssl_context("http/1.1").wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
            while tls.recv(1000):
                pass
        with (
            socket.create_connection(("127.0.0.1", edge.port)) as sock,
            edge.ssl_context("h2").wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000" + "00000106000000000000")
            )
            while tls.recv(1000):
                pass
        figures = wait_for_figure(url, lambda figures: figures.sum("connections_open") == 0)
        assert figures.sum("tls_handshake_failures_total", reason="not_tls") == 1
        assert figures.sum("tls_handshake_failures_total", reason="no_protocol") == 1
        assert figures.sum("protocol_errors_total", protocol="1.1", kind="bad_request") == 1
        assert figures.sum("protocol_errors_total", protocol="2", kind="frame_size_error") == 1
        assert figures.sum("tls_handshake_seconds_count") == 2
        assert figures.sum("certificate_expiry_timestamp_seconds") > time.time()


def test_a_budget_that_is_exceeded_is_counted() -> None:
    with observed_edge("--max-pings", "5") as (edge, url):
        with socket.create_connection(("127.0.0.1", edge.port)) as sock:
            ping = bytes.fromhex("000008060000000000") + bytes(8)
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000") + ping * 6)
            while sock.recv(1000):
                pass
        assert Figures(url).sum("limits_exceeded_total", kind="ping") == 1


def is_bound(sock: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a socket could be bound to an address."""
    try:
        sock.bind(address)
    except OSError:
        return False
    return True


def test_a_default_address_that_is_taken_does_not_stop_a_second_edge() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Another test's edge may have it for a moment; one that has it for longer is as good.
        if eventually(lambda: is_bound(taken, ("127.0.0.1", 9899)), 10.0):
            taken.listen()
        command = edge_command("serve", "--no-llm", "--host", "127.0.0.1", "--port", "0")
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=clean_environment()
        ) as process:
            assert process.stderr is not None
            said = ""
            while "[info] ready" not in said:
                said += process.stderr.readline()
            taken.close()
            while "metrics are served" not in said and (line := process.stderr.readline()):
                said += line
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0
        assert "metrics are not served" in said


def test_an_address_that_was_asked_for_has_to_be_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_edge(
            "serve", "--no-llm", "--host", "127.0.0.1", "--port", "0", "--metrics-bind", f"127.0.0.1:{port}"
        )
    assert result.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: the address is in use" in result.stderr
    assert "--metrics-bind" in result.stderr


def test_metrics_are_answered_while_the_gateway_starts_and_blocks(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text("import time\nasync def app(scope, receive, send):\n    time.sleep(3600)\n")
    options = ("--gateway", "blocks:app", *METRICS)
    with running_edge(*options, cwd=tmp_path, wait_for_ready=False) as edge:
        url = edge.output.wait_for(r"metrics +(http://\S+)")[1]
        assert Figures(url).sum("phase", phase="starting") == 1
        assert httpx2.get(url.removesuffix("metrics"), trust_env=False).status_code == 404


def test_metrics_and_the_page_are_shown_to_no_website_that_leads_here() -> None:
    with running_edge("--no-llm", "--metrics-bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0") as edge:
        for name in ("metrics", "status"):
            url = edge.output.wait_for(rf"{name} +(http://\S+)")[1]
            assert httpx2.get(url, trust_env=False).status_code == 200
            rebound = httpx2.get(url, headers=REBOUND, trust_env=False)
            assert (rebound.status_code, rebound.json()["error"]["code"]) == (421, 421)


def test_where_others_can_reach_them_they_are_shown_under_any_name() -> None:
    with running_edge("--no-llm", "--metrics-bind", "0.0.0.0:0", "--admin-bind", "0.0.0.0:0") as edge:
        for name in ("metrics", "status"):
            url = httpx2.URL(edge.output.wait_for(rf"{name} +(http://\S+)")[1]).copy_with(host="127.0.0.1")
            assert httpx2.get(url, headers=REBOUND, trust_env=False).status_code == 200


@pytest.mark.parametrize("is_http2", [False, True], ids=["http/1.1", "h2c"])
def test_a_request_that_no_layer_sees_is_counted_and_told(is_http2: bool) -> None:
    with observed_edge("--max-body-bytes", "1000") as (edge, url), edge.client(http2=is_http2) as client:
        answers = [
            client.get("/a/../b%00"),
            client.get("/scope", headers={"x": "y" * 40_000}),
            client.post("/scope", content=bytes(2000)),
        ]
        assert [answer.status_code for answer in answers] == [400, 431, 413]
        protocol = "2" if is_http2 else "1.1"
        figures = wait_for_figure(url, lambda figures: figures.sum("requests_total") == 3)
        for status in ("400", "431", "413"):
            assert figures.sum("requests_total", status=status, protocol=protocol) == 1
        assert figures.sum("requests_in_flight") == 0
        edge.log.wait_for(
            rf"client=127.0.0.1 protocol=HTTP/{protocol} method=GET path=/scope "
            rf"status=431 received_bytes=0 sent_bytes={len(answers[1].content)} ending=refused"
        )
        identifiers = {answer.headers["x-request-id"] for answer in answers}
        assert {line["request_id"] for line in access_lines(edge)} == identifiers
        assert len(identifiers) == 3


def test_without_an_access_log_a_request_that_no_layer_sees_is_not_told_either() -> None:
    with observed_edge("--no-access-log") as (edge, url), edge.client() as client:
        assert client.get("/scope", headers={"x": "y" * 40_000}).status_code == 431
        wait_for_figure(url, lambda figures: figures.sum("requests_total", status="431") == 1)
    assert access_lines(edge) == []
