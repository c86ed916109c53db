"""The threads that decode: each takes the next batch from the scheduler, until the backend closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from backends.base import EngineError
from backends.whisper.scheduler import Batch, Kind, Limits, Scheduler
from backends.whisper.transcription import Request, Transcript

FATAL_FAILURES = 3
"""Failed batches in a row after which the engine counts as dead. A single one may have lacked memory."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a job."""

    transcript: Transcript
    seconds: float
    """Wall clock of its decode, shared with the others of its batch."""


@dataclass(slots=True, eq=False)
class Job:
    """A decode that a stream waits for."""

    kind: Kind
    request: Callable[[], Request]
    """Called on a decoding thread when the decode begins, so that a partial has the newest audio."""
    done: Callable[[Job, Outcome | EngineError], None]
    """Called once, on a decoding thread or the one that closes the backend, unless the job was withdrawn before."""


Decode = Callable[[Kind, Sequence[Request]], list[Transcript]]


class Decoders:
    """A bounded number of threads for each kind of decode."""

    def __init__(self, limits: Limits, decode: Decode) -> None:
        self._decode = decode
        self._scheduler: Scheduler[Job] = Scheduler(limits)
        self._work = threading.Condition()
        """Guards the scheduler and all below."""
        self._closed = False
        self._failures = 0
        self._threads = [
            threading.Thread(target=self._run, args=(take,), name=f"whisper-{name}-{number}", daemon=True)
            for name, take in (
                ("final", self._scheduler.next_final),
                ("partial", self._scheduler.next_partial),
                ("file", self._scheduler.next_file),
            )
            for number in range(limits.threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def healthy(self) -> bool:
        """Whether jobs are decoded; never waits."""
        return not self._closed and self._failures < FATAL_FAILURES

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            EngineError: the backend is closed.
        """
        with self._work:
            if self._closed:
                raise EngineError("the whisper backend is closed")
            self._scheduler.submit(job.kind, job)
            self._work.notify_all()

    def withdraw(self, job: Job) -> bool:
        """Remove a queued job; False: it is being decoded, or done."""
        with self._work:
            return self._scheduler.withdraw(job.kind, job)

    def live_opened(self) -> None:
        """A live utterance began."""
        with self._work:
            self._scheduler.live_opened()

    def live_closed(self) -> None:
        """A live utterance ended."""
        with self._work:
            self._scheduler.live_closed()
            self._work.notify_all()

    def partial_spacing(self, *, first: bool) -> float:
        """See `Scheduler.partial_spacing`."""
        with self._work:
            return self._scheduler.partial_spacing(first=first)

    def has_spare_core(self) -> bool:
        """See `Scheduler.has_spare_core`."""
        with self._work:
            return self._scheduler.has_spare_core

    def close(self) -> None:
        """End the threads after their running decodes, which token limits bound. All other jobs fail."""
        with self._work:
            self._closed = True
            left = self._scheduler.jobs
            for job in left:
                self._scheduler.withdraw(job.kind, job)
            self._work.notify_all()
        for job in left:
            job.done(job, EngineError("the whisper backend was closed"))
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, take: Callable[[], Batch[Job] | None]) -> None:
        while (batch := self._next(take)) is not None:
            self._serve(batch)
            del batch  # a waiting thread must not keep an utterance's audio in memory

    def _next(self, take: Callable[[], Batch[Job] | None]) -> Batch[Job] | None:
        with self._work:
            while not self._closed:
                batch = take()
                if batch is not None:
                    return batch
                self._work.wait()
        return None

    def _serve(self, batch: Batch[Job]) -> None:
        began = time.perf_counter()
        outcomes = self._outcomes(batch)
        with self._work:
            self._scheduler.finished(batch, time.perf_counter() - began)
            self._work.notify_all()
        for job, outcome in zip(batch.jobs, outcomes, strict=True):
            job.done(job, outcome)

    def _outcomes(self, batch: Batch[Job]) -> Sequence[Outcome | EngineError]:
        began = time.perf_counter()
        try:
            transcripts = self._decode(batch.kind, [job.request() for job in batch.jobs])
        except Exception as error:  # noqa: BLE001 - whatever CTranslate2 raises is the end of these utterances
            self._failures += 1
            structlog.get_logger().exception("whisper_decode_failed", kind=batch.kind.value, jobs=len(batch.jobs))
            return [EngineError(f"{type(error).__name__}: {error}") for _ in batch.jobs]
        self._failures = 0
        seconds = (time.perf_counter() - began) / len(batch.jobs)
        return [Outcome(transcript, seconds) for transcript in transcripts]
