"""What a connection's applications cost their client's address, and when those are cancelled that nobody waits for."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.core.budgets import HEAD_COST_FACTOR, ClientAccount
from sage_edge.server.running_applications import PATIENT_WITH, RunningApplications
from tests.kit.asgi_calls import http_scope
from tests.kit.exchange import RecordingExchange

GRACE_SECONDS = 10.0


async def sleep(scope: Any, receive: Any, send: Any) -> None:
    await trio.sleep_forever()


def begin(
    running: RunningApplications, nursery: trio.Nursery, *, head_bytes: int = 0, state_bytes: int = 0
) -> Exchange:
    exchange = RecordingExchange(scope=http_scope())
    exchange.head_bytes, exchange.state_bytes = head_bytes, state_bytes
    running.add(exchange)
    nursery.start_soon(running.run, exchange, lambda _: None)
    return exchange


async def test_a_request_costs_its_address_as_long_as_its_application_runs(nursery: trio.Nursery) -> None:
    account = ClientAccount(2**20)
    running = RunningApplications(sleep, account, GRACE_SECONDS, bool)
    begin(running, nursery, head_bytes=1000)
    begin(running, nursery, state_bytes=5000)
    await trio.testing.wait_all_tasks_blocked()
    assert account.buffered_bytes == HEAD_COST_FACTOR * 1000 + 5000
    assert account.requests == 2
    assert len(running) == 2
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        while nursery.child_tasks:
            await trio.lowlevel.checkpoint()
    assert account.buffered_bytes == account.requests == len(running) == 0


async def test_one_that_does_not_begin_costs_nothing_any_more() -> None:
    account, left = ClientAccount(2**20), []
    running = RunningApplications(sleep, account, GRACE_SECONDS, lambda: left.append(True))
    exchange = RecordingExchange(scope=http_scope())
    running.add(exchange)
    exchange.lose_client()
    running.close()
    assert not left
    running.remove(exchange)
    assert account.buffered_bytes == account.requests == len(running) == 0
    assert left == [True]
    assert EXCHANGE not in exchange.scope


async def test_where_many_are_left_behind_no_more_have_time_to_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    account = ClientAccount(2**30)
    running = RunningApplications(sleep, account, GRACE_SECONDS, bool)
    exchanges = [begin(running, nursery) for _ in range(PATIENT_WITH + 50)]
    await trio.testing.wait_all_tasks_blocked()
    for exchange in exchanges:
        exchange.lose_client()
    await trio.testing.wait_all_tasks_blocked()
    assert len(running) == account.expiring == PATIENT_WITH
    await trio.sleep(GRACE_SECONDS / 2)
    assert len(running) == PATIENT_WITH
    await trio.sleep(GRACE_SECONDS)
    assert len(running) == account.expiring == 0


async def test_one_that_is_spared_is_not_one_of_the_many(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    account = ClientAccount(2**30)
    running = RunningApplications(sleep, account, GRACE_SECONDS, bool)
    exchange = begin(running, nursery)
    await trio.testing.wait_all_tasks_blocked()
    exchange.expect_end()
    assert account.expiring == 1
    exchange.finish()  # what follows a whole answer may go on
    assert account.expiring == 0
    await trio.sleep(100 * GRACE_SECONDS)
    assert len(running) == 1
    nursery.cancel_scope.cancel()


async def test_what_ends_with_its_answer_cut_is_not_to_be_cancelled_any_more(nursery: trio.Nursery) -> None:
    async def answer_half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    account = ClientAccount(2**20)
    running = RunningApplications(answer_half, account, GRACE_SECONDS, bool)
    exchange = RecordingExchange(scope=http_scope())
    running.add(exchange)
    await running.run(exchange, lambda _: exchange.lose_client())  # as a stream that is reset for it
    exchange.lose_client()
    assert account.expiring == account.buffered_bytes == 0


async def test_one_whose_client_closed_with_a_word_has_its_own_time_and_keeps_no_place(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    account, left = ClientAccount(2**20), []
    running = RunningApplications(sleep, account, GRACE_SECONDS, lambda: left.append(True))
    exchange = begin(running, nursery)
    await trio.testing.wait_all_tasks_blocked()
    exchange.grace_seconds = 6 * GRACE_SECONDS
    exchange.lose_client()
    await trio.sleep(5 * GRACE_SECONDS)
    assert len(running) == 1
    await trio.sleep(2 * GRACE_SECONDS)
    assert len(running) == account.expiring == 0
