"""One utterance, as its session sees it."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from backends.base import ASRResult, StreamOptions
from backends.pocketsphinx.desk import Utterance
from backends.pocketsphinx.finals import FinalDesk, cancel
from backends.pocketsphinx.partials import StreamingDesk
from protocol.pcm import Signal, to_pcm


class PocketsphinxStream:
    """An `ASRStream`: leaves audio and wishes at the desks, and never waits for a worker."""

    def __init__(
        self,
        number: int,
        lock: threading.Lock,
        finals: FinalDesk,
        partials: StreamingDesk | None,
        options: StreamOptions,
    ) -> None:
        """Open the utterance `number`.

        Args:
            number: not used before in this engine.
            lock: the desks' lock.
            finals: where its second pass is done.
            partials: where its streaming pass is done; None: a piece of a file, without partials or speculation.
            options: its `notify` may still be called once while, and just after, the utterance ends.
        """
        self._lock = lock
        self._finals = finals
        self._partials = partials
        self._utterance = Utterance(number, options.notify, options.partial_ms)
        self._over = False
        """Finished or cancelled."""
        self._cancelled = False

    def push(self, samples: Signal) -> None:
        """See `ASRStream`; after `finish` or `cancel` it does nothing."""
        pcm = to_pcm(samples)
        with self._lock:
            if self._over or not pcm:
                return
            self._utterance.pcm += pcm
            if self._partials is not None:
                self._finals.void(self._utterance)
                self._partials.pushed(self._utterance)

    def partial(self) -> ASRResult | None:
        """See `ASRStream`; None after `finish` or `cancel`."""
        with self._lock:
            newest, self._utterance.partial = self._utterance.partial, None
            return newest

    def pause(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if not self._over and self._partials is not None:
                self._finals.speculate(self._utterance)

    def finish(self, samples: int) -> Future[ASRResult]:
        """See `ASRStream`; after `cancel` the future is cancelled.

        Raises:
            ValueError: fewer than `samples` were pushed, or it is finished already.
        """
        with self._lock:
            if self._cancelled:
                return _cancelled()
            if self._over or not 0 <= samples <= self._utterance.samples:
                raise ValueError(f"cannot finish at {samples} of {self._utterance.samples} samples")
            self._end()
            # Nobody has the future yet, so nothing that settles it here can call back under the lock.
            self._finals.finish(self._utterance, samples)
            return self._utterance.future

    def cancel(self) -> None:
        """See `ASRStream`; the result of a pass that runs is dropped."""
        with self._lock:
            self._end()
            self._cancelled = True
            dropped = self._finals.drop(self._utterance)
        # Otherwise its future is settled, or about to be by the thread that took the utterance out.
        if dropped:
            cancel(self._utterance)

    def _end(self) -> None:
        self._over = True
        self._utterance.partial = None
        if self._partials is not None:
            self._partials.drop(self._utterance)


def _cancelled() -> Future[ASRResult]:
    future: Future[ASRResult] = Future()
    future.cancel()
    return future
