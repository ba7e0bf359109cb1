"""What holds for everything a client may send, and for every way it may be cut."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.http2_cases import run_case, run_cut_case
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import PREFACE, get_fields, headers_frame, plain_block, settings_frame

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
BEGUN = PREFACE + settings_frame() + headers_frame(1, plain_block(get_fields(method=b"POST")), end=False)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=150)
def test_arbitrary_bytes_are_answered_with_frames(data: bytes, cuts: list[int]) -> None:
    whole, cut = HTTP2Client(is_open=False), HTTP2Client(is_open=False)
    whole.feed(BEGUN + data)
    cut.feed(BEGUN)
    ends = sorted(cuts)
    for begin, end in zip([0, *ends], [*ends, len(data)], strict=True):
        cut.feed(data[begin:end])
    answer = whole.take()
    assert len(answer) <= len(data) // 9 + 5
    assert [one.kind for one in answer] == [one.kind for one in cut.take()]


@given(st.binary(max_size=40))
@settings(max_examples=60)
def test_arbitrary_first_bytes_are_answered_with_frames(data: bytes) -> None:
    client = HTTP2Client(is_open=False)
    client.feed(data)
    assert len(client.take()) <= 4
    assert client.connection.wants_close == (not PREFACE.startswith(data))


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, suppress_health_check=SLOW)
def test_whatever_a_client_and_its_applications_do_is_answered_in_order_and_leaves_nothing(random: Random) -> None:
    run_case(random)


@given(st.randoms(use_true_random=False))
@settings(max_examples=100, suppress_health_check=SLOW)
def test_it_makes_no_difference_how_the_bytes_are_cut(random: Random) -> None:
    run_cut_case(random)
