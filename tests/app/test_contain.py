"""What an application ends with, as an error of its request alone."""

from __future__ import annotations

import pytest

from sage_edge.app.asgi import contain

OTHERS = [SystemExit("no licence"), KeyboardInterrupt(), BaseExceptionGroup("of a task group", [SystemExit(1)])]


def test_an_exception_is_an_error_of_its_request_as_it_is() -> None:
    error = ValueError("on purpose")
    assert contain(error) is error


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_what_is_no_exception_becomes_one_with_its_cause(error: BaseException) -> None:
    contained = contain(error)
    assert str(contained) == f"the gateway raised {error!r}"
    assert contained.__cause__ is error
