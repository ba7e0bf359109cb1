"""A raw HTTP/1.1 client: sends the bytes it is told to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse

from tests.kit.edge import WAIT_SECONDS, Edge


@contextmanager
def raw_http1(edge: Edge) -> Iterator[socket.socket]:
    """A connection to an edge, over TLS with ALPN http/1.1 if it serves TLS."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=WAIT_SECONDS) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if edge.ca is None:
            yield sock
            return
        with edge.ssl_context("http/1.1").wrap_socket(sock, server_hostname="localhost") as stream:
            yield stream


def exchange(edge: Edge, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request on a connection of its own; the status, the headers by lower-case name, and the body."""
    with raw_http1(edge) as sock:
        sock.sendall(request)
        response = HTTPResponse(sock)
        response.begin()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
