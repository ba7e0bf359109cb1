"""Errors carry faults, and ask for the gravest exit code."""

from __future__ import annotations

import errno

import pytest

from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of


def test_an_error_says_what_all_its_faults_are() -> None:
    faults = (Fault("one"), Fault("two", "a hint"))
    error = EdgeError(*faults)
    assert str(error) == "one; two"
    assert error.faults == faults


def test_an_error_without_a_fault_is_none() -> None:
    with pytest.raises(ValueError, match="at least one fault"):
        EdgeError()


@pytest.mark.parametrize(
    ("codes", "exit_code"),
    [
        ([ExitCode.CONFIGURATION], 2),
        ([ExitCode.STARTUP], 3),
        ([ExitCode.STARTUP, ExitCode.CONFIGURATION], 2),
        ([ExitCode.STARTUP, ExitCode.STARTUP], 3),
    ],
)
def test_a_fault_of_configuration_decides_the_exit_code(codes: list[ExitCode], exit_code: int) -> None:
    assert EdgeError(*(Fault("what", code=code) for code in codes)).exit_code == exit_code


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOENT, "No such file or directory"), "no such file"),
        (OSError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError("Something else"), "something else"),
    ],
)
def test_the_systems_reason_is_a_few_lower_case_words(error: OSError, reason: str) -> None:
    assert reason_of(error) == reason
