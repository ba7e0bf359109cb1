"""Mounted applications answer as they do without an edge: pages, links, redirects, cookies, headers, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.test_mount_lifespan import MOUNTINGS, PROTOCOLS, Mounted, share
from tests.kit.gateways import starlette_app
from tests.kit.gateways.starlette_app import HERE, TRUSTED_ORIGIN
from tests.kit.raw_http1 import exchange
from tests.kit.raw_http2 import raw_http2

FASTAPI = [mounting for mounting in MOUNTINGS if mounting.name == "fastapi"]

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.fixture(scope="module", params=FASTAPI, ids=str)
def fastapi(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_docs_page_names_an_openapi_document_that_is_served(fastapi: Mounted, protocol: str, page: str) -> None:
    found = fastapi.ask(protocol, page)
    assert found.status_code == 200
    named = re.search(r"""['"](/[^'"]*openapi\.json)['"]""", found.text)
    assert named is not None

    with fastapi.edge.client(http2=protocol == "h2") as client:
        document = client.get(named[1])

    assert document.status_code == 200
    assert document.json()["info"]["title"] == "A gateway"


def test_the_openapi_document_names_a_server_under_which_its_paths_are_served(fastapi: Mounted, protocol: str) -> None:
    document = fastapi.ask(protocol, "/openapi.json").json()
    servers = document.get("servers", [{"url": "/"}])
    assert "/sum" in document["paths"]

    with fastapi.edge.client(http2=protocol == "h2") as client:
        answer = client.post(servers[0]["url"].rstrip("/") + "/sum", json={"left": 2, "right": 3})

    assert answer.json() == {"sum": 5}


@pytest.mark.parametrize("path", ["/docs/oauth2-redirect", "/sub/docs", "/sub/openapi.json"])
def test_all_pages_of_fastapi_are_served(fastapi: Mounted, protocol: str, path: str) -> None:
    assert fastapi.ask(protocol, path).status_code == 200


def test_an_invalid_body_gets_the_applications_own_422(fastapi: Mounted, protocol: str) -> None:
    answer = fastapi.ask(protocol, "/sum", "POST", json={"left": "two"})

    assert answer.status_code == 422
    assert {tuple(fault["loc"]) for fault in answer.json()["detail"]} == {("body", "left"), ("body", "right")}


def test_the_redirect_that_adds_a_slash_stays_under_the_prefix(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/items?page=2")

    assert answer.status_code == 200
    assert answer.json() == ["an item"]
    assert [redirect.status_code for redirect in answer.history] in ([307], [308])
    assert str(answer.url) == mounted.edge.url + mounted.path("/items/?page=2")


def test_urls_that_the_application_builds_of_itself_are_served(mounted: Mounted, protocol: str) -> None:
    urls = mounted.ask(protocol, "/describe").json()["urls"]

    assert urls == [
        mounted.edge.url + mounted.path(path) for path in ("/describe", "/describe", "/items/", "/sub/leaf")
    ]
    with mounted.edge.client(http2=protocol == "h2") as client:
        assert {client.get(url).status_code for url in urls} == {200}


def test_a_client_sends_back_all_cookies_that_it_was_given(mounted: Mounted, protocol: str) -> None:
    with mounted.edge.client(http2=protocol == "h2", follow_redirects=True) as client:
        answer = client.post(mounted.path("/login"))

        given = answer.history[0].headers.get_list("set-cookie")
        assert [cookie.partition("=")[0] for cookie in given] == ["session", "theme"]
        assert all(f"Path={mounted.prefix or '/'}" in cookie.split("; ") for cookie in given)
        assert answer.json() == {"session": "s3cret", "theme": "dark"}
        assert mounted.prefix == "" or "cookie" not in client.get("/healthz").request.headers


def test_a_file_of_a_static_directory_is_served_whole(mounted: Mounted, protocol: str) -> None:
    file = Path(starlette_app.__file__)

    answer = mounted.ask(protocol, f"/static/{file.name}")

    assert answer.content == file.read_bytes()
    assert answer.headers["content-length"] == str(file.stat().st_size)


def test_a_static_file_is_not_sent_again_to_a_client_that_has_it(mounted: Mounted, protocol: str) -> None:
    etag = mounted.ask(protocol, "/static/plain.py").headers["etag"]

    answer = mounted.ask(protocol, "/static/plain.py", headers={"if-none-match": etag})

    assert answer.status_code == 304
    assert answer.content == b""


def test_a_part_of_a_static_file_is_served(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/static/plain.py", headers={"range": "bytes=3-9"})

    assert answer.status_code == 206
    assert answer.content == (HERE / "plain.py").read_bytes()[3:10]


def test_a_mounted_sub_application_is_told_its_place(mounted: Mounted, protocol: str) -> None:
    assert mounted.ask(protocol, "/sub/leaf").json() == {"root_path": mounted.path("/sub")}


def test_an_unknown_path_gets_the_applications_own_404(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/no-such-page")

    assert answer.status_code == 404
    assert "Nothing is served at this path." not in answer.text


def test_a_preflight_request_is_answered_by_the_application(mounted: Mounted, protocol: str) -> None:
    headers = {
        "origin": TRUSTED_ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-key",
    }

    answer = mounted.ask(protocol, "/refuse", "OPTIONS", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == TRUSTED_ORIGIN
    assert "x-key" in answer.headers["access-control-allow-headers"]


def test_a_head_request_gets_the_headers_of_a_get_and_no_body(mounted: Mounted, protocol: str) -> None:
    got = mounted.ask(protocol, "/static/plain.py")

    answer = mounted.ask(protocol, "/static/plain.py", "HEAD")

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == got.headers["content-length"]
    assert mounted.ask(protocol, "/describe", "HEAD").content == b""


@pytest.mark.parametrize("code", [204, 304])
def test_an_answer_that_may_have_no_body_has_none(mounted: Mounted, protocol: str, code: int) -> None:
    target = mounted.path(f"/status/{code}").encode()
    if protocol == "h2":
        with raw_http2(mounted.edge) as connection:
            response = connection.wait_for(connection.request(target))
            assert (response.status, bytes(response.body), response.is_ended) == (code, b"", True)
            assert connection.wait_for(connection.request(mounted.path("/describe").encode())).status == 200
        return

    request = b"GET %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % target
    status, headers, body = exchange(mounted.edge, request)

    assert (status, body) == (code, b"")
    assert "transfer-encoding" not in headers
    assert headers.get("content-length", "0") == "0"


def test_large_headers_of_an_answer_arrive_whole(mounted: Mounted, protocol: str) -> None:
    assert mounted.ask(protocol, "/large?size=50000").headers["x-large"] == "y" * 50_000


def test_large_headers_of_a_request_arrive_whole(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/large?size=1", headers={"x-large": "x" * 12_000})

    assert answer.headers["x-seen"] == "12000"
