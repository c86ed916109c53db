"""Samples in, utterances decoded out: the part of hearing that live sessions and files share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from backends.base import ASRResult, ASRStream
from inference.segmenter import Action, Closed, Opened, Paused, Resumed, Segmenter
from inference.vad import Judged, Vad
from protocol.pcm import FRAME_SAMPLES, Samples, Signal, to_signal
from protocol.schema import Reason


@dataclass(frozen=True, slots=True)
class Began:
    """An utterance opened; its voice starts at sample `voiced_start`."""

    voiced_start: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An utterance closed, and its final is being decoded."""

    stream: ASRStream
    result: Future[ASRResult]
    start: int
    """First sample of its audio: what its word times count from."""
    voiced_start: int
    voiced_end: int
    reason: Reason
    known: int
    """End of the audio that was needed to know."""


Heard = Began | Ended


class Listener:
    """Runs voice activity, the segmenter and the open utterance's stream over one source. Used by one thread."""

    def __init__(self, vad: Vad, segmenter: Segmenter, open_stream: Callable[[], ASRStream]) -> None:
        self._vad = vad
        self._segmenter = segmenter
        self._open_stream = open_stream
        self._window = np.zeros(0, np.float32)
        self._window_start = 0
        self._opened = Opened(0, 0)
        self._pushed = 0
        self._unfed: Judged = [], []
        """Frames after the segmenter's position that are judged already."""
        self._heard: list[Heard] = []
        """What is not handed over yet."""
        self.stream: ASRStream | None = None
        """The open utterance's stream."""

    @property
    def expectant(self) -> bool:
        """Whether an utterance is open or may be about to open."""
        return self._segmenter.expectant

    @property
    def position(self) -> int:
        """Samples taken so far."""
        return self._window_start + len(self._window)

    @property
    def due(self) -> int:
        """Samples that must have been taken before anything can change."""
        return self._segmenter.position + self._segmenter.horizon

    @property
    def behind(self) -> bool:
        """Whether an utterance's end stopped the hearing of what was taken: `hear` again, with or without more."""
        return self.position - self._segmenter.position >= FRAME_SAMPLES

    def hear(self, samples: Samples) -> list[Heard]:
        """Take the next samples (int16, shape [n]); hear what was taken, up to the first end of an utterance."""
        return self.hear_signal(to_signal(samples))

    def hear_signal(self, signal: Signal) -> list[Heard]:
        """As `hear`, with float32 in [-1, 1), shape [n]."""
        self._window = np.concatenate((self._window, signal)) if len(self._window) else signal
        heard = self._follow(self._segment())
        self._forget(self._segmenter.keep_from)
        return heard

    def end(self, reason: Reason) -> list[Heard]:
        """End the utterance that is open or about to open, at the last sample taken; nothing may be `behind`."""
        tail = self._since(self._segmenter.position)
        loudness, voiced = self._judge_tail(tail)
        heard = self._follow(self._segmenter.end(reason, len(tail), loudness, voiced=voiced))
        self._forget(self._segmenter.position)
        return heard

    def _judge_tail(self, tail: Signal) -> tuple[float, bool]:
        if not len(tail):
            return 0.0, False
        # The tail repeats to fill the frame, so that its RMS is its own and not diluted by zeros.
        (loudness,), (voiced,) = self._vad.frames(np.resize(tail, FRAME_SAMPLES))
        return loudness, voiced

    def cancel(self) -> None:
        """Drop the open utterance, and whatever was not handed over because an engine failed."""
        for each in self._heard:
            if isinstance(each, Ended):
                each.stream.cancel()
        self._heard.clear()
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    def _segment(self) -> list[Action]:
        """Judge what was not judged yet, and feed it up to the first end of an utterance.

        A detector remembers what it heard, so that every frame is judged once, though it may be fed later.
        """
        before = self._segmenter.position
        loudness, voiced = self._vad.frames(self._since(before + len(self._unfed[0]) * FRAME_SAMPLES))
        if self._unfed[0]:
            loudness, voiced = self._unfed[0] + loudness, self._unfed[1] + voiced
        actions = self._segmenter.feed(loudness, voiced)
        taken = (self._segmenter.position - before) // FRAME_SAMPLES
        self._unfed = loudness[taken:], voiced[taken:]
        return actions

    def _follow(self, actions: list[Action]) -> list[Heard]:
        for action in actions:
            match action:
                case Opened():
                    self._opened = action
                    self._pushed = action.start
                    self.stream = self._open_stream()
                    self._heard.append(Began(action.voiced_start))
                case Paused(at):
                    self._push(at).pause()
                case Resumed():
                    pass  # the audio held back is pushed with what follows it
                case Closed():
                    self._heard.append(self._close(action))
        if self._segmenter.listening:
            self._push(self._segmenter.position)
        heard, self._heard = self._heard, []
        return heard

    def _close(self, closed: Closed) -> Ended:
        stream = self._push(closed.at)
        ended = Ended(
            stream=stream,
            result=stream.finish(closed.at - self._opened.start),
            start=self._opened.start,
            voiced_start=self._opened.voiced_start,
            voiced_end=closed.voiced_end,
            reason=closed.reason,
            known=closed.known,
        )
        self.stream = None
        return ended

    def _push(self, until: int) -> ASRStream:
        if self.stream is None:
            raise AssertionError("the segmenter acted on an utterance that is not open")
        if until > self._pushed:
            first = self._pushed - self._window_start
            self.stream.push(self._window[first : until - self._window_start])
            self._pushed = until
        return self.stream

    def _since(self, position: int) -> Signal:
        return self._window[position - self._window_start :]

    def _forget(self, before: int) -> None:
        drop = before - self._window_start
        if drop > 0:
            self._window = self._window[drop:]
            self._window_start = before
