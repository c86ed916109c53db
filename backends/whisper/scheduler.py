"""Decides which decode is next, for all utterances and files: jobs in, batches out.

Pure: no thread, no clock, no model. Each kind has its own threads: on a CPU the operating system runs finals before
running partials, and both before files. No partial begins while finals need all cores. While a live utterance is open
only one thread decodes files.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Kind(Enum):
    """The purpose of a decode."""

    FINAL = "final"
    PARTIAL = "partial"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of the machine."""

    threads: int
    """Finals at once. Fewer partials; as many pieces of files while no live utterance is open."""
    live_batch: int = 1
    """Live utterances in one decode. A batch waits for its longest member, and on a CPU it gains little."""
    file_batch: int = 4
    """Pieces of files in one decode while no live utterance is open."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """Jobs of one kind to decode together."""

    kind: Kind
    jobs: list[Item]


FIRST_PARTIAL_SECONDS = 0.8
"""New audio between two partials of an utterance without text: 0.5 s of voice after 0.3 s of pre-roll. With 0.65 s the
first text came no sooner, because more partials had no text."""
PARTIAL_SECONDS = 1.0
"""New audio between two partials, if cores are idle. With 0.5 s partials cost twice as much and change more often."""
PARTIAL_SHARE = 0.5
"""Largest share of the cores' time for partials."""
_SMOOTHING = 0.2
"""Weight of the newest decode in the mean."""


class Scheduler(Generic[Item]):
    """Queues of jobs. Not thread-safe: its owner holds a lock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: dict[Kind, deque[Item]] = {kind: deque() for kind in Kind}
        self._running = dict.fromkeys(Kind, 0)
        """Running batches."""
        self._live = 0
        """Live utterances that are open."""
        self._partial_cost = 0.0
        """Mean seconds of a partial's decode; 0: none was decoded yet."""
        self._overtaken = False
        """Whether a final took the core of a running partial, whose seconds are then ignored."""

    @property
    def jobs(self) -> list[Item]:
        """Jobs that wait."""
        return [job for queue in self._queues.values() for job in queue]

    def live_opened(self) -> None:
        """A live utterance began."""
        self._live += 1

    def live_closed(self) -> None:
        """A live utterance got its final, or was dropped."""
        self._live -= 1

    def submit(self, kind: Kind, job: Item) -> None:
        """Queue a job."""
        self._queues[kind].append(job)

    def withdraw(self, kind: Kind, job: Item) -> bool:
        """Remove a queued job; False: it is running or done."""
        if job not in self._queues[kind]:
            return False
        self._queues[kind].remove(job)
        return True

    def next_final(self) -> Batch[Item] | None:
        """Finals for a thread that is free."""
        return self._take(Kind.FINAL, self._limits.live_batch) if self._queues[Kind.FINAL] else None

    def next_partial(self) -> Batch[Item] | None:
        """Partials for a thread that is free."""
        threads = self._limits.threads
        # If there are two cores or more, one stays free for the next final.
        if not self._queues[Kind.PARTIAL] or self._running[Kind.PARTIAL] >= max(1, threads - 1):
            return None
        if self._running[Kind.FINAL] + len(self._queues[Kind.FINAL]) >= threads:
            return None
        return self._take(Kind.PARTIAL, self._limits.live_batch)

    def next_file(self) -> Batch[Item] | None:
        """Pieces of files for a thread that is free."""
        if not self._queues[Kind.FILE]:
            return None
        if not self._live:
            return self._take(Kind.FILE, self._limits.file_batch)
        return self._take(Kind.FILE, 1) if not self._running[Kind.FILE] else None

    def finished(self, batch: Batch[Item], seconds: float) -> None:
        """A batch was decoded, in so many seconds."""
        self._running[batch.kind] -= 1
        if batch.kind is Kind.PARTIAL and not self._running[Kind.PARTIAL] and self._overtaken:
            self._overtaken = False
        elif batch.kind is Kind.PARTIAL and not self._overtaken:
            cost = seconds / len(batch.jobs)
            before = self._partial_cost or cost
            self._partial_cost = before + _SMOOTHING * (cost - before)

    def partial_spacing(self, *, first: bool) -> float:
        """Seconds of new audio that an utterance needs for its next partial; `first`: it has no text yet."""
        fair = self._live * self._partial_cost / (self._limits.threads * PARTIAL_SHARE)
        if first and self._live <= self._limits.threads:
            return FIRST_PARTIAL_SECONDS
        return max(fair, FIRST_PARTIAL_SECONDS if first else PARTIAL_SECONDS)

    @property
    def has_spare_core(self) -> bool:
        """Whether a final may begin before the pause is certain, though it may be decoded in vain."""
        finals = self._running[Kind.FINAL] + len(self._queues[Kind.FINAL])
        return finals < self._limits.threads and self._live <= self._limits.threads

    def _take(self, kind: Kind, most: int) -> Batch[Item]:
        queue = self._queues[kind]
        jobs = [queue.popleft() for _ in range(min(most, len(queue)))]
        self._running[kind] += 1
        partials = self._running[Kind.PARTIAL]
        if kind is Kind.FINAL and partials and partials + self._running[kind] > self._limits.threads:
            self._overtaken = True
        return Batch(kind, jobs)
