"""Start-up and shutdown of several mounts, each guarded from the others; on trio's clock."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.dispatch import SHUTDOWN_SECONDS, GuardedDispatcher
from sage_edge.app.lifespan import LEAST_START_SECONDS, Mount
from sage_edge.app.native import NativeApplication
from sage_edge.core.exchange import Message
from sage_edge.core.readiness import Readiness
from tests.kit.asgi_calls import Server, lifespan_scope

STARTUP_SECONDS = 5.0
COMPLETE, FAILED = "lifespan.startup.complete", "lifespan.startup.failed"
STOPPED = "lifespan.shutdown.complete"


class Obedient:
    """An application with a lifespan, and what happened in it."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for _ in range(2):
                message = await receive()
                self.steps.append(message["type"])
                await send({"type": f"{message['type']}.complete"})
        except trio.Cancelled:
            self.steps.append("cancelled")
            raise


def sending(*messages: Message) -> ASGIApplication:
    """An application that sends these, one for each that it is told."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await receive()
            await send(message)

    return application


def raising(error: BaseException) -> ASGIApplication:
    """An application that raises in its start-up."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise error

    return application


async def fail_and_raise(scope: Scope, receive: Receive, send: Send) -> None:
    """Fail for a reason, and then in whatever way comes of it; the reason is what counts."""
    await receive()
    await send({"type": FAILED, "message": "no database"})
    await send({"type": FAILED, "message": "ValueError: of what comes of it"})
    raise ValueError("of what comes of it")


async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """Never start."""
    await receive()
    await trio.sleep_forever()


class Edge:
    """A dispatcher whose lifespan runs."""

    def __init__(self, loading_seconds: float = 0.0, /, **applications: ASGIApplication) -> None:
        mounts = [
            Mount(f"/{name}", name, NativeApplication(application), loading_seconds=loading_seconds)
            for name, application in applications.items()
        ]
        self.health = Obedient()
        self.server = Server({"type": "lifespan.startup"})
        readiness = Readiness(llm_prefix="/", is_llm_mounted=True)
        health = Mount("", "health", NativeApplication(self.health))
        self.dispatcher = GuardedDispatcher(health, mounts, readiness, startup_seconds=STARTUP_SECONDS)

    async def run(self) -> None:
        await self.dispatcher(lifespan_scope(), self.server.receive, self.server.send)

    async def start_and_stop(self) -> None:
        self.server.put({"type": "lifespan.shutdown"})
        await self.run()


async def test_every_mount_starts_before_the_edge_and_stops_before_it(nursery: trio.Nursery) -> None:
    a, b = Obedient(), Obedient()
    edge = Edge(a=a, b=b)
    nursery.start_soon(edge.run)
    await edge.server.wait_for(1)
    assert edge.server.types == [COMPLETE]
    assert a.steps == b.steps == edge.health.steps == ["lifespan.startup"]
    edge.server.put({"type": "lifespan.shutdown"})
    await edge.server.wait_for(2)
    assert edge.server.types == [COMPLETE, STOPPED]
    assert a.steps == b.steps == edge.health.steps == ["lifespan.startup", "lifespan.shutdown"]
    assert edge.dispatcher.startup_failures == {}


async def test_a_mount_puts_into_its_state_what_its_requests_see() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["name"] = "a"

    mount = Mount("/a", "a", NativeApplication(application))
    readiness = Readiness(llm_prefix="/", is_llm_mounted=True)
    health = Mount("", "health", Obedient())
    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await GuardedDispatcher(health, [mount], readiness, startup_seconds=1)(
        lifespan_scope(), server.receive, server.send
    )
    assert mount.state == {"name": "a"}
    assert health.state == {}


async def test_mounts_of_the_same_name_start_both() -> None:
    a, b = Obedient(), Obedient()
    mounts = [Mount(f"/{number}", "demo", application) for number, application in enumerate((a, b))]
    readiness = Readiness(llm_prefix="/", is_llm_mounted=True)
    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    dispatcher = GuardedDispatcher(Mount("", "health", Obedient()), mounts, readiness, startup_seconds=1)
    await dispatcher(lifespan_scope(), server.receive, server.send)
    assert a.steps == b.steps == ["lifespan.startup", "lifespan.shutdown"]


FAILURES = {
    "sent": (sending({"type": FAILED, "message": "no database"}), "no database"),
    "sent without a message": (sending({"type": FAILED}), "no reason given"),
    "sent with an empty message": (sending({"type": FAILED, "message": ""}), "no reason given"),
    "sent with a blank message": (sending({"type": FAILED, "message": " \n"}), "no reason given"),
    "sent with a traceback": (
        sending({"type": FAILED, "message": "Traceback:\n  File x\nValueError: no database\n"}),
        "ValueError: no database",
    ),
    "sent and raised": (fail_and_raise, "no database"),
    "raised": (raising(ValueError("no database")), "ValueError: no database"),
    "raised without a message": (raising(ValueError()), "ValueError:"),
    "left": (raising(SystemExit("no licence")), "SystemExit('no licence')"),
    "returned": (sending({"type": "unknown"}), "its lifespan ended before start-up was complete"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_mount_that_fails_to_start_is_named_and_costs_the_others_nothing(failure: str) -> None:
    application, reason = FAILURES[failure]
    other = Obedient()
    edge = Edge(bad=application, other=other)
    await edge.run()
    assert list(edge.dispatcher.startup_failures) == ["bad"]
    assert reason in edge.dispatcher.startup_failures["bad"]
    assert "\n" not in edge.dispatcher.startup_failures["bad"]
    assert edge.server.sent == [{"type": FAILED, "message": f"bad: {edge.dispatcher.startup_failures['bad']}"}]
    assert other.steps == edge.health.steps == ["lifespan.startup", "cancelled"], "cancelled once all have been heard"


async def test_an_error_of_several_lines_is_known_by_its_type() -> None:
    # As pydantic's are, which end in the address of a web page.
    edge = Edge(bad=raising(ValueError("1 validation error\nkey\n  Field required\n    For more see https://x.test")))
    await edge.run()
    assert edge.dispatcher.startup_failures["bad"].startswith("ValueError: 1 validation error")


async def test_all_that_fail_are_named() -> None:
    edge = Edge(a=raising(ValueError("one")), b=Obedient(), c=raising(ValueError("two")))
    await edge.run()
    assert edge.dispatcher.startup_failures == {"a": "ValueError: one", "c": "ValueError: two"}
    assert sorted(edge.server.sent[0]["message"].split("; ")) == ["a: ValueError: one", "c: ValueError: two"]


async def test_a_start_up_that_hangs_is_reported_at_its_limit(autojump_clock: trio.testing.MockClock) -> None:
    edge = Edge(bad=hang, other=Obedient())
    began_at = trio.current_time()
    await edge.run()
    assert trio.current_time() - began_at == pytest.approx(STARTUP_SECONDS)
    assert edge.dispatcher.startup_failures == {"bad": "start-up was not complete within 5 seconds"}


async def test_what_loading_has_taken_is_no_longer_there_for_the_start(autojump_clock: trio.testing.MockClock) -> None:
    for loading_seconds, left_seconds in ((1.5, STARTUP_SECONDS - 1.5), (STARTUP_SECONDS, LEAST_START_SECONDS)):
        edge = Edge(loading_seconds, bad=hang)
        began_at = trio.current_time()
        await edge.run()
        assert trio.current_time() - began_at == pytest.approx(left_seconds)
        share = f"of which loading it took {loading_seconds}"
        assert edge.dispatcher.startup_failures == {"bad": f"start-up was not complete within 5 seconds, {share}"}


async def test_an_application_without_lifespan_whose_loading_took_all_is_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(0.1)  # to its own loop and back
        assert scope["type"] == "http"

    edge = Edge(STARTUP_SECONDS, slow=application)
    await edge.start_and_stop()
    assert edge.server.types == [COMPLETE, STOPPED]


async def test_a_start_up_may_take_until_its_limit(autojump_clock: trio.testing.MockClock) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await trio.sleep(STARTUP_SECONDS - 0.1)
        await send({"type": COMPLETE})
        await receive()

    edge = Edge(slow=application)
    await edge.start_and_stop()
    assert edge.server.types == [COMPLETE, STOPPED]


async def test_an_application_that_is_a_plain_function_does_not_start() -> None:
    edge = Edge(bad=lambda scope, receive, send: None)  # type: ignore[arg-type, return-value]
    await edge.run()
    assert edge.dispatcher.startup_failures == {"bad": "NotAwaitableError: it is not an asynchronous function"}


@pytest.mark.parametrize("error", [None, AssertionError("http only"), KeyError("path")], ids=repr)
async def test_an_application_without_lifespan_support_is_served(error: Exception | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if error is not None:
            raise error

    edge = Edge(plain=application, other=Obedient())
    await edge.start_and_stop()
    assert edge.server.types == [COMPLETE, STOPPED]


async def test_an_application_that_leaves_its_lifespan_after_start_up_is_served() -> None:
    edge = Edge(a=sending({"type": COMPLETE}))
    await edge.start_and_stop()
    assert edge.server.types == [COMPLETE, STOPPED]


SHUTDOWNS = {
    "sent": (
        sending({"type": COMPLETE}, {"type": "lifespan.shutdown.failed", "message": "it is stuck"}),
        "it is stuck",
    ),
    "sent without a message": (sending({"type": COMPLETE}, {"type": "lifespan.shutdown.failed"}), "no reason given"),
}


@pytest.mark.parametrize("failure", SHUTDOWNS)
async def test_a_shutdown_that_fails_is_logged_and_costs_the_others_nothing(
    failure: str, logs: list[MutableMapping[str, Any]]
) -> None:
    application, reason = SHUTDOWNS[failure]
    other = Obedient()
    edge = Edge(bad=application, other=other)
    await edge.start_and_stop()
    assert edge.server.types == [COMPLETE, STOPPED]
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warnings == [{"event": "shutdown failed", "mount": "bad", "reason": reason, "log_level": "warning"}]
    assert other.steps == ["lifespan.startup", "lifespan.shutdown"]


async def test_a_shutdown_that_raises_is_logged_with_its_error(logs: list[MutableMapping[str, Any]]) -> None:
    error = ValueError("no more")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": COMPLETE})
        await receive()
        raise error

    edge = Edge(bad=application)
    await edge.start_and_stop()
    loud = [(entry["event"], entry["mount"]) for entry in logs if entry["log_level"] in {"warning", "error"}]
    assert loud == [("lifespan ended with an error", "bad"), ("shutdown failed", "bad")]
    assert edge.server.types == [COMPLETE, STOPPED]


async def test_a_shutdown_that_hangs_is_given_up_at_its_limit(
    autojump_clock: trio.testing.MockClock, logs: list[MutableMapping[str, Any]]
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": COMPLETE})
        await trio.sleep_forever()

    edge = Edge(bad=application)
    began_at = trio.current_time()
    await edge.start_and_stop()
    assert trio.current_time() - began_at == pytest.approx(SHUTDOWN_SECONDS)
    assert [entry["reason"] for entry in logs if entry["log_level"] == "warning"] == ["not complete within 10 seconds"]
    assert edge.server.types == [COMPLETE, STOPPED]
