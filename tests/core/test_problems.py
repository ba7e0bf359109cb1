"""What went wrong last: few, short, the same ones together, and nothing that a client sent."""

from __future__ import annotations

from time import perf_counter

from sage_edge.core.problems import KEPT, LONGEST_TEXT, Problem, Problems, describe_problem, leave_out_arguments


def test_the_latest_comes_first_and_the_same_are_one() -> None:
    problems = Problems()
    for at, text in enumerate(["a", "b", "a", "c"]):
        problems.note(Problem(at, "error", text))
    assert [(problem.text, problem.at, problem.count) for problem in problems.latest] == [
        ("c", 3, 1),
        ("a", 2, 2),
        ("b", 1, 1),
    ]


def test_workers_are_told_apart() -> None:
    problems = Problems()
    problems.note(Problem(1, "error", "a", worker=1))
    problems.note(Problem(2, "error", "a", worker=2))
    assert [problem.worker for problem in problems.latest] == [2, 1]


def test_so_many_are_kept_and_wait_to_be_told() -> None:
    problems = Problems()
    for at in range(KEPT + 10):
        problems.note(Problem(at, "warning", str(at)))
    assert len(problems.latest) == KEPT
    assert [problem.at for problem in problems.take_untold()] == list(range(10, KEPT + 10))
    assert problems.take_untold() == []


def test_a_message_brings_it_to_another_process() -> None:
    problem = Problem(1.5, "error", "a", worker=3)
    assert Problem.from_message(problem.as_message()) == problem


def test_the_text_is_the_event_the_reason_and_the_path() -> None:
    assert describe_problem("failed", {}) == "failed"
    assert describe_problem("failed", {"reason": "no room", "client": "192.0.2.1"}) == "failed: no room"
    assert describe_problem("failed", {"exc_info": ValueError("a prompt"), "path": "/x"}) == "failed: ValueError (/x)"
    assert describe_problem("failed", {"exc_info": True}) == "failed"


def test_a_long_text_is_cut() -> None:
    assert len(describe_problem("x" * 1000, {})) == LONGEST_TEXT


def test_what_is_filled_into_a_line_is_left_out() -> None:
    pattern = "model %s: %(tokens)5d tokens, %.2f s, 100 %% of %-8r"
    assert leave_out_arguments(pattern) == "model …: … tokens, … s, 100 % of …"


def test_the_time_is_linear_in_a_pattern_that_a_client_may_have_written() -> None:
    pattern = "%" + "0" * 60_000 + "! %s"
    before = perf_counter()
    assert leave_out_arguments(pattern) == pattern.replace("%s", "…")
    assert perf_counter() - before < 3  # where flags and width are told apart in every way, it is a minute
