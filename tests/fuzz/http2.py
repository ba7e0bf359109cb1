"""Fuzz the HTTP/2 connection: `python -m tests.fuzz.http2 --minutes 30`.

A seed that fails is printed with what it raised, and is run again with `--seed`.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from time import monotonic

from sage_edge.core.logger import send_lines
from tests.fuzz.http2_cases import run_case, run_cut_case

CASE_SECONDS = 10.0
"""Of the processor's time. A case that takes longer hangs."""
WARM_UP_CASES = 2000
REPORT_SECONDS = 60
CASES: tuple[Callable[[Random], None], ...] = (run_case, run_cut_case)


class HangError(BaseException):
    """A case does not end. No Exception, so that nothing takes it for one."""


def _raise_hang(*_: object) -> None:
    raise HangError


def rss_bytes() -> int:
    """What the process has of the machine's memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run_seed(seed: int) -> BaseException | None:
    """Run one case; what it raised."""
    random = Random(seed)  # noqa: S311  # to be repeated, not to be secret
    signal.setitimer(signal.ITIMER_VIRTUAL, CASE_SECONDS)
    try:
        CASES[seed % 4 == 0](random)  # every fourth is about cuts
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in an extension is none of Exception's
        return error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def main() -> int:
    """Run; the number of seeds that failed, up to 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--first", type=int, help="begin with this seed, not with a random one")
    options = parser.parse_args()
    send_lines(lambda *_: None)
    signal.signal(signal.SIGVTALRM, _raise_hang)
    say = sys.stdout.write
    if options.seed is not None:
        error = run_seed(options.seed)
        if error is not None:
            say("".join(traceback.format_exception(error)))
        return error is not None
    first = seed = SystemRandom().randrange(2**62) if options.first is None else options.first
    say(f"first seed {first}\n")
    begin = reported = monotonic()
    crashes: dict[str, int] = {}
    warm_bytes = 0
    most_bytes = 0
    while monotonic() - begin < 60 * options.minutes:
        error = run_seed(seed)
        if error is not None:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__}: {error} at {last.filename}:{last.lineno}"
            crashes[where] = crashes.get(where, 0) + 1
            if crashes[where] == 1:
                say(f"seed {seed}: {where}\n")
        seed += 1
        if seed - first == WARM_UP_CASES:
            warm_bytes = rss_bytes()
        if not seed % 100:
            most_bytes = max(most_bytes, rss_bytes())
        if monotonic() - reported > REPORT_SECONDS:
            reported = monotonic()
            say(f"{seed - first} cases, {sum(crashes.values())} failed, grown {most_bytes - warm_bytes:,} bytes\n")
            sys.stdout.flush()
    grown = most_bytes - warm_bytes if warm_bytes else 0
    say(f"{seed - first} cases from seed {first}: {sum(crashes.values())} failed in {len(crashes)} ways\n")
    say(f"memory: {warm_bytes:,} bytes after {WARM_UP_CASES} cases, at most {grown:,} more after that\n")
    return bool(crashes)


if __name__ == "__main__":
    sys.exit(main())
