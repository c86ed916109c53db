"""The desk of the second passes: `PassQueue` behind the lock, with the futures that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backends.base import ASRResult, EngineError
from backends.pocketsphinx import hypothesis
from backends.pocketsphinx.desk import Utterance
from backends.pocketsphinx.passes import ATTEMPTS, Pass, PassQueue
from backends.pocketsphinx.process import Answer, Request


class FinalDesk:
    """Second passes of one kind; a `Desk` that all workers of the kind share."""

    def __init__(self, lock: threading.Lock, workers: int) -> None:
        """Open it for so many workers."""
        self._lock = lock
        self._work = threading.Condition(lock)
        self._queue: PassQueue[ASRResult] = PassQueue(workers)
        self._kills: dict[Pass, Callable[[], None]] = {}
        """How to end the process of each pass that runs."""
        self._utterances: dict[int, Utterance] = {}
        """Those with a pass, or finished and without a result."""
        self._closed = False

    def speculate(self, utterance: Utterance) -> None:
        """Begin a pass over all that was pushed. Caller holds the lock."""
        self._utterances[utterance.number] = utterance
        self._queue.speculate(utterance.number, utterance.samples)
        self._work.notify()

    def void(self, utterance: Utterance) -> None:
        """Speech resumed. Caller holds the lock."""
        self._queue.void(utterance.number)
        self._abort()

    def finish(self, utterance: Utterance, samples: int) -> None:
        """Want the final over the first `samples` samples. Caller holds the lock and has not given out the future."""
        if self._closed:
            cancel(utterance)
            return
        self._utterances[utterance.number] = utterance
        result = self._queue.want(utterance.number, samples)
        if result is None:
            self._abort()
            self._work.notify()
        else:
            self._utterances.pop(utterance.number).future.set_result(result)

    def drop(self, utterance: Utterance) -> bool:
        """Forget an utterance; return whether its future is the caller's to cancel. Caller holds the lock."""
        self._queue.void(utterance.number)
        self._abort()
        return self._utterances.pop(utterance.number, None) is not None

    def wait(self, timeout: float | None) -> bool:
        """See `Desk`."""
        with self._work:
            self._work.wait_for(lambda: self._closed or self._queue.ready(), timeout)
            return not self._closed

    def take(self, kill: Callable[[], None]) -> tuple[Pass, Request] | None:
        """See `Desk`."""
        with self._lock:
            work = self._queue.take()
            if work is None:
                return None
            self._kills[work] = kill
            return work, ("decode", self._utterances[work.utterance].cut(0, work.samples))

    def deliver(self, task: Pass, answer: Answer) -> None:
        """See `Desk`."""
        segments, seconds = answer
        result = hypothesis.final(segments, task.samples, seconds)
        with self._lock:
            self._kills.pop(task, None)
            delivered = self._queue.done(task, result)
            utterance = self._utterances.pop(task.utterance) if delivered else None
        if utterance is not None and utterance.future.set_running_or_notify_cancel():
            utterance.future.set_result(result)

    def decline(self) -> None:
        """See `Desk`."""
        with self._lock:
            self._work.notify()

    def died(self, task: Pass) -> None:
        """See `Desk`."""
        with self._lock:
            self._kills.pop(task, None)
            failed = [task.utterance] if self._queue.died(task) else []
            self._work.notify()
            utterances = [self._utterances.pop(number) for number in failed]
        _fail(utterances, f"{ATTEMPTS} worker processes died on the utterance")

    def renewed(self) -> None:
        """See `Desk`: a second pass leaves nothing in a process."""

    def give_up(self) -> None:
        """Fail what waits: no worker of the kind can be started."""
        with self._lock:
            utterances = [self._utterances.pop(number) for number in self._queue.give_up()]
        _fail(utterances, "no worker process can be started")

    def close(self) -> None:
        """Cancel what is not done, and end every `wait`; any thread."""
        with self._lock:
            self._closed = True
            utterances = list(self._utterances.values())
            self._utterances.clear()
            self._queue = PassQueue(0)
            self._kills.clear()
            self._work.notify_all()
        for utterance in utterances:
            cancel(utterance)

    def _abort(self) -> None:
        # Under the lock, so a process that is killed is surely still at the pass: its owner cannot hand it in.
        for work in self._queue.abort():
            self._kills.pop(work)()


def cancel(utterance: Utterance) -> None:
    """Cancel an utterance's future, if nobody did."""
    if not utterance.future.cancelled() and utterance.future.cancel():
        utterance.future.set_running_or_notify_cancel()


def _fail(utterances: list[Utterance], reason: str) -> None:
    for utterance in utterances:
        if utterance.future.set_running_or_notify_cancel():
            utterance.future.set_exception(EngineError(reason))
