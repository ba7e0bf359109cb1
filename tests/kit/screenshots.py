"""Takes the pictures of the status page in docs/: `python -m tests.kit.screenshots`. Needs Chromium and the demo."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from sage_edge.server.development_certificates import create_development_certificates
from tests.kit.browser import Page, browser
from tests.kit.edge import PROJECT, Edge, running_edge

IMAGES = PROJECT / "docs" / "images"
CLIENTS = 12
LOAD_SECONDS = 45
IS_LIVE = "document.getElementById('freshness').textContent === 'live'"


def main() -> None:
    """Take them, without load and under it."""
    IMAGES.mkdir(exist_ok=True)
    options = ("--gateway", "demo", "--metrics-bind", "none", "--admin-bind", "127.0.0.1:0", "--no-access-log")
    with tempfile.TemporaryDirectory() as folder:
        certificates = Path(folder, "certificates")
        create_development_certificates(certificates, now=datetime.now(UTC))
        with running_edge(*options, certificates=certificates) as edge, browser(Path(folder, "browser")) as page:
            _take_all(edge, page)


def _take_all(edge: Edge, page: Page) -> None:
    url = edge.output.wait_for(r"status +(http://\S+)")[1]
    edge.log.wait_for(r"\bready\b")
    _take(page, url, 1280, "light", "status-idle.png")
    _take(page, url, 390, "light", "status-idle-narrow.png")
    is_over = threading.Event()
    threads = [threading.Thread(target=_chat, args=(edge, number, is_over)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    is_over.wait(LOAD_SECONDS)
    _take(page, url, 1280, "light", "status-load.png")
    _take(page, url, 1280, "dark", "status-load-dark.png")
    _take(page, url, 390, "light", "status-load-narrow.png")
    is_over.set()
    for thread in threads:
        thread.join()


def _take(page: Page, url: str, width: int, scheme: str, name: str) -> None:
    page.show(url, width=width, height=700, scheme=scheme)
    page.wait_until(IS_LIVE)
    page.screenshot(IMAGES / name)


def _chat(edge: Edge, number: int, is_over: threading.Event) -> None:
    question: dict[str, object] = {
        "messages": [{"role": "user", "content": f"Tell me about the number {number}."}],
        "max_tokens": 40 + number,
        "stream": True,
    }
    with edge.client(http2=bool(number % 3)) as client:
        question["model"] = client.get("/v1/models").json()["data"][0]["id"]
        while not is_over.is_set():
            try:
                with client.stream("POST", "/v1/chat/completions", json=question) as stream:
                    for received, _ in enumerate(stream.iter_lines()):
                        if number == 0 and received > 10:
                            break  # one that leaves
            except httpx2.HTTPError:
                return


if __name__ == "__main__":
    main()
