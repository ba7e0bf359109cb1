"""What a client may do in an interval, and what it may have of the process, against plain models of both."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage_edge.core.budgets import REQUEST_COST_BYTES, REQUESTS_FACTOR, Accounts, Budget, ClientAccount

NOW = 1000.0


class Bucket:
    """A budget in exact numbers."""

    def __init__(self, limit: int, per_seconds: float) -> None:
        self.limit = limit
        self.per_second = limit / Fraction(per_seconds)
        self.left = Fraction(limit)

    def spend(self, after_seconds: float) -> bool:
        self.left = min(Fraction(self.limit), self.left + Fraction(after_seconds) * self.per_second)
        if self.left < 1:
            return False
        self.left -= 1
        return True


def test_every_sequence_of_spending_and_waiting() -> None:
    # Waits and rates that floating point holds exactly.
    for limit, per_seconds, waits in product((1, 2, 3), (0.5, 2.0), product((0, 0.125, 0.5, 4), repeat=5)):
        budget, bucket, now = Budget(limit, per_seconds, NOW), Bucket(limit, per_seconds), NOW
        for wait in waits:
            now += wait
            assert budget.spend(now) == bucket.spend(wait), (limit, per_seconds, waits)


def test_a_budget_can_be_used_up_at_once_and_not_overdrawn() -> None:
    budget = Budget(100, 10.0, NOW)
    assert [budget.spend(NOW) for _ in range(102)] == [True] * 100 + [False] * 2


def test_a_budget_fills_within_its_interval_and_no_further() -> None:
    budget = Budget(100, 10.0, NOW)
    for now in (NOW, NOW + 10, NOW + 1e6):
        assert sum(budget.spend(now) for _ in range(200)) == 100


def test_a_refusal_costs_nothing() -> None:
    budget = Budget(1, 1.0, NOW)
    assert budget.spend(NOW)
    assert [budget.spend(NOW + wait) for wait in (0.25, 0.5, 0.75, 1.0)] == [False, False, False, True]


@given(
    limit=st.integers(1, 1000),
    per_seconds=st.floats(0.01, 86_400),
    waits=st.lists(st.one_of(st.just(0.0), st.floats(0, 100), st.floats(0, 0.01)), max_size=200),
)
def test_in_no_interval_more_is_spent_than_the_limit_and_what_was_filled_in_it(
    limit: int, per_seconds: float, waits: list[float]
) -> None:
    budget = Budget(limit, per_seconds, NOW)
    now, spent_at = NOW, []
    for wait in waits:
        now += wait
        if budget.spend(now):
            spent_at.append(now)
    for first, begins_at in enumerate(spent_at):
        for last in range(first, len(spent_at)):
            filled = (spent_at[last] - begins_at) * limit / per_seconds
            assert last - first + 1 <= limit + filled + 1e-6


@given(limit=st.integers(1, 1000), per_seconds=st.floats(0.01, 1000), count=st.integers(1, 200))
def test_whoever_keeps_to_the_rate_is_never_refused(limit: int, per_seconds: float, count: int) -> None:
    budget = Budget(limit, per_seconds, NOW)
    step = per_seconds / limit * (1 + 1e-6)
    assert all(budget.spend(NOW + number * step) for number in range(count))


@pytest.mark.parametrize(("buffered_bytes", "is_exhausted"), [(0, False), (99, False), (100, True), (101, True)])
def test_an_account_is_exhausted_with_its_last_byte(buffered_bytes: int, is_exhausted: bool) -> None:
    account = ClientAccount(100)
    account.buffered_bytes += buffered_bytes
    assert account.is_exhausted is is_exhausted
    account.buffered_bytes -= buffered_bytes
    assert not account.is_exhausted


CLIENTS = ("192.0.2.1", "192.0.2.2", "2001:db8::1")


class AccountsMachine(RuleBasedStateMachine):
    """Accounts against a count of connections."""

    max_connections = 5
    max_connections_per_client = 3

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts(
            max_connections=self.max_connections,
            max_connections_per_client=self.max_connections_per_client,
            max_buffered_bytes=100,
        )
        self.connections: Counter[str] = Counter()
        self.open_accounts: dict[str, ClientAccount] = {}

    @rule(client=st.sampled_from(CLIENTS))
    def open(self, client: str) -> None:
        account = self.accounts.open(client)
        is_one_too_many = (
            self.connections.total() == self.max_connections
            or self.connections[client] == self.max_connections_per_client
        )
        assert (account is None) == is_one_too_many
        if account is None:
            return
        self.connections[client] += 1
        assert self.open_accounts.setdefault(client, account) is account, "one for all its connections"
        assert not account.is_exhausted

    @precondition(lambda self: self.open_accounts)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.open_accounts)))
        self.accounts.close(self.open_accounts[client])
        self.connections[client] -= 1
        if not self.connections[client]:
            del self.open_accounts[client]

    @invariant()
    def every_account_knows_its_connections(self) -> None:
        for client, account in self.open_accounts.items():
            assert account.connections == self.connections[client]


class NarrowAccountsMachine(AccountsMachine):
    """With less for all than for one."""

    max_connections = 2
    max_connections_per_client = 3


TestAccounts = AccountsMachine.TestCase
TestNarrowAccounts = NarrowAccountsMachine.TestCase


def test_an_account_has_room_for_requests_beside_what_waits() -> None:
    account = ClientAccount(10 * REQUEST_COST_BYTES)
    account.buffered_bytes = 10 * REQUEST_COST_BYTES - 1
    account.requests = 10 * REQUESTS_FACTOR - 1
    assert not account.is_exhausted
    account.requests += 1
    assert account.is_exhausted
    account.buffered_bytes = 0
    assert account.is_exhausted


def test_a_client_that_has_left_is_forgotten_with_what_it_had() -> None:
    accounts = Accounts(max_connections=10, max_connections_per_client=10, max_buffered_bytes=1)
    first = accounts.open("192.0.2.1")
    assert first is not None
    first.buffered_bytes = 5
    accounts.close(first)
    del first
    second = accounts.open("192.0.2.1")
    assert second is not None
    assert not second.is_exhausted


def test_a_client_that_comes_back_while_something_of_its_runs_has_not_shed_what_that_takes() -> None:
    accounts = Accounts(max_connections=10, max_connections_per_client=1, max_buffered_bytes=1)
    first = accounts.open("192.0.2.1")
    assert first is not None
    first.buffered_bytes = 5
    accounts.close(first)
    second = accounts.open("192.0.2.1")
    assert second is first
    assert second.connections == 1
    assert second.is_exhausted


def test_a_connection_that_was_refused_leaves_nothing_behind() -> None:
    accounts = Accounts(max_connections=1, max_connections_per_client=1, max_buffered_bytes=1)
    account = accounts.open("192.0.2.1")
    assert account is not None
    assert accounts.open("192.0.2.2") is None
    accounts.close(account)
    assert accounts.connections == 0
    assert accounts.open("192.0.2.2") is not None
