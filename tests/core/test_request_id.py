"""Ids that are taken, and ids that are made."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.request_id import is_sane_request_id, new_request_id


@pytest.mark.parametrize("value", [b"a", b"a" * 128, b"0190-ab_c.d~e", b"trace:1/2+3=", b"me@here"], ids=repr)
def test_a_sane_id_is_taken(value: bytes) -> None:
    assert is_sane_request_id(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a" * 129,
        b"a b",
        b"a\tb",
        b"a\n",
        b'a"',
        b"a'",
        b"<a>",
        b"a;b",
        b"a,b",
        b"%41",
        b"a\\",
        b"\xc3\xa9",
        b"\x7f",
    ],
    ids=repr,
)
def test_anything_else_is_not(value: bytes) -> None:
    assert not is_sane_request_id(value)


def test_an_id_is_that_of_the_rfcs_example() -> None:
    # RFC 9562 appendix A.6.
    random_bits = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert new_request_id(0x017F22E279B0, random_bits) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_an_id_is_a_uuid_of_version_7_with_its_time_and_randomness(milliseconds: int, random_bits: int) -> None:
    text = new_request_id(milliseconds, random_bits)
    made = UUID(text)
    assert str(made) == text
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == milliseconds
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (2**62 - 1) == random_bits
    assert is_sane_request_id(text.encode())


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_later_ids_sort_after_earlier_ones(milliseconds: int, earlier: int, later: int) -> None:
    assert new_request_id(milliseconds, earlier) < new_request_id(milliseconds + 1, later)
