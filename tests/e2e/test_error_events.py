"""What a gateway sends just before it fails, an error event above all, reaches its client: then the answer is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.edge import running_edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

INTERNAL_ERROR = 2
EVENT = b'data: {"error": "out of memory"}\n\n'
LARGE_BYTES = 163_840
GATEWAY = f"""
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}})
    if scope["path"] == "/large":
        for _ in range(20):
            await send({{"type": "http.response.body", "body": bytes({LARGE_BYTES // 20}), "more_body": True}})
    else:
        await send({{"type": "http.response.body", "body": {EVENT!r}, "more_body": True}})
    if scope["path"] != "/returns":
        raise MemoryError("out of memory")
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_it_comes_before_the_cut(tmp_path: Path, certificates: Path, loop: str) -> None:
    (tmp_path / "failing.py").write_text(GATEWAY)
    options = ("--gateway", "failing:app", "--gateway-loop", loop)
    with running_edge(*options, certificates=certificates, cwd=tmp_path) as edge:
        for path, length_bytes in ((b"/raises", len(EVENT)), (b"/returns", len(EVENT)), (b"/large", LARGE_BYTES)):
            with raw_http2(edge) as connection:
                response = connection.wait_for(connection.request(path))
            assert (len(response.body), response.is_ended) == (length_bytes, False)
            assert response.reset_code == INTERNAL_ERROR
            with raw_http1(edge) as sock:
                sock.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
            assert not answer.endswith(b"0\r\n\r\n")
            assert EVENT in answer or path == b"/large"
        for path in ("/raises", "/returns"):
            edge.log.wait_for(f"path={path} .*sent_bytes={len(EVENT)} .*ending=error .*events=1$")
