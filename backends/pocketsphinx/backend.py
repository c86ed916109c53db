"""The embedded CPU engine: pocketsphinx, English, in worker processes.

Each utterance is decoded twice: as it is spoken, for partials, and as a whole, for its final. Three kinds of worker
process do it, all forked from one that has loaded the model; the kernel gives a core to final, streaming and batch in
that order.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

from backends.base import EngineError, StreamOptions
from backends.pocketsphinx.finals import FinalDesk
from backends.pocketsphinx.hypothesis import LANGUAGE
from backends.pocketsphinx.options import PocketsphinxOptions
from backends.pocketsphinx.owner import Kind, Owner
from backends.pocketsphinx.partials import StreamingDesk
from backends.pocketsphinx.stream import PocketsphinxStream
from backends.pocketsphinx.template import TemplateGone, Templates

FINAL_NICENESS = 0

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
        self._templates = Templates()
        workers, streams = range(self._workers), range(self._workers * options.streams_per_worker)
        self._partials = StreamingDesk(self._lock, len(streams))
        self._finals = FinalDesk(self._lock, len(workers))
        self._batch = FinalDesk(self._lock, len(workers))
        streaming, final, batch = (
            Kind("streaming", STREAMING_NICENESS),
            Kind("final", FINAL_NICENESS),
            Kind("batch", BATCH_NICENESS),
        )
        # A streaming worker has utterances of its own, whose finals do not need it: nothing to give up for them.
        self._streamers = [Owner(self._partials.at(each), streaming, self._templates, lambda: None) for each in streams]
        self._finishers = [Owner(self._finals, final, self._templates, self._check_finishers) for _ in workers]
        self._batchers = [Owner(self._batch, batch, self._templates, self._check_batchers) for _ in workers]

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
    def has_words(self) -> bool:
        """See `ASRBackend`; its finals have them, asked for or not."""
        return True

    @property
    def translates(self) -> bool:
        """See `ASRBackend`."""
        return False

    @property
    def batch_width(self) -> int:
        """See `ASRBackend`: a piece for each worker, and the next, so that none waits until that was heard."""
        return self._workers + 1

    def start(self) -> None:
        """See `ASRBackend`: a second, in which one decoder loads."""
        try:
            self._templates.living()
            with self._state:
                if self._closed:
                    raise EngineError("closed while it started")
                for owner in self._owners():
                    owner.start()
                self._ready = True
        except TemplateGone as error:
            raise EngineError(f"no worker process can be started: {error}") from error
        except RuntimeError as error:
            self.close()
            raise EngineError(f"no thread for a worker process: {error}") from error

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
        # First, for an owner may be waiting for a template that starts.
        self._templates.close()
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
    """Whether nobody in the crew can work."""
    return all(owner.failing for owner in crew)


def _cores() -> int:
    # macOS has wheels of pocketsphinx, and no affinities.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
