"""Detector, segmenter and engine in a row: samples in, utterances out. Used by live sessions and files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from backends.base import ASRResult, ASRStream, StreamOptions
from inference.level_meter import LevelMeter
from inference.quiet_voice import QuietVoiceFinder
from inference.segmenter import Segmenter, SegmenterOptions
from inference.segmenter_actions import Action, Closed, Opened, Paused, Resumed
from inference.vad import FrameDecisions, Vad
from protocol import events
from protocol.events import Level, Reason, WarningCode, Word
from protocol.pcm import FRAME_SAMPLES, Samples, Signal, to_signal


@dataclass(frozen=True, slots=True)
class UtteranceStarted:
    """An utterance began; its voice starts at sample `voiced_start`."""

    voiced_start: int


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """An utterance ended, and its final is being decoded."""

    stream: ASRStream
    result: Future[ASRResult]
    start: int
    """First sample of its audio: what its word times count from."""
    voiced_start: int
    voiced_end: int
    reason: Reason
    decided_at: int
    """End of the audio that was needed for the decision."""


UtteranceEvent = UtteranceStarted | UtteranceEnded


def shifted_words(result: ASRResult, offset_ms: int) -> tuple[Word, ...] | None:
    """A result's words with `offset_ms` added to each time; None where there are none."""
    if result.words is None:
        return None
    return tuple(
        Word(word.word, word.start_ms + offset_ms, word.end_ms + offset_ms, round(word.confidence, 3))
        for word in result.words
    )


class UtterancePipeline:
    """Runs the detector, the segmenter and the open utterance's stream over one source. Used by one thread."""

    def __init__(
        self,
        vad: Vad,
        segmenter: SegmenterOptions,
        open_stream: Callable[[StreamOptions], ASRStream],
        options: StreamOptions,
        *,
        levels: bool = False,
        finds_quiet_voice: bool = False,
    ) -> None:
        """`open_stream` opens an engine's stream, of which `options` are the first utterance's.

        `levels`: whether `take_levels` has any. `finds_quiet_voice`: whether `take_warning` may have one.
        """
        self._vad = vad
        self._quiet_voice = QuietVoiceFinder() if finds_quiet_voice and vad.threshold is not None else None
        self._meter = LevelMeter(vad) if levels else None
        self._segmenter = Segmenter(segmenter)
        self._open_stream = open_stream
        self._options = options
        self._window = np.zeros(0, np.float32)
        self._window_start = 0
        self._opened = Opened(0, 0)
        self._pushed = 0
        self._unfed: FrameDecisions = [], []
        """Decisions of the detector about frames that the segmenter has not processed."""
        self._events: list[UtteranceEvent] = []
        """Events not returned yet, because an engine failed."""
        self.stream: ASRStream | None = None
        """The open utterance's stream."""

    def configure(self, segmenter: SegmenterOptions, options: StreamOptions) -> None:
        """Use these options from the next utterance on."""
        self._segmenter.configure(segmenter)
        self._options = options

    @property
    def vad_threshold(self) -> float | None:
        """RMS in 16-bit units from which the next frame is voiced; None: loudness does not decide."""
        return self._vad.threshold

    def set_vad_threshold(self, threshold: float) -> None:
        """Use this threshold from now on, RMS in 16-bit units."""
        self._vad.set_threshold(threshold)

    @property
    def speech_possible(self) -> bool:
        """Whether an utterance is open or may be about to begin."""
        return self._segmenter.speech_possible

    @property
    def position(self) -> int:
        """Samples taken so far."""
        return self._window_start + len(self._window)

    @property
    def next_decision_at(self) -> int:
        """Samples that must have been taken before an utterance can pause or end; an onset can wait until then."""
        return self._segmenter.position + self._segmenter.samples_until_decision

    @property
    def next_end_at(self) -> int:
        """Samples that must have been taken before an utterance can end."""
        return self._segmenter.position + self._segmenter.samples_until_end

    @property
    def has_backlog(self) -> bool:
        """Whether samples after an utterance's end are unprocessed: call `feed` again, even without more samples."""
        return self.position - self._segmenter.position >= FRAME_SAMPLES

    def feed(self, samples: Samples) -> list[UtteranceEvent]:
        """Process the next samples (int16, shape [n]), and all before them, up to the first end of an utterance."""
        return self.feed_signal(to_signal(samples))

    def feed_signal(self, signal: Signal) -> list[UtteranceEvent]:
        """As `feed`, with float32 in [-1, 1), shape [n]."""
        self._window = np.concatenate((self._window, signal)) if len(self._window) else signal
        events = self._apply(self._segment())
        self._forget(self._segmenter.keep_from)
        return events

    def end(self, reason: Reason) -> list[UtteranceEvent]:
        """End the utterance that is open or about to begin at the last sample taken. There must be no backlog."""
        tail = self._since(self._segmenter.position)
        loudness, voiced = self._judge_tail(tail)
        events = self._apply(self._segmenter.end(reason, len(tail), loudness, voiced=voiced))
        self._forget(self._segmenter.position)
        return events

    def clear(self) -> None:
        """Drop the utterance that is open or about to begin. There must be no backlog."""
        self.cancel()
        self._segmenter.clear(len(self._since(self._segmenter.position)))
        self._forget(self._segmenter.position)

    def _judge_tail(self, tail: Signal) -> tuple[float, bool]:
        if not len(tail):
            return 0.0, False
        # The tail is repeated to fill a frame. Zeros would lower its RMS.
        (loudness,), (voiced,) = self._vad.frames(np.resize(tail, FRAME_SAMPLES))
        return loudness, voiced

    def cancel(self) -> None:
        """Drop the open utterance's stream, and events not returned because an engine failed."""
        for each in self._events:
            if isinstance(each, UtteranceEnded):
                each.stream.cancel()
        self._events.clear()
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    def _segment(self) -> list[Action]:
        """Pass new frames to the detector, and frames to the segmenter up to the first end of an utterance.

        Detectors have state, so each frame is passed to the detector once, though perhaps later to the segmenter.
        """
        before = self._segmenter.position
        loudness, voiced = self._judge(before + len(self._unfed[0]) * FRAME_SAMPLES)
        if self._unfed[0]:
            loudness, voiced = self._unfed[0] + loudness, self._unfed[1] + voiced
        actions = self._segmenter.feed(loudness, voiced)
        taken = (self._segmenter.position - before) // FRAME_SAMPLES
        self._unfed = loudness[taken:], voiced[taken:]
        return actions

    def _judge(self, start: int) -> FrameDecisions:
        signal = self._since(start)
        decisions = self._vad.frames(signal) if self._meter is None else self._meter.frames(signal, start)
        if self._quiet_voice is not None:
            self._quiet_voice.update(*decisions)
        return decisions

    @property
    def has_levels(self) -> bool:
        """Whether levels are measured."""
        return self._meter is not None

    def take_levels(self) -> list[Level]:
        """The levels since the last call; none if they are not measured."""
        return [] if self._meter is None else self._meter.take()

    def take_warning(self) -> events.Warning | None:
        """A warning that speech is too quiet for the detector's threshold; at most one."""
        if self._quiet_voice is None or self._quiet_voice.loudest is None:
            return None
        loudest, self._quiet_voice = self._quiet_voice.loudest, None
        return events.Warning(
            WarningCode.TOO_QUIET,
            f"5 s of audio sound like speech that is too quiet: the loudest 20 ms have an RMS of {loudest:.0f}, and "
            f"only {self._vad.threshold or 0:.0f} counts as voice (the detector's threshold)",
        )

    def _apply(self, actions: list[Action]) -> list[UtteranceEvent]:
        for action in actions:
            match action:
                case Opened():
                    self._opened = action
                    self._pushed = action.start
                    self.stream = self._open_stream(self._options)
                    self._events.append(UtteranceStarted(action.voiced_start))
                case Paused(at):
                    self._push(at).pause()
                case Resumed():
                    pass  # the audio of the pause is pushed with the audio after it
                case Closed():
                    self._events.append(self._close(action))
        if self._segmenter.is_speaking:
            self._push(self._segmenter.position)
        events, self._events = self._events, []
        return events

    def _close(self, closed: Closed) -> UtteranceEnded:
        stream = self._push(closed.at)
        ended = UtteranceEnded(
            stream=stream,
            result=stream.finish(closed.at - self._opened.start),
            start=self._opened.start,
            voiced_start=self._opened.voiced_start,
            voiced_end=closed.voiced_end,
            reason=closed.reason,
            decided_at=closed.decided_at,
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
