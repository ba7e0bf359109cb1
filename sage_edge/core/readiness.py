"""Whether the edge should be sent traffic: a latch that only moves one way, and named checks.

Decides and reports; it measures nothing itself. The answers of `/healthz` and `/readyz` are
built here, so that every part that shows readiness shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Literal

SERVICE_NAME = "SAGE Edge"

Status = Literal["ready", "starting", "draining", "degraded"]


class Phase(IntEnum):
    """The life of the edge. It only goes forward."""

    STARTING = 0
    READY = 1
    DRAINING = 2
    STOPPED = 3


@dataclass(frozen=True)
class Check:
    """One thing readiness depends on.

    Attributes:
        is_ok: whether it is as it should be.
        detail: one line for a person.
        measures: figures with their unit in the name, for machines.
        decides: whether readiness goes by it; it is for information otherwise, and always ok.
    """

    is_ok: bool
    detail: str
    measures: Mapping[str, float | int | str] = field(default_factory=dict)
    decides: bool = True


@dataclass(frozen=True)
class Report:
    """Readiness at one moment."""

    status: Status
    checks: Mapping[str, Check]

    @property
    def http_status(self) -> HTTPStatus:
        """200 when ready, otherwise 503."""
        return HTTPStatus.OK if self.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE


class Readiness:
    """The phase, and the checks asked at each report.

    Args:
        llm_prefix: as in the seed's answers, "/" for the root.
        is_llm_mounted: False with `--no-llm`.
    """

    def __init__(self, *, llm_prefix: str, is_llm_mounted: bool) -> None:
        self.llm_prefix = llm_prefix
        self.is_llm_mounted = is_llm_mounted
        self._phase = Phase.STARTING
        self._checks: dict[str, Callable[[], Check]] = {}

    @property
    def phase(self) -> Phase:
        """Where in its life the edge is."""
        return self._phase

    def advance(self, phase: Phase) -> None:
        """Go forward to a phase; staying where it is does nothing.

        Raises:
            ValueError: the phase lies behind.
        """
        if phase < self._phase:
            raise ValueError(f"readiness cannot go back from {self._phase.name} to {phase.name}")
        self._phase = phase

    def add_check(self, name: str, check: Callable[[], Check]) -> None:
        """Ask `check` at every report. It must answer at once, whatever state its subject is in."""
        self._checks[name] = check

    def report(self) -> Report:
        """Readiness now."""
        checks = {
            "started": Check(self._phase > Phase.STARTING, self._phase.name.lower()),
            "accepting": Check(
                self._phase < Phase.DRAINING,
                "accepting new requests" if self._phase < Phase.DRAINING else "draining",
            ),
            **{name: check() for name, check in self._checks.items()},
        }
        return Report(self._status(checks.values()), checks)

    def liveness_body(self) -> dict[str, Any]:
        """The body of `/healthz`, in the seed's keys."""
        return self._body("ok")

    def readiness_body(self, report: Report) -> dict[str, Any]:
        """The body of `/readyz`: the seed's keys, and the checks."""
        checks = {
            name: {"ok": check.is_ok, "detail": check.detail, **check.measures} for name, check in report.checks.items()
        }
        return {**self._body(report.status), "checks": checks}

    def _status(self, checks: Iterable[Check]) -> Status:
        if self._phase >= Phase.DRAINING:
            return "draining"
        if self._phase is Phase.STARTING:
            return "starting"
        return "ready" if all(check.is_ok for check in checks) else "degraded"

    def _body(self, status: str) -> dict[str, Any]:
        return {
            "status": status,
            "service": SERVICE_NAME,
            "llm_mounted": self.is_llm_mounted,
            "llm_prefix": self.llm_prefix,
        }
