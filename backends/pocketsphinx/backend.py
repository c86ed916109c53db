"""The embedded CPU engine: pocketsphinx, English, in worker processes.

Each utterance is decoded twice: as it is spoken, for partials, and as a whole, for its final. Three kinds of worker
process do it, at most one of each kind a core; the kernel gives a core to final, streaming and batch in that order.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from concurrent import futures
from dataclasses import replace
from typing import Any

from backends.base import EngineError, StreamOptions
from backends.pocketsphinx.finals import FinalDesk
from backends.pocketsphinx.hypothesis import LANGUAGE
from backends.pocketsphinx.options import PocketsphinxOptions
from backends.pocketsphinx.owner import Kind, Owner
from backends.pocketsphinx.partials import StreamingDesk
from backends.pocketsphinx.stream import PocketsphinxStream

FINISHERS_PER_CORE = 3
"""Final workers there may be for each core. One is there from the start, the others once passes wait.

A pass that became void runs on, and a long one holds its worker for seconds. Four speakers on two cores, p95 of
`latency_ms`: 2195 ms with one worker a core, 1170 ms with two, 871 ms with three (`python -m bench.accuracy`).
"""

STREAMING_NICENESS = 15
"""A 28th of a final's share of a contended core: partials slow down before any final waits."""

BATCH_NICENESS = 19
"""The least share there is: files take what live speech leaves."""


class PocketsphinxBackend:
    """An `ASRBackend`."""

    def __init__(self, options: PocketsphinxOptions) -> None:
        """Prepare the engine; `start` starts its processes."""
        self._workers = options.workers or _cores()
        self._numbers = itertools.count()
        self._state = threading.Lock()
        self._ready = self._closed = False
        self._lock = threading.Lock()
        """Of all desks: `push` leaves audio with both passes."""
        self._partials = StreamingDesk(self._lock, self._workers, options.streams_per_worker)
        finishers = FINISHERS_PER_CORE * self._workers
        self._finals = FinalDesk(self._lock, finishers, self._workers)
        self._batch = FinalDesk(self._lock, self._workers, 0)
        streaming = Kind("streaming", options.streams_per_worker, STREAMING_NICENESS, eager=True)
        final = Kind("final", 1, 0, eager=True)
        # As pieces of files need them: a server that gets none saves 110 MB (see `PocketsphinxOptions`) and 0.35 s of
        # CPU time a core, and the first piece waits 0.4 s more.
        batch = Kind("batch", 1, BATCH_NICENESS, eager=False)
        workers = range(self._workers)
        # A streaming worker has utterances of its own, whose finals do not need it: nothing to give up for them.
        self._streamers = [Owner(self._partials.at(worker), streaming, lambda: None) for worker in workers]
        spare = replace(final, eager=False)
        kinds = [final] * self._workers + [spare] * (finishers - self._workers)
        self._finishers = [Owner(self._finals, kind, self._check_finishers) for kind in kinds]
        self._batchers = [Owner(self._batch, batch, self._check_batchers) for _ in workers]

    @property
    def name(self) -> str:
        """See `ASRBackend`."""
        return "pocketsphinx"

    @property
    def languages(self) -> frozenset[str] | None:
        """See `ASRBackend`."""
        return frozenset({LANGUAGE})

    @property
    def uses_hotwords(self) -> bool:
        """See `ASRBackend`."""
        return False

    @property
    def batch_width(self) -> int:
        """See `ASRBackend`: a piece for each worker, and the next, so that none waits until that was heard."""
        return self._workers + 1

    def start(self) -> None:
        """See `ASRBackend`: starts the live workers at once; 2 to 3 s on two cores."""
        with self._state:
            if self._closed:
                raise EngineError("closed before it started")
            for owner in self._owners():
                owner.start()
        warm = [owner.ready for owner in self._owners()]
        futures.wait(warm, return_when=futures.FIRST_EXCEPTION)
        # One that failed comes first: close() would make the others fail for a reason that tells nothing.
        failure = next((future.exception() for future in warm if future.done() and future.exception()), None)
        if failure is not None:
            self.close()
            raise failure
        with self._state:
            if self._closed:
                raise EngineError("closed while it started")
            self._ready = True

    def healthy(self) -> bool:
        """See `ASRBackend`; False also while no worker of some kind can be started."""
        crews: tuple[Sequence[Owner[Any]], ...] = (self._streamers, self._finishers, self._batchers)
        return self._ready and not self._closed and not any(map(_all_failing, crews))

    def stream(self, options: StreamOptions) -> PocketsphinxStream:
        """See `ASRBackend`."""
        number = next(self._numbers)
        if options.live:
            return PocketsphinxStream(number, self._lock, self._finals, self._partials, options)
        return PocketsphinxStream(number, self._lock, self._batch, None, options)

    def close(self) -> None:
        """See `ASRBackend`: cancels what is pending."""
        with self._state:
            self._closed = True
        for desk in (self._partials, self._finals, self._batch):
            desk.close()
        for owner in self._owners():
            owner.stop()
        for owner in self._owners():
            owner.join()

    def _owners(self) -> list[Owner[Any]]:
        return [*self._streamers, *self._finishers, *self._batchers]

    def _check_finishers(self) -> None:
        if _all_failing(self._finishers):
            self._finals.give_up()

    def _check_batchers(self) -> None:
        if _all_failing(self._batchers):
            self._batch.give_up()


def _all_failing(crew: Sequence[Owner[Any]]) -> bool:
    """Whether nobody in the crew can work; who was never needed proves nothing."""
    hired = [owner for owner in crew if owner.hired]
    return bool(hired) and all(owner.failing for owner in hired)


def _cores() -> int:
    # macOS has wheels of pocketsphinx, and no affinities.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
