"""The desk of the streaming passes: `Slots` behind the lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from backends.base import ASRResult
from backends.pocketsphinx import hypothesis
from backends.pocketsphinx.desk import Utterance
from backends.pocketsphinx.process import Answer, Request
from backends.pocketsphinx.slots import Slots, Stretch
from protocol.pcm import samples_of


class StreamingDesk:
    """Streaming passes of all utterances; `at` gives each worker its `Desk`."""

    def __init__(self, lock: threading.Lock, workers: int) -> None:
        self.lock = lock
        """Guards all that follows."""
        self.slots = Slots(workers)
        self.utterances: dict[int, Utterance] = {}
        """Those that `slots` knows, by number."""
        self.closed = False
        self._work = [threading.Condition(lock) for _ in range(workers)]

    def at(self, worker: int) -> StreamingWorkerDesk:
        """The desk of one worker."""
        return StreamingWorkerDesk(self, worker, self._work[worker])

    def pushed(self, utterance: Utterance) -> None:
        """Note that an utterance has more audio. Caller holds the lock."""
        if utterance.number not in self.utterances:
            self.utterances[utterance.number] = utterance
            self.slots.open(utterance.number, samples_of(utterance.partial_ms))
        self._wake(self.slots.pushed(utterance.number, utterance.samples))

    def drop(self, utterance: Utterance) -> None:
        """Forget an utterance: it ended. Caller holds the lock."""
        self.utterances.pop(utterance.number, None)
        self._wake(self.slots.close(utterance.number))

    def close(self) -> None:
        """End every `wait`; any thread."""
        with self.lock:
            self.closed = True
            for work in self._work:
                work.notify_all()

    def _wake(self, worker: int | None) -> None:
        if worker is not None:
            self._work[worker].notify()


class StreamingWorkerDesk:
    """A `Desk`: the streaming desk as one worker sees it."""

    def __init__(self, desk: StreamingDesk, worker: int, work: threading.Condition) -> None:
        self._desk = desk
        self._worker = worker
        self._work = work

    def wait(self, timeout: float | None) -> bool:
        """See `Desk`."""
        with self._work:
            self._work.wait_for(lambda: self._desk.closed or self._desk.slots.ready(self._worker), timeout)
            return not self._desk.closed

    def take(self, kill: Callable[[], None]) -> tuple[Stretch, Request] | None:  # noqa: ARG002 - jobs here are short
        """See `Desk`."""
        with self._desk.lock:
            work = self._desk.slots.take(self._worker)
            if work is None:
                return None
            pcm = self._desk.utterances[work.utterance].cut(work.start, work.stop)
            return work, ("feed", work.start == 0, pcm)

    def deliver(self, task: Stretch, answer: Answer) -> None:
        """See `Desk`."""
        raw, seconds = answer
        result = hypothesis.partial(raw, seconds)
        with self._desk.lock:
            wanted = self._desk.slots.done(task, words=bool(result.text))
            utterance = self._desk.utterances[task.utterance] if wanted else None
            news = utterance is not None and _take_in(utterance, task.stop, result)
        if utterance is not None and news:
            _tell(utterance)

    def decline(self) -> None:
        """See `Desk`: its utterance can wait for this worker only."""

    def died(self, task: Stretch) -> None:
        """See `Desk`."""
        with self._desk.lock:
            self._desk.slots.died(task)

    def renewed(self) -> None:
        """See `Desk`."""
        with self._desk.lock:
            self._desk.slots.renewed(self._worker)


def _take_in(utterance: Utterance, heard: int, result: ASRResult) -> bool:
    """Note a hypothesis over the first `heard` samples; return whether `partial` has something new by it."""
    if heard <= utterance.heard:
        return False
    utterance.heard = heard
    if result.text == utterance.text:
        return False
    utterance.text, utterance.partial = result.text, result
    return True


def _tell(utterance: Utterance) -> None:
    try:
        utterance.notify()
    except Exception:  # noqa: BLE001 - logged
        # The speaker's own fault: neither the worker nor the others who speak are to suffer from it.
        structlog.get_logger().exception("engine_notify_failed")
