"""Kills the engine's processes when the server dies, also when the server is killed by SIGKILL.

vLLM's EngineCore and its workers survive a SIGKILL of the server and keep its GPU memory (seen with vLLM 0.32). Linux
can kill a child with its parent (prctl(2), PR_SET_PDEATHSIG), but the child itself has to request it:

- Started by `spawn`, a child unpickles vLLM's configuration. That has a `ParentDeathSignal` in `additional_config`,
  which makes the request when it is unpickled. A worker gets the configuration from the child, and does the same.
- Started by `fork`, a child runs a hook of `os.register_at_fork`, which makes the request.
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


class ParentDeathSignal:
    """A configuration object for vLLM: the child process that unpickles the object dies with its parent.

    It adds nothing to the hash of vLLM's configuration.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (os.getpid(),)

    def compute_hash(self) -> str:
        """See vLLM's `SupportsHash`."""
        return "parent-death-signal"

    def __repr__(self) -> str:
        return "ParentDeathSignal()"


def kill_forks_with_parent(thread_id: int) -> None:
    """From now on, a child that the thread `thread_id` (its `get_ident`) forks dies with this process."""
    parent = 0

    def before_fork() -> None:
        nonlocal parent
        parent = os.getpid()

    def in_child() -> None:
        if threading.get_ident() == thread_id:
            die_with(parent)

    os.register_at_fork(before=before_fork, after_in_child=in_child)


def die_with(parent: int) -> None:
    """Have Linux kill this process when the thread of `parent` that started it ends; exit at once if it has ended.

    The process also leaves the terminal's process group: Ctrl-C is for the server, which needs the engine to drain.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _unpickled(parent: int) -> ParentDeathSignal:
    # A copy within one process is no child, and only children that multiprocessing started may be killed.
    if os.getpid() != parent and "--multiprocessing-fork" in sys.orig_argv:
        die_with(parent)
    return ParentDeathSignal()
