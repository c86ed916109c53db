"""The second pass, decided: which utterance's final is worked on next, and what becomes of its result. Pure.

A pass is *wanted* once its utterance is finished, and *speculative* before: begun in the pause that may end the
utterance. An utterance has at most one pass; when speech resumes the pass is void. A void pass that runs cannot be
stopped, but nothing here knows it any more, so its end changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")

ATTEMPTS = 3
"""Worker processes that may die on an utterance before its final fails: more would take every worker with it."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A second pass over the first `samples` samples of an utterance."""

    utterance: int
    samples: int
    serial: int
    """Tells this pass from a void one over as many samples."""


@dataclass(slots=True)
class _Entry(Generic[Result]):
    work: Pass
    wanted: bool
    result: Result | None = None
    deaths: int = 0


class PassQueue(Generic[Result]):
    """Passes of one kind of worker: waiting, running, or done before they were wanted. Not thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry[Result]] = {}
        """By utterance."""
        self._wanted: deque[Pass] = deque()
        """Waiting, in order of finish."""
        self._speculative: deque[Pass] = deque()
        """Waiting, in order of pause."""
        self._serial = 0

    def speculate(self, utterance: int, samples: int) -> None:
        """Ask for a pass that may turn out to be the utterance's final."""
        entry = self._entries.get(utterance)
        if entry is None or entry.work.samples != samples:
            self._replace(utterance, samples, wanted=False)

    def void(self, utterance: int) -> None:
        """Drop the utterance's pass, in whatever state it is; none is fine."""
        entry = self._entries.pop(utterance, None)
        if entry is None:
            return
        for queue in (self._wanted, self._speculative):
            if entry.work in queue:
                queue.remove(entry.work)

    def want(self, utterance: int, samples: int) -> Result | None:
        """Finish the utterance: a speculative pass over as many samples becomes wanted, any other is void.

        Returns:
            Its result, if that pass is done; otherwise `done` hands it over.
        """
        entry = self._entries.get(utterance)
        if entry is None or entry.work.samples != samples:
            self._replace(utterance, samples, wanted=True)
            return None
        entry.wanted = True
        if entry.result is not None:
            del self._entries[utterance]
        elif entry.work in self._speculative:
            self._speculative.remove(entry.work)
            self._wanted.append(entry.work)
        return entry.result

    def ready(self) -> bool:
        """Whether `take` would return a pass."""
        return bool(self._wanted or self._speculative)

    def take(self) -> Pass | None:
        """Return the pass for an idle worker: a speculative one only if no final waits."""
        for queue in (self._wanted, self._speculative):
            if queue:
                return queue.popleft()
        return None

    def done(self, work: Pass, result: Result) -> bool:
        """Note that a pass is done; return whether its result is the utterance's final, to be delivered now."""
        entry = self._entries.get(work.utterance)
        if entry is None or entry.work != work:
            return False
        if entry.wanted:
            del self._entries[work.utterance]
            return True
        entry.result = result
        return False

    def died(self, work: Pass) -> bool:
        """Note that a worker died on a pass: it is the next one again, unless it is void or died too often.

        Returns:
            Whether the utterance's final failed, to be said now.
        """
        entry = self._entries.get(work.utterance)
        if entry is None or entry.work != work:
            return False
        entry.deaths += 1
        if entry.deaths < ATTEMPTS:
            (self._wanted if entry.wanted else self._speculative).appendleft(work)
            return False
        del self._entries[work.utterance]
        return entry.wanted

    def give_up(self) -> list[int]:
        """Drop every pass that waits; return the utterances whose final failed by that."""
        failed = [work.utterance for work in self._wanted]
        for work in [*self._wanted, *self._speculative]:
            self.void(work.utterance)
        return failed

    def _replace(self, utterance: int, samples: int, *, wanted: bool) -> None:
        self.void(utterance)
        self._serial += 1
        work = Pass(utterance, samples, self._serial)
        self._entries[utterance] = _Entry(work, wanted)
        (self._wanted if wanted else self._speculative).append(work)
