"""The edge's own pages, asked through ASGI as the dispatcher asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from sage_edge.app.health import MountSummary, build_health_app
from sage_edge.app.native import NativeApplication
from sage_edge.core.readiness import Check, Phase, Readiness
from tests.kit.asgi_calls import Server, http_scope, request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
GATEWAY = MountSummary("/llm", "demo", {"docs": "/llm/docs", "schema": "/llm/openapi.json"})


class Links(HTMLParser):
    """The links of a page and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str | None] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.targets.append(dict(attrs)["href"])

    def handle_data(self, data: str) -> None:
        self.text += data


def ready(*, prefix: str = "/llm", phase: Phase = Phase.READY) -> Readiness:
    readiness = Readiness(llm_prefix=prefix, is_llm_mounted=True)
    readiness.advance(phase)
    return readiness


async def ask(
    path: str,
    readiness: Readiness,
    *,
    method: str = "GET",
    accept: str | None = None,
    mounts: Sequence[MountSummary] = (GATEWAY,),
    root_path: str = "",
) -> Server:
    app: Any = build_health_app(readiness, version="1.2.3", mounts=mounts)
    headers = [(b"host", b"edge.test"), *([(b"accept", accept.encode())] if accept is not None else [])]
    server = Server(request())
    scope = http_scope(path, method=method, headers=headers, root_path=root_path)
    await NativeApplication(app)(scope, server.receive, server.send)
    return server


async def test_healthz_answers_in_the_seeds_keys_and_order() -> None:
    server = await ask("/healthz", Readiness(llm_prefix="/", is_llm_mounted=True))
    assert server.status == 200
    assert list(server.json.items()) == [
        ("status", "ok"),
        ("service", "SAGE Edge"),
        ("llm_mounted", True),
        ("llm_prefix", "/"),
    ]


async def test_healthz_says_where_no_gateway_is_mounted() -> None:
    server = await ask("/healthz", Readiness(llm_prefix="/", is_llm_mounted=False))
    assert server.json["llm_mounted"] is False


@pytest.mark.parametrize("phase", Phase)
async def test_healthz_is_200_in_every_phase(phase: Phase) -> None:
    assert (await ask("/healthz", ready(phase=phase))).status == 200


@pytest.mark.parametrize(
    ("phase", "status", "http_status"),
    [
        (Phase.STARTING, "starting", 503),
        (Phase.READY, "ready", 200),
        (Phase.DRAINING, "draining", 503),
        (Phase.STOPPED, "draining", 503),
    ],
)
async def test_readyz_answers_by_the_phase(phase: Phase, status: str, http_status: int) -> None:
    server = await ask("/readyz", ready(phase=phase))
    assert server.status == http_status
    assert list(server.json) == ["status", "service", "llm_mounted", "llm_prefix", "checks"]
    assert server.json["status"] == status


async def test_readyz_is_degraded_and_shows_the_check_that_failed() -> None:
    readiness = ready()
    readiness.add_check("gateway_responsive", lambda: Check(False, "it does not answer", {"lag_seconds": 1.5}))
    server = await ask("/readyz", readiness)
    assert server.status == 503
    assert server.json["status"] == "degraded"
    assert server.json["checks"]["gateway_responsive"] == {
        "ok": False,
        "detail": "it does not answer",
        "lag_seconds": 1.5,
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
async def test_answers_are_not_cached(path: str) -> None:
    assert (await ask(path, ready())).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("accept", [None, BROWSER])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
async def test_head_has_the_headers_of_get(path: str, accept: str | None) -> None:
    get, head = [await ask(path, ready(), method=method, accept=accept) for method in ("GET", "HEAD")]
    assert (head.status, head.headers) == (get.status, get.headers)
    assert int(head.headers["content-length"]) == len(get.body) > 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_json_for_a_browser_too(path: str) -> None:
    assert (await ask(path, ready(), accept=BROWSER)).headers["content-type"] == "application/json"


JSON, HTML = "application/json", "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/json, text/html;q=0.5", JSON),
        ("image/png", JSON),
        ("", JSON),
        (BROWSER, HTML),
        ("text/html", HTML),
        ("text/*", HTML),
        ("application/json;q=0.5, text/html", HTML),
    ],
)
async def test_the_landing_page_is_what_the_client_accepts(accept: str | None, content_type: str) -> None:
    server = await ask("/", ready(), accept=accept)
    assert server.status == 200
    assert server.headers["content-type"] == content_type
    assert server.headers["vary"] == "accept"


async def test_the_landing_page_as_json() -> None:
    assert (await ask("/", ready())).json == {
        "name": "SAGE Edge",
        "version": "1.2.3",
        "status": "ready",
        "mounts": [{"prefix": "/llm", "name": "demo", "links": dict(GATEWAY.links)}],
        "links": {"health": "/healthz", "readiness": "/readyz"},
    }


async def test_the_landing_page_links_to_everything() -> None:
    page = Links((await ask("/", ready(), accept=BROWSER)).body.decode())
    assert page.targets == ["/llm/docs", "/llm/openapi.json", "/healthz", "/readyz"]
    assert "Version 1.2.3 is" in page.text
    assert "/llm" in page.text


@pytest.mark.parametrize(
    ("mounts", "said"), [((), "No gateway is mounted."), ([MountSummary("/llm", "demo", {})], "none")]
)
async def test_the_landing_page_says_what_is_not_there(mounts: Sequence[MountSummary], said: str) -> None:
    page = Links((await ask("/", ready(), accept=BROWSER, mounts=mounts)).body.decode())
    assert said in page.text


async def test_the_landing_page_shows_every_check() -> None:
    readiness = ready()
    readiness.add_check("certificate", lambda: Check(False, "expired 2020-01-01"))
    page = Links((await ask("/", readiness, accept=BROWSER)).body.decode())
    for said in ("degraded", "certificate", "expired 2020-01-01", "not ok"):
        assert said in page.text


ATTACK = "<script>alert('x')</script>\"&"


@pytest.mark.parametrize(
    "mount",
    [MountSummary("/x", ATTACK, {}), MountSummary("/x", "x", {ATTACK: "/docs"})],
    ids=["its name", "the title of a link"],
)
async def test_what_a_mount_brings_along_is_text_and_no_markup(mount: MountSummary) -> None:
    page = Links((await ask("/", ready(), accept=BROWSER, mounts=[mount])).body.decode())
    assert "script" not in page.tags
    assert ATTACK in page.text


async def test_what_a_check_says_is_text_and_no_markup() -> None:
    readiness = ready()
    readiness.add_check("check", lambda: Check(False, ATTACK))
    page = Links((await ask("/", readiness, accept=BROWSER)).body.decode())
    assert "script" not in page.tags
    assert ATTACK in page.text


async def test_the_target_of_a_link_stays_in_its_attribute() -> None:
    links: Mapping[str, str] = {"docs": '/docs"onclick="alert(1)'}
    page = Links((await ask("/", ready(), accept=BROWSER, mounts=[MountSummary("/x", "x", links)])).body.decode())
    assert page.targets[0] == links["docs"]
