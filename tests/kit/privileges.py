"""Running a program as a user who is not all-powerful, also where the tests run as root.

Here: what a child gives up before it starts. Not here: starting it.
"""

from __future__ import annotations

import ctypes
import os

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_NET_BIND_SERVICE = 10

# Looked up in the parent: between fork and exec a child should do as little as it can.
_libc = ctypes.CDLL(None, use_errno=True)


def without_capabilities() -> None:
    """Give up root's power over file modes and low ports; for `subprocess`'s `preexec_fn`.

    On exec root regains every capability of the bounding set, and only those, so they are dropped from that
    set. Files that root owns then obey their mode bits. Other users have no such powers to give up.
    """
    if os.geteuid() != 0:
        return
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"cannot drop capability {capability}")
