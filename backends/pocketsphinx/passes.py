"""The second pass, decided: which utterance's final is worked on next, and what becomes of its result. Pure.

A pass is *wanted* once its utterance is finished, and *speculative* before: begun in the pause that may end the
utterance. An utterance has at most one pass; when speech resumes the pass is void. Nothing here knows a void pass any
more, so its end changes nothing.

A pass that runs cannot be asked to stop, so it can keep its worker from a final that somebody waits for: a void one
over 25 s of audio for 3 s. Two rules keep that wait to about `RESPAWN_SECONDS`:

- A speculative pass begins only if no final waits. It may take the last idle worker: 300 ms later it most likely is a
  final itself, and would take it then. (Simulated with four speakers on two workers, a rule that leaves one idle makes
  the median final 20 % slower, and no rule against it is needed: there is the other one.)
- A final that finds no worker has one freed: `abort` names a pass that would still run for longer than a new process
  takes to start. So the final waits for the rest of a pass or for a process, whichever is shorter, and then for its own
  pass. Void passes go first, for nothing is lost with them; a speculative one begins again when no final waits. Wanted
  passes are never aborted: finals among themselves go in order of finish.

Times are in seconds on any clock that only rises.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocol.pcm import SAMPLE_RATE

Result = TypeVar("Result")

ATTEMPTS = 3
"""Worker processes that may die on an utterance before its final fails: more would take every worker with it."""

PACE = 0.15
"""Seconds for a second of audio while partials and other passes run: 0.12 to 0.14 alone, more side by side.

Better too long than too short: a pass that is aborted for nothing costs a final half a second, one trusted for nothing
up to twice that.
"""

RESPAWN_SECONDS = 0.5
"""From the end of a worker process with one decoder to its warm successor, at `PACE`."""

_NEWEST = 0.25
"""Weight of the newest pass in the pace: four passes tell a machine that became slow."""


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

    def __init__(self, workers: int, hired: int) -> None:
        """Begin without passes.

        Args:
            workers: most that there can be.
            hired: how many of them have a process, or are about to have one.
        """
        self._workers = workers
        self._hired = hired
        self._entries: dict[int, _Entry[Result]] = {}
        """By utterance."""
        self._wanted: deque[Pass] = deque()
        """Waiting, in order of finish."""
        self._speculative: deque[Pass] = deque()
        """Waiting, in order of pause."""
        self._running: dict[Pass, float] = {}
        """Since when; void ones too, but none that was aborted: its worker is as good as free."""
        self._serial = 0
        self._pace = PACE
        """Seconds for a second of audio, lately."""

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

    def short(self) -> bool:
        """Whether one more worker is to be hired: more passes wait than hired workers have time."""
        waiting = len(self._wanted) + len(self._speculative)
        return self._hired < self._workers and waiting > self._hired - len(self._running)

    def hire(self) -> None:
        """Note that one more worker is getting a process."""
        self._hired += 1

    def take(self, now: float) -> Pass | None:
        """Return the pass for an idle worker, which begins it now: a speculative one only if no final waits."""
        for queue in (self._wanted, self._speculative):
            if queue:
                work = queue.popleft()
                self._running[work] = now
                return work
        return None

    def abort(self, now: float) -> list[Pass]:
        """Return passes whose processes are to be killed for finals that wait; `died` or `done` for them may follow.

        To be asked whenever a final begins to wait or a pass becomes void, and now and then while passes run: one may
        run on for longer than it seemed.
        """
        # What slows passes down, a slow machine or a busy one, slows a process that starts down as well.
        respawn = RESPAWN_SECONDS * self._pace / PACE
        left = {work: self._left(work, now) for work in self._running}
        soon = self._workers - len(left) + sum(seconds <= respawn for seconds in left.values())
        idlers = [work for work in left if left[work] > respawn and not self._is_wanted(work)]
        idlers.sort(key=lambda work: (self._is_known(work), -left[work]))
        chosen = idlers[: max(len(self._wanted) - soon, 0)]
        for work in chosen:
            del self._running[work]
            if self._is_known(work):
                self._replace(work.utterance, work.samples, wanted=False)
        return chosen

    def done(self, work: Pass, result: Result, now: float) -> bool:
        """Note that a pass is done; return whether its result is the utterance's final, to be delivered now."""
        self._learn(work, now)
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

    def _left(self, work: Pass, now: float) -> float:
        """Seconds for which a running pass is likely to run on; infinity once it is overdue, for nobody knows."""
        left = self._pace * work.samples / SAMPLE_RATE - (now - self._running[work])
        return left if left >= 0 else math.inf

    def _learn(self, work: Pass, now: float) -> None:
        began = self._running.pop(work, None)
        # A short pass is mostly overhead, and says nothing about long ones, which are those that matter here.
        if began is not None and work.samples >= SAMPLE_RATE:
            pace = (now - began) * SAMPLE_RATE / work.samples
            self._pace = max(PACE, (1 - _NEWEST) * self._pace + _NEWEST * pace)
