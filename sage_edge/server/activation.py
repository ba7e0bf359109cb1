"""The listening sockets that systemd, or whatever follows its protocol, passes on: sd_listen_fds(3).

Finds and hands out descriptors. What a descriptor is, `server.listener` finds out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, MutableMapping, Sequence

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
COUNT_VARIABLE = "LISTEN_FDS"
PROCESS_VARIABLE = "LISTEN_PID"
NAMES_VARIABLE = "LISTEN_FDNAMES"


class PassedSockets:
    """Descriptors that were passed on and not taken yet.

    Args:
        names: of each descriptor: the FileDescriptorName of its socket unit.
    """

    def __init__(self, names: Sequence[tuple[int, str]] = ()) -> None:
        self._names = list(names)
        self._reserved: set[str] = set()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> PassedSockets:
        """Those that the environment tells of. The variables are removed, and no child inherits the descriptors.

        Args:
            environ: usually `os.environ`.
        """
        count = environ.pop(COUNT_VARIABLE, "")
        process = environ.pop(PROCESS_VARIABLE, "")
        names = environ.pop(NAMES_VARIABLE, "").split(":")
        if process != str(os.getpid()) or not count.isdecimal():
            return cls()
        found = []
        for index in range(int(count)):
            descriptor = FIRST_DESCRIPTOR + index
            try:
                os.set_inheritable(descriptor, False)
            except OSError:  # there are fewer than it says
                break
            found.append((descriptor, names[index] if index < len(names) else ""))
        return cls(found)

    def __len__(self) -> int:
        return len(self._find(None))

    def reserve(self, names: Iterable[str]) -> None:
        """Keep those of these names for who asks for them by it: they do not count among all."""
        self._reserved.update(names)

    def take(self, name: str | None) -> Sequence[int]:
        """The descriptors of a name, or all where it is None.

        Raises:
            OSError: there are none.
        """
        taken = self._find(name)
        if not taken:
            raise OSError(errno.ENXIO, f"systemd passed no socket{f' called {name}' if name else ''}")
        self._names = [item for item in self._names if item[0] not in taken]
        return taken

    def _find(self, name: str | None) -> Sequence[int]:
        return [
            descriptor
            for descriptor, each in self._names
            if (each not in self._reserved if name is None else each == name)
        ]
