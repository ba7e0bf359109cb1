"""What a request that cannot be served is answered with. Nothing of the answer's form belongs here."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus


class BadRequestError(Exception):
    """What came cannot be served; the connection ends after this answer.

    Attributes:
        status: of the answer.
        detail: one sentence for the client.
        fields: for the answer.
        is_http: False where the first line names another protocol, which has no use for an answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = list(fields)
        self.is_http = True


def malformed(detail: str) -> BadRequestError:
    """The error of what breaks the protocol's grammar, or could be read in two ways."""
    return BadRequestError(HTTPStatus.BAD_REQUEST, detail)
