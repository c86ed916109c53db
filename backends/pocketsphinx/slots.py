"""The streaming pass, decided: which utterance has which worker, and when it has a job for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.pcm import samples_of

LEAST_SAMPLES = samples_of(100)
"""Audio worth a job, about 12 ms of work, while an utterance has no words: its first partial is not to wait."""

MOST_SAMPLES = samples_of(500)
"""Audio in one job, so that an utterance which catches up shows what it has every 60 ms.

Also what is worth a job once there are words, unless the speaker is shown partials more often. Each job finds cold
caches and a core that wakes up: in jobs of 500 ms a pass takes 0.87 of the CPU that it takes in jobs of 100 ms.
An utterance's last words may so be in no partial: its final has them.
"""

ATTEMPTS = 3
"""Worker processes that may die on an utterance before it gets no more partials."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio of one utterance; a start of 0 begins a pass."""

    utterance: int
    start: int
    """First sample."""
    stop: int
    """One past the last sample."""


@dataclass(slots=True)
class _Feed:
    """An utterance on its way through the streaming pass; counts in samples."""

    step: int
    """What is worth a job once there are words."""
    worker: int | None = None
    spoken: bool = False
    """Whether there are words."""
    pushed: int = 0
    fed: int = 0
    deaths: int = 0


class Slots:
    """All streaming workers, each with one utterance at a time, and the utterances that wait for one.

    Not thread-safe.
    """

    def __init__(self, workers: int) -> None:
        self._utterances: list[int | None] = [None] * workers
        """Of each worker."""
        self._feeds: dict[int, _Feed] = {}
        self._waiting: dict[int, None] = {}
        """Utterances without a worker, oldest first."""

    def open(self, utterance: int, every: int) -> None:
        """Give an utterance a worker, or let it wait for one.

        Args:
            utterance: not known yet.
            every: samples between two hypotheses that its speaker has a use for.
        """
        self._feeds[utterance] = _Feed(min(max(every, LEAST_SAMPLES), MOST_SAMPLES))
        if None in self._utterances:
            self._pin(utterance, self._utterances.index(None))
        else:
            self._waiting[utterance] = None

    def pushed(self, utterance: int, samples: int) -> int | None:
        """Note that the utterance has `samples` by now; return the worker to wake, if that made a job."""
        feed = self._feeds.get(utterance)
        if feed is None:
            return None
        feed.pushed = samples
        return feed.worker if _is_due(feed) else None

    def ready(self, worker: int) -> bool:
        """Whether `take` would return a job."""
        utterance = self._utterances[worker]
        return utterance is not None and _is_due(self._feeds[utterance])

    def take(self, worker: int) -> Stretch | None:
        """Return the next job of an idle worker."""
        utterance = self._utterances[worker]
        if utterance is None or not self.ready(worker):
            return None
        feed = self._feeds[utterance]
        return Stretch(utterance, feed.fed, min(feed.pushed, feed.fed + MOST_SAMPLES))

    def done(self, work: Stretch, *, words: bool) -> bool:
        """Note that a job is done and whether its hypothesis has words; return whether anyone still wants it."""
        feed = self._feeds.get(work.utterance)
        if feed is None:
            return False
        feed.fed, feed.spoken = work.stop, words
        return True

    def close(self, utterance: int) -> int | None:
        """Free the utterance's worker, also while a job of it runs; return the worker to wake, if one got a job.

        The worker does one job at a time, so whoever has it next cannot meet that job.
        """
        feed = self._feeds.pop(utterance, None)
        self._waiting.pop(utterance, None)
        if feed is None or feed.worker is None:
            return None
        self._utterances[feed.worker] = None
        if not self._waiting:
            return None
        following = next(iter(self._waiting))
        del self._waiting[following]
        self._pin(following, feed.worker)
        return feed.worker if self.ready(feed.worker) else None

    def died(self, work: Stretch) -> None:
        """Note that a worker died on a job; an utterance that did it too often gets no more partials."""
        feed = self._feeds.get(work.utterance)
        if feed is None:
            return
        feed.deaths += 1
        if feed.deaths >= ATTEMPTS:
            self.close(work.utterance)

    def renewed(self, worker: int) -> None:
        """Note that a worker has a new decoder: its utterance begins again, from its first sample."""
        utterance = self._utterances[worker]
        if utterance is not None:
            self._feeds[utterance].fed = 0

    def _pin(self, utterance: int, worker: int) -> None:
        self._feeds[utterance].worker = worker
        self._utterances[worker] = utterance


def _is_due(feed: _Feed) -> bool:
    return feed.worker is not None and feed.pushed - feed.fed >= (feed.step if feed.spoken else LEAST_SAMPLES)
