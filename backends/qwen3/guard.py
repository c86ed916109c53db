"""The engine's processes die with the server, by SIGKILL too.

vLLM's EngineCore and its workers outlive a server that is killed, with all of their GPU memory (seen for good, with
vLLM 0.32). Linux can send a child a signal when its parent is gone, but the child must ask for it, and those children
run vLLM's code, not ours. vLLM hands each of them its configuration, which has a place for objects of others
(`additional_config`), so a `Guard` travels there. Under `spawn`, a child unpickles its arguments before it runs
anything of vLLM's, and unpickling a `Guard` arms the process; pickled again for a worker, it arms the worker. Under
`fork` nothing is pickled, and a fork hook does the same. It needs no entry point, so no installed package, and no
watchdog process that could die first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""


class Guard:
    """Arms the process it is unpickled in. Passes for a configuration in vLLM: it adds nothing to its hash."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (os.getpid(),)

    def compute_hash(self) -> str:
        """See vLLM's `SupportsHash`."""
        return "guard"

    def __repr__(self) -> str:
        return "Guard()"


def guard_forks(owner: int) -> None:
    """Arm whatever the thread `owner` (its `get_ident`) forks without executing another program."""
    parent = 0

    def remember() -> None:
        nonlocal parent
        parent = os.getpid()

    def armed() -> None:
        if threading.get_ident() == owner:
            arm(parent)

    os.register_at_fork(before=remember, after_in_child=armed)


def arm(parent: int) -> None:
    """Let this process be killed when the thread of `parent` that started it ends; at once, if that is over.

    It also leaves the terminal's process group: Ctrl-C is for the server, which still needs its engine to drain.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _unpickled(parent: int) -> Guard:
    # A copy within one process is no child; and nobody but a child that multiprocessing starts may be ended here.
    if os.getpid() != parent and "--multiprocessing-fork" in sys.orig_argv:
        arm(parent)
    return Guard()
