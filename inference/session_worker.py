"""The loop of a session's own thread: commands in, events out; finals leave in the order of speech."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np

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
from inference.worker_queues import AudioSource, CommandMessage, EventSink, Inbound, SinkClosed
from observability.connection_telemetry import ConnectionTelemetry
from protocol import events
from protocol.events import Reason
from protocol.pcm import SAMPLE_RATE, PcmReader, Samples, ms, samples_of
from session.state import EndedUtterance, FinalText, SessionState, UtteranceState

POLL_SPEECH_SECONDS = 0.05
"""New audio that ends a wait while somebody speaks or a final is being decoded; with many sessions more."""
POLL_IDLE_SECONDS = 0.2
"""The same while nobody speaks."""
POLL_LEVEL_SECONDS = 0.1
"""The same while nobody speaks, where levels are reported."""
STALL_MS = 300
"""An utterance has stalled when no audio came for so much longer than the silence that ends it."""
MIN_STALL_MS = 1_200
"""And never before: a browser page whose script is held up sends nothing for a second. docs/endpointing.md."""
MAX_FINALS = 2
"""Finals being decoded at once; beyond them the worker stops reading."""
_BLOCK = samples_of(1_000)
"""Audio is processed in blocks of at most this many samples, so that a long message delays neither partials nor a
cancellation."""
_NOTHING = np.zeros(0, np.int16)


@dataclass(frozen=True, slots=True)
class _PendingFinal:
    ended: EndedUtterance
    start: int
    stream: ASRStream | None
    result: Future[ASRResult] | None
    """None: nothing was voiced, so nothing is decoded."""


class SessionWorker:
    """One session's segmentation and decoding. `run` is the thread's body; everything is called on that thread."""

    def __init__(
        self,
        source: AudioSource,
        sink: EventSink,
        pipeline: UtterancePipeline,
        config: SessionConfig,
        telemetry: ConnectionTelemetry,
    ) -> None:
        self._source = source
        self._sink = sink
        self._report_turn = sink.put if config.every_turn else sink.offer
        self._pipeline = pipeline
        self._config = config
        self._state = SessionState(config.stream.partial_ms, every_turn=config.every_turn)
        self._telemetry = telemetry
        self._reader = PcmReader()
        self._arrivals = ArrivalTimes()
        self._steps: Iterator[Samples | CommandMessage] = iter(())
        self._finals: deque[_PendingFinal] = deque()
        self._current: UtteranceState | None = None
        self._dropped = 0
        """Samples dropped since the last final."""
        self._may_stall = False
        """An utterance is open that silence may end."""
        self._concluded: Reason | None = None
        """Why the last utterance was ended: nothing more is read."""

    def run(self) -> None:
        """Work until the source is cancelled, or the last final is delivered after `Finish` or the source's end.

        Raises:
            EngineError: an utterance could not be decoded.
        """
        try:
            while not self._source.cancelled:
                self._publish()
                if self._concluded and not self._finals:
                    self._conclude()
                    break
                if not self._step():
                    self._wait()
        except SinkClosed:
            pass  # the session ended while a final waited for room: a normal ending
        finally:
            self._drop_all()

    def _conclude(self) -> None:
        if self._concluded is Reason.FINISH:
            self._sink.put(events.Finished())

    def _wait(self) -> None:
        busy = self._finals or self._pipeline.speech_possible
        # Nothing can change before the audio has reached the next decision, and then something may at once.
        idle = POLL_LEVEL_SECONDS if self._pipeline.has_levels else POLL_IDLE_SECONDS
        seconds = POLL_SPEECH_SECONDS if busy else idle
        self._source.wait(seconds, self._pipeline.next_decision_at if self._reads else None)

    @property
    def _reads(self) -> bool:
        return not self._concluded and len(self._finals) < MAX_FINALS

    def _step(self) -> bool:
        """Process the next block of audio or command; False: there is none now."""
        if not self._reads:
            return False
        if self._pipeline.has_backlog:
            self._process(_NOTHING)
            return True
        step = next(self._steps, None)
        if step is None:
            # Asked before taking: what is queued before the end must be processed before it.
            exhausted = self._source.exhausted
            self._steps = self._blocks(self._source.take())
            step = next(self._steps, None)
            if step is None and exhausted:
                self._end_session(self._source.end_reason, time.monotonic())
                return True
        if isinstance(step, CommandMessage):
            self._obey(step.command, step.arrived)
        elif step is not None:
            self._process(step)
        return step is not None

    def _blocks(self, messages: Sequence[Inbound]) -> Iterator[Samples | CommandMessage]:
        for message in messages:
            if isinstance(message, CommandMessage):
                yield message
                continue
            silence, samples = self._reader.read(message.offset, b"".join(message.chunks))
            self._arrivals.record(message.offset, message.chunks, message.arrivals, live=message.live)
            if silence:
                self._report_dropped(silence)
            for done in range(0, silence, _BLOCK):
                yield np.zeros(min(_BLOCK, silence - done), np.int16)
            for first in range(0, len(samples), _BLOCK):
                yield samples[first : first + _BLOCK]

    def _report_dropped(self, samples: int) -> None:
        """Report audio that was dropped from the full queue; it counts as silence."""
        begin = self._pipeline.position
        self._dropped += samples
        self._sink.put(
            events.Warning(
                events.WarningCode.AUDIO_DROPPED,
                f"the engine is late: audio from {ms(begin)} to {ms(begin + samples)} ms was dropped",
            )
        )

    def _process(self, samples: Samples) -> None:
        self._telemetry.processed(len(samples) / SAMPLE_RATE)
        self._handle(self._pipeline.feed(samples), None)
        for level in self._pipeline.take_levels():
            self._sink.offer(level)
        if (warning := self._pipeline.take_warning()) is not None:
            self._sink.put(warning)

    def _obey(self, command: events.Command, arrived: float) -> None:
        match command:
            case events.Commit(commit_id):
                self._commit(commit_id, arrived)
            case events.Finish():
                self._end_session(Reason.FINISH, arrived)
            case events.Clear():
                self._pipeline.clear()
                self._current = None
                self._watch_for_stall(may_stall=False)
                self._sink.put(events.Cleared())
            case events.Configure():
                self._configure(command)
            case events.Reject(code, message):
                self._sink.put(events.Warning(code, message))
            case events.Stall():
                self._end_stalled(arrived)
            case _:
                raise AssertionError(f"not for the worker: {command}")

    def _commit(self, commit_id: str | int | None, arrived: float) -> None:
        ended = self._handle(self._pipeline.end(Reason.COMMIT), arrived, commit_id)
        if not ended:
            here = self._pipeline.position
            utterance = UtteranceState(arrived, self._config.language)
            silent = EndedUtterance(utterance, here, here, Reason.COMMIT, arrived, commit_id)
            if self._config.every_turn:
                self._sink.put(events.SpeechStopped(ms(here), Reason.COMMIT))
            self._finals.append(_PendingFinal(silent, here, stream=None, result=None))

    def _end_stalled(self, arrived: float) -> None:
        # The utterance that stalled may have ended meanwhile, and the open one may end by commits only.
        if self._may_stall:
            self._handle(self._pipeline.end(Reason.STALLED), arrived)

    def _end_session(self, reason: Reason, arrived: float) -> None:
        self._concluded = reason
        self._handle(self._pipeline.end(reason), arrived)

    def _configure(self, command: events.Configure) -> None:
        self._config = self._config.changed(command)
        self._pipeline.configure(self._config.segmenter, self._config.stream)
        if command.vad_threshold is not None:
            self._pipeline.set_vad_threshold(command.vad_threshold)
        self._sink.put(self._config.reported())

    def _handle(
        self, happened: Sequence[UtteranceEvent], arrived: float | None, commit_id: str | int | None = None
    ) -> int:
        """How many utterances ended; `arrived` is when a command ended them, None: when their last sample came."""
        ended = 0
        for event in happened:
            match event:
                case UtteranceStarted(voiced_start):
                    self._current = UtteranceState(self._arrivals.at_sample(voiced_start + 1), self._config.language)
                    self._report_turn(events.SpeechStarted(ms(voiced_start)))
                    self._watch_for_stall(may_stall=self._config.segmenter.endpointing)
                case UtteranceEnded():
                    known = self._arrivals.at_sample(event.decided_at) if arrived is None else arrived
                    self._await_final(event, known, commit_id)
                    ended += 1
        return ended

    def _await_final(self, event: UtteranceEnded, arrived: float, commit_id: str | int | None) -> None:
        state, self._current = self._current, None
        if state is None:
            raise AssertionError("an utterance ended that never began")
        self._watch_for_stall(may_stall=False)
        self._report_turn(events.SpeechStopped(ms(event.voiced_end), event.reason))
        ended = EndedUtterance(state, event.voiced_start, event.voiced_end, event.reason, arrived, commit_id)
        self._finals.append(_PendingFinal(ended, event.start, event.stream, event.result))
        event.result.add_done_callback(lambda _: self._source.wake())

    def _watch_for_stall(self, *, may_stall: bool) -> None:
        if may_stall or self._may_stall:
            silence_ms = self._config.segmenter.silence_ms
            self._source.watch_for_stall(max(silence_ms + STALL_MS, MIN_STALL_MS) / 1000 if may_stall else None)
        self._may_stall = may_stall

    def _publish(self) -> None:
        while self._finals and self._ready(self._finals[0]):
            self._deliver(self._finals.popleft())
        if self._pipeline.stream is not None and self._current is not None:
            self._publish_partial(self._pipeline.stream, self._current)

    def _ready(self, pending: _PendingFinal) -> bool:
        return pending.result is None or pending.result.done() or self._source.must_finish

    def _deliver(self, pending: _PendingFinal) -> None:
        text = FinalText("")
        if pending.result is not None and pending.result.done():
            result = pending.result.result()
            self._telemetry.decoded(result.inference_seconds)
            text = _final_text(result, ms(pending.start))
        elif pending.stream is not None:
            pending.stream.cancel()
            text = FinalText(pending.ended.state.newest)
        final = self._state.next_final(pending.ended, text, time.monotonic())
        if final is not None:
            self._sink.put(replace(final, dropped_ms=ms(self._dropped)))
            self._dropped = 0

    def _publish_partial(self, stream: ASRStream, utterance: UtteranceState) -> None:
        now = time.monotonic()
        hypothesis = stream.partial()
        if hypothesis is not None:
            self._telemetry.decoded(hypothesis.inference_seconds)
            utterance.update(hypothesis.text, now, hypothesis.stable_chars)
        if self._finals:
            return
        event = self._state.next_partial(utterance, now)
        if event is None:
            return
        if self._sink.offer(event):
            utterance.sent = event.text
        else:
            self._telemetry.partial_dropped()

    def _drop_all(self) -> None:
        self._pipeline.cancel()
        for pending in self._finals:
            if pending.stream is not None:
                pending.stream.cancel()
        self._finals.clear()


def _final_text(result: ASRResult, offset_ms: int) -> FinalText:
    return FinalText(result.text, result.language, shifted_words(result, offset_ms))
