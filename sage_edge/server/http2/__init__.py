"""HTTP/2 (RFC 9113) without any I/O: codec, streams, flow control, limits, drain.

Nothing here imports trio or asyncio; `server.connection` moves the bytes and runs the applications.
"""
