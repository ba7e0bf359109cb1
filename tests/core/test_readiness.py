"""Readiness goes one way, and is told from the phase and the checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.readiness import Check, Phase, Readiness

GOOD, BAD = Check(True, "as it should be"), Check(False, "not as it should be")


def new_readiness(phase: Phase = Phase.STARTING) -> Readiness:
    readiness = Readiness(llm_prefix="/llm", is_llm_mounted=True)
    readiness.advance(phase)
    return readiness


@given(st.lists(st.sampled_from(Phase), max_size=8))
def test_the_phase_never_goes_back(phases: list[Phase]) -> None:
    readiness = new_readiness()
    for phase in phases:
        before = readiness.phase
        if phase < before:
            with pytest.raises(ValueError, match=f"cannot go back from {before.name} to {phase.name}"):
                readiness.advance(phase)
            assert readiness.phase is before
        else:
            readiness.advance(phase)
            assert readiness.phase is phase


@pytest.mark.parametrize(
    ("phase", "check", "status", "http_status"),
    [
        (Phase.STARTING, GOOD, "starting", 503),
        (Phase.STARTING, BAD, "starting", 503),
        (Phase.READY, GOOD, "ready", 200),
        (Phase.READY, BAD, "degraded", 503),
        (Phase.DRAINING, GOOD, "draining", 503),
        (Phase.DRAINING, BAD, "draining", 503),
        (Phase.STOPPED, GOOD, "draining", 503),
    ],
)
def test_the_status_is_told_from_phase_and_checks(phase: Phase, check: Check, status: str, http_status: int) -> None:
    readiness = new_readiness(phase)
    readiness.add_check("a", lambda: GOOD)
    readiness.add_check("b", lambda: check)
    report = readiness.report()
    assert (report.status, report.http_status) == (status, http_status)


def test_checks_are_asked_at_every_report() -> None:
    readiness = new_readiness(Phase.READY)
    answers = iter([GOOD, BAD])
    readiness.add_check("a", lambda: next(answers))
    assert [readiness.report().status for _ in range(2)] == ["ready", "degraded"]


@pytest.mark.parametrize(
    ("phase", "started", "accepting"),
    [
        (Phase.STARTING, Check(False, "starting"), Check(True, "accepting new requests")),
        (Phase.READY, Check(True, "ready"), Check(True, "accepting new requests")),
        (Phase.DRAINING, Check(True, "draining"), Check(False, "draining")),
        (Phase.STOPPED, Check(True, "stopped"), Check(False, "draining")),
    ],
)
def test_the_phase_is_shown_as_two_checks(phase: Phase, started: Check, accepting: Check) -> None:
    assert new_readiness(phase).report().checks == {"started": started, "accepting": accepting}


def test_the_bodies_have_the_seeds_keys_in_its_order() -> None:
    readiness = new_readiness(Phase.READY)
    readiness.add_check("loop", lambda: Check(True, "answers", {"lag_seconds": 0.1}))
    seed = {"service": "SAGE Edge", "llm_mounted": True, "llm_prefix": "/llm"}
    assert list(readiness.liveness_body().items()) == [("status", "ok"), *seed.items()]
    body = readiness.readiness_body(readiness.report())
    assert list(body) == ["status", *seed, "checks"]
    assert {**seed, "status": "ready"}.items() <= body.items()
    assert body["checks"]["loop"] == {"ok": True, "detail": "answers", "lag_seconds": 0.1}
