"""The status page of a real edge: in a browser, without scripts, beside what clients counted, and at the end."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from sage_edge.app.status_page import MOST_VIEWERS, PARTS
from tests.e2e.observe.gateway import ENDLESS
from tests.e2e.observe.support import GATEWAY, status_url, wait_for_text
from tests.kit.browser import browser, needs_browser
from tests.kit.edge import Edge, run_edge, running_edge

IS_LIVE = "document.getElementById('freshness').textContent === 'live'"


@contextmanager
def shown_edge(*options: str, certificates: Path | None = None) -> Iterator[tuple[Edge, str]]:
    """An edge, and the address of its status page."""
    arguments = (*GATEWAY, "--metrics-bind", "none", "--admin-bind", "127.0.0.1:0", *options)
    with running_edge(*arguments, certificates=certificates) as edge:
        yield edge, status_url(edge)


def ask(client: httpx2.Client, path: str, number: int) -> httpx2.Response:
    return client.get(path, headers={"x-request-id": f"status-{number}"})


@contextmanager
def load(edge: Edge) -> Iterator[None]:
    """Event streams, one after the other, until the block ends."""
    is_over = threading.Event()

    def repeat() -> None:
        with edge.client() as client:
            while not is_over.is_set():
                ask(client, "/events/50", threading.get_ident())

    threads = [threading.Thread(target=repeat) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_is_live_in_a_browser_and_fits(width: int, scheme: str, tmp_path: Path, certificates: Path) -> None:
    with shown_edge(certificates=certificates) as (edge, url), browser(tmp_path) as page:
        page.show(url, width=width, scheme=scheme)
        page.wait_until(IS_LIVE)
        assert page.run("document.body.innerText.includes('days left')")
        with edge.client() as client:
            ask(client, "/fail/" + 1000 * "x", 1)
        page.wait_until("document.getElementById('problems').innerText.includes('/fail/xxx')")
        assert page.run("document.documentElement.scrollWidth") <= width
        with load(edge):
            page.wait_until("/[1-9][0-9,]* sent so far/.test(document.getElementById('charts').innerText)")
            page.wait_until("document.querySelectorAll('#charts .line').length === 4")
            page.wait_until("document.getElementById('protocols').innerText.includes('HTTP/2')")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.faults == []


@needs_browser
def test_the_page_is_usable_with_a_keyboard_and_a_screen_reader(tmp_path: Path) -> None:
    with shown_edge() as (_, url), browser(tmp_path) as page:
        page.show(url)
        page.wait_until(IS_LIVE)
        told = page.roles()
        headings = [name for role, name in told if role == "heading"]
        assert headings[0] == "SAGE Edge"
        assert {"Mounts", "Readiness", "Protocols", "Last warnings and errors"} <= set(headings)
        tables = {name for role, name in told if role == "table"}
        assert {"Mounts", "Readiness"} <= tables
        charts = [name for role, name in told if role in {"image", "img"}]
        assert len(charts) == 4
        assert all("over the last two minutes: highest" in name for name in charts)
        page.press("Tab")
        assert page.run("document.activeElement.id") == "pause"
        page.press("Enter")
        page.wait_until("document.getElementById('freshness').textContent === 'paused'")
        assert ("button", "Pause") in page.roles()
        assert page.run("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
        page.press("Enter")
        page.wait_until(IS_LIVE)
        assert page.faults == []


@needs_browser
@pytest.mark.parametrize("kind", ["it hangs", "it is gone"])
def test_figures_that_are_no_longer_the_latest_do_not_pass_for_them(kind: str, tmp_path: Path) -> None:
    with shown_edge() as (edge, url), browser(tmp_path) as page:
        page.show(url)
        page.wait_until(IS_LIVE)
        assert page.run("/figures of \\d\\d:\\d\\d:\\d\\d UTC/.test(document.querySelector('header').innerText)")
        edge.process.send_signal(signal.SIGSTOP if kind == "it hangs" else signal.SIGKILL)
        page.wait_until("/no news for [3-9] s/.test(document.querySelector('header').innerText)")
        assert page.run("document.getElementById('freshness').textContent !== 'live'")
        assert page.run("Number(getComputedStyle(document.getElementById('state')).opacity) < 1")
        page.press("Tab")
        page.press("Enter")  # whoever pauses it knows
        page.wait_until("!document.querySelector('header').innerText.includes('no news')")
        if kind == "it hangs":
            page.press("Enter")
            page.wait_until("/no news for [0-9]+ s/.test(document.querySelector('header').innerText)")
            edge.process.send_signal(signal.SIGCONT)
            page.wait_until(IS_LIVE)
            page.wait_until("!document.querySelector('header').innerText.includes('no news')")
            assert page.run("Number(getComputedStyle(document.getElementById('state')).opacity) === 1")


def test_what_goes_wrong_around_requests_is_on_the_page() -> None:
    with shown_edge("--max-connections-per-client", "1") as (edge, url):
        with socket.create_connection(("127.0.0.1", edge.port)) as first:
            first.sendall(b"GET / HTTP/9.9\r\n\r\n")
            assert first.recv(100).startswith(b"HTTP/1.1 505")
            with socket.create_connection(("127.0.0.1", edge.port)) as second:
                assert second.recv(1) == b""
        wait_for_text(url, r"connections refused 1 TLS handshakes failed 0 protocol errors 1 limits exceeded 0")
        limit = "latest_limit=--max-connections-per-client"
        edge.log.wait_for(rf"connections refused: too many are open .* {limit} .*port={edge.port}\b")


@needs_browser
def test_the_page_can_be_read_without_scripts(tmp_path: Path) -> None:
    with shown_edge() as (edge, url), browser(tmp_path) as page, edge.client() as client:
        ask(client, "/events/30", 1)
        page.disable_scripts()
        page.show(url)
        told = [name for _, name in page.roles()]
        assert "30 sent so far" in told
        assert "Pause" not in told  # there is nothing to pause


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_the_page_agrees_with_what_the_clients_counted(workers: tuple[str, ...]) -> None:
    with shown_edge(*workers) as (edge, url):
        received = 0
        for number in range(6):
            with edge.client(http2=bool(number % 2)) as client:
                received += ask(client, "/events/25", number).content.count(b"data: ")
        with edge.client() as client:
            assert ask(client, "/fail", 9).status_code == 500
        with (
            edge.client(http2=False) as client,
            client.stream("GET", f"/events/{ENDLESS}", headers={"x-request-id": "left"}) as stream,
        ):
            next(stream.iter_bytes())
        shown = wait_for_text(url, r"client left 1\b")
        assert received == 150
        assert re.search(r"\b8 ended so far", shown)
        (events,) = re.findall(r"([\d,]+) sent so far", shown)
        assert int(events.replace(",", "")) >= received + 1
        assert re.search(r"HTTP/1\.1 0 4 \S+ kB|HTTP/1\.1 0 4 ", shown)
        assert re.search(r"HTTP/2 0 4 ", shown)
        assert re.search(r"request failed: RuntimeError \(/fail\)", shown)


def test_viewers_get_what_changes_and_are_few() -> None:
    with shown_edge() as (edge, url), ExitStack() as stack:
        streams = []
        for _ in range(MOST_VIEWERS):
            client = stack.enter_context(httpx2.Client(timeout=30, trust_env=False))
            stream = stack.enter_context(client.stream("GET", url + "events"))
            streams.append(stream.iter_lines())
            assert set(json.loads(next(streams[-1])[6:])) == set(PARTS)
        assert httpx2.get(url + "events", trust_env=False).status_code == 503
        assert httpx2.get(url, trust_env=False).status_code == 200
        with edge.client() as client:
            ask(client, "/scope", 1)
        changed: set[str] = set()
        while "mounts" not in changed:
            line = next(streams[0])
            changed |= set(json.loads(line[6:])) if line else set()
        assert "endings" not in changed
        assert edge.stop() == 0  # whoever looks on holds up nothing


def test_an_address_that_was_chosen_and_is_taken_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_edge("--no-llm", "--port", "0", "--admin-bind", address)
    assert ended.returncode == 3
    assert f"cannot listen on {address}: the address is in use" in ended.stderr
    assert "choose another address with --admin-bind, or none" in ended.stderr


def test_the_addresses_of_metrics_and_page_are_faults_together() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        metrics, admin = (f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, other))
        ended = run_edge("--no-llm", "--port", "0", "--metrics-bind", metrics, "--admin-bind", admin)
    assert ended.returncode == 3
    assert "choose another address with --metrics-bind, or none" in ended.stderr
    assert "choose another address with --admin-bind, or none" in ended.stderr
