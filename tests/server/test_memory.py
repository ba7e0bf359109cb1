"""What counts as a process's memory where a limit is set to it."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from sage_edge.server.memory import allocated_bytes

SIZE_BYTES = 64 * 2**20


def allocated_for(statement: str) -> int:
    """What a process has allocated once it has run a statement, beyond what it had before."""
    lines = (
        "import mmap, os, tempfile",
        "from sage_edge.server.memory import allocated_bytes",
        "file = tempfile.TemporaryFile(dir='/var/tmp')",  # on a disk: what is in a tmpfs is allocated
        f"file.write(b'x' * {SIZE_BYTES})",
        "file.flush()",
        "before = allocated_bytes(os.getpid())",
        statement,
        "print(allocated_bytes(os.getpid()) - before)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_file_that_is_mapped_and_read_does_not_count() -> None:
    read = f"pages = mmap.mmap(file.fileno(), 0); sum(pages[:: {mmap.PAGESIZE}])"
    assert allocated_for(read) < SIZE_BYTES // 4


@pytest.mark.parametrize(
    "statement",
    [
        f"own = b'x' * {SIZE_BYTES}",
        f"copied = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY); copied[:] = b'x' * {SIZE_BYTES}",
        f"shared = mmap.mmap(-1, {SIZE_BYTES}); shared[:] = b'x' * {SIZE_BYTES}",
    ],
    ids=["own", "copied on write", "shared"],
)
def test_what_it_has_written_counts(statement: str) -> None:
    assert SIZE_BYTES * 3 // 4 < allocated_for(statement) < SIZE_BYTES * 5 // 4


def test_nothing_is_known_of_a_process_that_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert allocated_bytes(process.pid) == 0
