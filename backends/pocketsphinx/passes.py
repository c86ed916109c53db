"""The second pass, decided: which utterance's final is worked on next, and what becomes of its result. Pure.

A pass is *wanted* once its utterance is finished, and *speculative* before: begun in the pause that may end the
utterance. An utterance has at most one pass; when speech resumes the pass is void, and its end changes nothing.

A pass that runs cannot be asked to stop, but its process can be ended, and takes milliseconds to replace. So a void
pass is aborted at once: it costs no more than it cost until then. A final that finds all workers busy takes the worker
of a speculative pass, of the one begun last, for that loses the least; it begins again when no final waits. Wanted
passes are never aborted: finals among themselves go in order of finish.
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

    def __init__(self, workers: int) -> None:
        """Begin without passes."""
        self._workers = workers
        self._entries: dict[int, _Entry[Result]] = {}
        """By utterance."""
        self._wanted: deque[Pass] = deque()
        """Waiting, in order of finish."""
        self._speculative: deque[Pass] = deque()
        """Waiting, in order of pause."""
        self._running: dict[Pass, None] = {}
        """In order of their beginnings, without those that were aborted: their workers are as good as free."""
        self._serial = 0

    def speculate(self, utterance: int, samples: int) -> None:
        """Ask for a pass that may turn out to be the utterance's final."""
        entry = self._entries.get(utterance)
        if entry is None or entry.work.samples != samples:
            self._replace(utterance, samples, wanted=False)

    def void(self, utterance: int) -> None:
        """Drop the utterance's pass, in whatever state it is; none is fine. `abort` is to be asked then."""
        entry = self._entries.pop(utterance, None)
        if entry is None:
            return
        for queue in (self._wanted, self._speculative):
            if entry.work in queue:
                queue.remove(entry.work)

    def want(self, utterance: int, samples: int) -> Result | None:
        """Finish the utterance: a speculative pass over as many samples becomes wanted, any other is void.

        `abort` is to be asked then.

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
        """Return the pass for an idle worker, which begins it now: a speculative one only if no final waits."""
        for queue in (self._wanted, self._speculative):
            if queue:
                work = queue.popleft()
                self._running[work] = None
                return work
        return None

    def abort(self) -> list[Pass]:
        """Return passes whose processes are to be ended now; `died` or `done` for them may follow."""
        void = [work for work in self._running if not self._is_known(work)]
        free = self._workers - len(self._running) + len(void)
        speculative = [work for work in reversed(self._running) if self._is_known(work) and not self._is_wanted(work)]
        given_up = speculative[: max(len(self._wanted) - free, 0)]
        for work in [*void, *given_up]:
            del self._running[work]
        for work in given_up:
            self._replace(work.utterance, work.samples, wanted=False)
        return [*void, *given_up]

    def done(self, work: Pass, result: Result) -> bool:
        """Note that a pass is done; return whether its result is the utterance's final, to be delivered now."""
        self._running.pop(work, None)
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
        self._running.pop(work, None)
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

    def _is_known(self, work: Pass) -> bool:
        """Whether the pass is not void."""
        entry = self._entries.get(work.utterance)
        return entry is not None and entry.work == work

    def _is_wanted(self, work: Pass) -> bool:
        return self._is_known(work) and self._entries[work.utterance].wanted
