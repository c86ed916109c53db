"""What a server under `bench.engine` notes of its own time. Linux only."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from backends.qwen3.stats import CompletedDecode

_TICKS = os.sysconf("SC_CLK_TCK")
_NAP_SECONDS = 0.02
"""Asked for, to see how much later the event loop comes back."""
_GROUPS = (
    ("MainThread", "event_loop"),
    ("qwen3-engine", "engine_loop"),
    ("ThreadPoolExecutor", "rendering"),
    ("stt-", "sessions"),
)
"""Beginnings of threads' names, and what they do; vLLM renders in executors that it gave no name."""


class Notes:
    """What happened since it was last asked. Appended to on other threads; taken on the event loop."""

    def __init__(self) -> None:
        self._done: list[CompletedDecode] = []
        self._late_ms: list[float] = []
        self._napper: asyncio.Task[None] | None = None

    def note(self, done: CompletedDecode) -> None:
        """A decode is done; on the engine's thread."""
        self._done.append(done)

    async def take(self) -> dict[str, object]:
        """Everything since the last call, and CPU times since the start; the first call begins the naps."""
        if self._napper is None:
            self._napper = asyncio.create_task(self._nap(), name="nap")
        done, self._done = self._done, []
        late, self._late_ms = self._late_ms, []
        return {
            "time": time.monotonic(),
            "cpu": cpu_by_group(),
            "event_loop_late_ms": late,
            "decodes": [
                {
                    "purpose": each.purpose.name.lower(),
                    **asdict(each.timing),
                    "prompt_tokens": each.output.prompt_tokens,
                    "cached_tokens": each.output.cached_tokens,
                    "text_tokens": len(each.output.tokens),
                }
                for each in done
            ],
        }

    async def _nap(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_NAP_SECONDS)
            self._late_ms.append((time.monotonic() - began - _NAP_SECONDS) * 1000)


def cpu_by_group() -> dict[str, float]:
    """User and system seconds of this process's threads by what they do; those that ended are in none."""
    ticks: Counter[str] = Counter(dict.fromkeys([group for _, group in _GROUPS] + ["others"], 0))
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended just now
            continue
        name = names.get(int(task.name), "")
        group = next((group for begin, group in _GROUPS if name.startswith(begin)), "others")
        ticks[group] += int(fields[11]) + int(fields[12])
    return {group: count / _TICKS for group, count in ticks.items()}
