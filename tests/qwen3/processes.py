"""The engine's processes, as Linux sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

NAME = b"VLLM::"
"""How vLLM's processes call themselves: VLLM::EngineCore, VLLM::Worker."""


def engine_of(pid: int) -> set[int]:
    """Descendants of a process that are vLLM's."""
    found: set[int] = set()
    for child in _children(pid):
        found |= engine_of(child)
        if _line(child).startswith(NAME):
            found.add(child)
    return found


def core_of(pid: int) -> int:
    """The EngineCore of a process."""
    (core,) = (child for child in _children(pid) if _line(child).startswith(NAME + b"EngineCore"))
    return core


def gone(pids: Collection[int]) -> bool:
    """Whether none of them runs; one that only waits to be reaped does not."""
    return not any(_runs(pid) for pid in pids)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    # A thread that ends meanwhile is not there.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
