"""HTTP/1.1 (RFC 9112) without any I/O: parser, response framing, and the protocol of a connection."""
