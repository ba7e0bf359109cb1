"""What nobody has read of a request that is answered is kept no longer: its application is told that it is over."""

from __future__ import annotations

import pytest

from tests.kit.http1_client import HTTP1Client
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import data_frame
from tests.kit.protocol_host import receive, respond

BODY = bytes(10_000)


def test_over_http1() -> None:
    client = HTTP1Client()
    exchange = client.ask(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))
    assert client.host.account.buffered_bytes > len(BODY)
    respond(exchange)
    client.take()
    assert receive(exchange) == {"type": "http.disconnect"}
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize("is_whole", [True, False])
def test_over_http2(is_whole: bool) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(stream_id, BODY, end=is_whole))
    assert client.host.account.buffered_bytes > len(BODY)
    respond(exchange)
    assert client.answer(stream_id).has_ended
    if not is_whole:
        client.send(data_frame(stream_id, BODY, end=True))
    assert receive(exchange) == {"type": "http.disconnect"}
    assert client.host.account.buffered_bytes == 0
