"""One channel of a session: its utterances, their partials, and their finals in the order of speech."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from backends.base import ASRResult, ASRStream
from inference.arrival_times import ArrivalTimes
from inference.session_config import SessionConfig
from inference.utterance_pipeline import (
    UtteranceEnded,
    UtteranceEvent,
    UtterancePipeline,
    UtteranceStarted,
    shifted_words,
)
from inference.worker_interfaces import AudioSource, EventSink
from observability.connection_telemetry import ConnectionTelemetry
from protocol import events
from protocol.events import Reason
from protocol.pcm import SAMPLE_RATE, Samples, ms
from session.channel_state import ChannelState, EndedUtterance, FinalText, UtteranceState

STALL_MS = 300
"""An utterance stalls when no audio came for so much longer than the silence that ends it."""
MIN_STALL_MS = 1_200
"""Least time without audio before an utterance stalls: a browser page with a busy script sends nothing for a second
(docs/endpointing.md)."""
MAX_FINALS = 2
"""Finals of one channel that are decoded at once. With so many the session's worker takes no more audio."""


@dataclass(frozen=True, slots=True)
class SessionContext:
    """The objects that the channels of a session share."""

    source: AudioSource
    sink: EventSink
    arrivals: ArrivalTimes
    telemetry: ConnectionTelemetry


@dataclass(frozen=True, slots=True)
class _PendingFinal:
    ended: EndedUtterance
    start: int
    stream: ASRStream | None
    result: Future[ASRResult] | None
    """The future of the engine's result; None: nothing was voiced, so the final is empty."""
    dropped: int
    """Samples dropped since the utterance before."""


class SessionChannel:
    """Segments and decodes the audio of one channel. Used by the session's worker thread.

    Positions are samples since the session began. Call `execute` only while `has_backlog` is false.
    """

    def __init__(
        self, number: int, context: SessionContext, pipeline: UtterancePipeline, config: SessionConfig
    ) -> None:
        self._number = number
        self._context = context
        self._report_turn = context.sink.put if config.every_turn else context.sink.offer
        self._pipeline = pipeline
        self._config = config
        self._state = ChannelState(config.stream.partial_ms, number, every_turn=config.every_turn)
        self._finals: deque[_PendingFinal] = deque()
        self._current: UtteranceState | None = None
        self._dropped = 0
        """Samples dropped since the last utterance ended."""
        self.stall_seconds: float | None = None
        """Seconds without audio that end the open utterance; None: no utterance is open, or silence does not end it."""

    @property
    def position(self) -> int:
        """Samples taken so far."""
        return self._pipeline.position

    @property
    def next_decision_at(self) -> int:
        """Samples that must have been taken before an utterance can pause or end; an onset can wait until then."""
        return self._pipeline.next_decision_at

    @property
    def next_end_at(self) -> int:
        """Samples that must have been taken before an utterance can end."""
        return self._pipeline.next_end_at

    @property
    def has_backlog(self) -> bool:
        """Whether samples after an utterance's end are unprocessed: call `feed` again, even without more samples."""
        return self._pipeline.has_backlog

    @property
    def has_finals(self) -> bool:
        """Whether a final is being decoded."""
        return bool(self._finals)

    @property
    def is_full(self) -> bool:
        """Whether too many finals are being decoded for `feed` to be called."""
        return len(self._finals) >= MAX_FINALS

    @property
    def is_busy(self) -> bool:
        """Whether a final is being decoded, or an utterance is open or may be about to begin."""
        return bool(self._finals) or self._pipeline.speech_possible

    def feed(self, samples: Samples) -> None:
        """Process the next samples, int16 [n], up to the first end of an utterance."""
        self._context.telemetry.processed(len(samples) / SAMPLE_RATE)
        self._handle(self._pipeline.feed(samples), None)
        for level in self._pipeline.take_levels():
            self._context.sink.offer(replace(level, channel=self._number))
        if (warning := self._pipeline.take_warning()) is not None:
            self._context.sink.put(replace(warning, channel=self._number))

    def drop(self, samples: int) -> None:
        """Count samples that were dropped from the full queue. The caller feeds as much silence instead."""
        self._dropped += samples

    def execute(self, command: events.Commit | events.Clear | events.Stall, arrived: float) -> None:
        """Execute a command on this channel, which arrived at `arrived`, monotonic seconds."""
        match command:
            case events.Commit(commit_id):
                self._commit(commit_id, arrived)
            case events.Clear():
                self._pipeline.clear()
                self._current = self.stall_seconds = None
            case events.Stall():
                # The stalled utterance may have ended meanwhile, and the open one may be without endpointing.
                if self.stall_seconds is not None:
                    self.end(Reason.STALLED, arrived)

    def end(self, reason: Reason, arrived: float) -> None:
        """End the open utterance, if there is one, at `arrived`, monotonic seconds."""
        self._handle(self._pipeline.end(reason), arrived)

    def configure(self, config: SessionConfig, vad_threshold: float | None) -> None:
        """Use `config` from the next utterance on, and `vad_threshold`, if given, at once."""
        self._config = config
        self._pipeline.configure(config.segmenter, config.stream)
        if vad_threshold is not None:
            self._pipeline.set_vad_threshold(vad_threshold)

    def publish(self) -> None:
        """Report the finals that are ready, then the newest hypothesis, if it is due.

        Raises:
            EngineError: an utterance could not be decoded.
            SinkClosed: the session ended.
        """
        while self._finals and self._ready(self._finals[0]):
            self._deliver(self._finals.popleft())
        if self._pipeline.stream is not None and self._current is not None:
            self._publish_partial(self._pipeline.stream, self._current)

    def cancel(self) -> None:
        """Drop all work."""
        self._pipeline.cancel()
        for pending in self._finals:
            if pending.stream is not None:
                pending.stream.cancel()
        self._finals.clear()

    def _commit(self, commit_id: str | int | None, arrived: float) -> None:
        if self._handle(self._pipeline.end(Reason.COMMIT), arrived, commit_id):
            return
        here = self._pipeline.position
        utterance = UtteranceState(arrived, self._config.language)
        silent = EndedUtterance(utterance, here, here, Reason.COMMIT, arrived, commit_id)
        if self._config.every_turn:
            self._report_turn(events.SpeechStopped(ms(here), Reason.COMMIT, self._number))
        self._append(silent, here)

    def _handle(
        self, happened: Sequence[UtteranceEvent], arrived: float | None, commit_id: str | int | None = None
    ) -> int:
        """Process events; returns how many utterances ended.

        `arrived`: when the command that ended them arrived; None: they ended with a sample.
        """
        ended = 0
        for event in happened:
            match event:
                case UtteranceStarted(voiced_start):
                    began = self._context.arrivals.at_sample(voiced_start + 1)
                    self._current = UtteranceState(began, self._config.language)
                    self._report_turn(events.SpeechStarted(ms(voiced_start), self._number))
                    if self._config.segmenter.endpointing:
                        silence_ms = self._config.segmenter.silence_ms
                        self.stall_seconds = max(silence_ms + STALL_MS, MIN_STALL_MS) / 1000
                case UtteranceEnded():
                    known = self._context.arrivals.at_sample(event.decided_at) if arrived is None else arrived
                    self._await_final(event, known, commit_id)
                    ended += 1
        return ended

    def _await_final(self, event: UtteranceEnded, arrived: float, commit_id: str | int | None) -> None:
        state, self._current, self.stall_seconds = self._current, None, None
        if state is None:
            raise AssertionError("an utterance ended that never began")
        self._report_turn(events.SpeechStopped(ms(event.voiced_end), event.reason, self._number))
        ended = EndedUtterance(state, event.voiced_start, event.voiced_end, event.reason, arrived, commit_id)
        self._append(ended, event.start, event.stream, event.result)
        event.result.add_done_callback(lambda _: self._context.source.wake())

    def _append(
        self,
        ended: EndedUtterance,
        start: int,
        stream: ASRStream | None = None,
        result: Future[ASRResult] | None = None,
    ) -> None:
        self._finals.append(_PendingFinal(ended, start, stream, result, self._dropped))
        self._dropped = 0

    def _ready(self, pending: _PendingFinal) -> bool:
        return pending.result is None or pending.result.done() or self._context.source.must_finish

    def _deliver(self, pending: _PendingFinal) -> None:
        text = FinalText("")
        if pending.result is not None and pending.result.done():
            result = pending.result.result()
            self._context.telemetry.decoded(result.inference_seconds)
            text = _final_text(result, ms(pending.start))
        elif pending.stream is not None:
            pending.stream.cancel()
            text = FinalText(pending.ended.state.newest)
        final = self._state.next_final(pending.ended, text, time.monotonic())
        if final is not None:
            self._context.sink.put(replace(final, dropped_ms=ms(pending.dropped)))
        else:
            self._dropped += pending.dropped

    def _publish_partial(self, stream: ASRStream, utterance: UtteranceState) -> None:
        now = time.monotonic()
        hypothesis = stream.partial()
        if hypothesis is not None:
            self._context.telemetry.decoded(hypothesis.inference_seconds)
            utterance.update(hypothesis.text, now, hypothesis.stable_chars)
        if self._finals:
            return
        event = self._state.next_partial(utterance, now)
        if event is None:
            return
        if self._context.sink.offer(event):
            utterance.sent = event.text
        else:
            self._context.telemetry.partial_dropped()


def _final_text(result: ASRResult, offset_ms: int) -> FinalText:
    return FinalText(result.text, result.language, shifted_words(result, offset_ms))
