"""The loop of a connection's own thread: hear what arrived, show partials, deliver finals in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from backends.base import ASRResult, ASRStream
from inference.arrivals import Arrivals
from inference.listener import Began, Ended, Heard, Listener
from observability.recorder import Recorder
from protocol.pcm import SAMPLE_RATE, PcmReader, Samples, ms, samples_of
from protocol.schema import Final, Partial, Reason, SpeechStarted, TimedWord
from session.state import EndedUtterance, FinalText, SessionState, UtteranceState

POLL_SPEECH_SECONDS = 0.05
"""Audio that a wait lasts at most while there is speech or a final is in work; with many sessions longer."""
POLL_IDLE_SECONDS = 0.2
"""The same when nobody speaks."""
MAX_FINALS = 2
"""Finals in work at once; beyond them the worker stops reading."""
_BLOCK = samples_of(1_000)
"""Audio is heard in blocks of at most this many samples, so that a long message holds up neither partials nor a
cancellation."""
_NOTHING = np.zeros(0, np.int16)


@dataclass(slots=True)
class AudioMessages:
    """Binary messages that came one after another; grows until it is handed over."""

    offset: int
    """Bytes that came before the first in this connection, dropped ones counted."""
    chunks: list[bytes] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    """Of each chunk, monotonic seconds, taken in the recv pump."""


@dataclass(frozen=True, slots=True)
class CommitMessage:
    """A commit."""

    arrived: float
    """Monotonic seconds, taken in the recv pump."""


Inbound = AudioMessages | CommitMessage


class Source(Protocol):
    """Where the worker gets its messages; these are called from the worker's thread, `wake` from any."""

    @property
    def cancelled(self) -> bool:
        """The client is gone, or the connection failed: drop all work."""
        ...

    @property
    def exhausted(self) -> bool:
        """Nothing is queued and nothing will come: the server drains."""
        ...

    @property
    def must_finish(self) -> bool:
        """There is no time to wait for finals: the newest partial stands in for each."""
        ...

    def take(self) -> list[Inbound]:
        """Everything queued now, in order; never waits."""
        ...

    def wait(self, seconds: float, position: int | None) -> None:
        """Sleep until about `seconds` of new audio, or the audio up to sample `position`, arrived, whichever is sooner.

        A command, an end and `wake` end the wait at once. A source with many workers may let them sleep longer, and if
        no audio comes the wait ends by itself. None: no audio ends the wait.
        """
        ...

    def wake(self) -> None:
        """End a `wait` now."""
        ...


class SinkClosed(Exception):
    """Nobody will send what the worker has to say."""


class Sink(Protocol):
    """Where the worker's messages go; called from its thread."""

    def speech_started(self, message: SpeechStarted) -> None:
        """Queue it if there is room."""
        ...

    def partial(self, message: Partial) -> bool:
        """Queue a partial if there is room; whether it was."""
        ...

    def final(self, message: Final) -> None:
        """Queue a final in place of any queued partials, waiting for room.

        Raises:
            SinkClosed: there never will be.
        """
        ...


@dataclass(frozen=True, slots=True)
class _PendingFinal:
    ended: EndedUtterance
    start: int
    stream: ASRStream | None
    result: Future[ASRResult] | None
    """None: nothing was voiced, so nothing is decoded."""


class Worker:
    """One connection's hearing. `run` is the thread's body; nothing else is called from outside that thread."""

    def __init__(self, source: Source, sink: Sink, listener: Listener, state: SessionState, recorder: Recorder) -> None:
        self._source = source
        self._sink = sink
        self._listener = listener
        self._state = state
        self._recorder = recorder
        self._reader = PcmReader()
        self._arrivals = Arrivals()
        self._steps: Iterator[Samples | CommitMessage] = iter(())
        self._finals: deque[_PendingFinal] = deque()
        self._current: UtteranceState | None = None
        self._concluded = False

    def run(self) -> None:
        """Work until the source is cancelled, or exhausted and its last final delivered.

        Raises:
            EngineError: an utterance could not be decoded.
        """
        try:
            while not self._source.cancelled:
                self._report()
                if self._concluded and not self._finals:
                    break
                step = self._next_step()
                if step is None:
                    self._wait()
                elif step is Reason.DRAIN:
                    self._concluded = True
                    self._end_utterance(Reason.DRAIN, time.monotonic())
                elif isinstance(step, CommitMessage):
                    self._end_utterance(Reason.COMMIT, step.arrived)
                else:
                    self._hear(step)
        except SinkClosed:
            pass  # the connection ended while a final waited for room: a normal ending
        finally:
            self._drop_all()

    def _wait(self) -> None:
        busy = self._finals or self._listener.expectant
        reading = not self._concluded and len(self._finals) < MAX_FINALS
        # Nothing can change before the audio has reached what is due, and then something may at once.
        seconds = POLL_SPEECH_SECONDS if busy else POLL_IDLE_SECONDS
        self._source.wait(seconds, self._listener.due if reading else None)

    def _next_step(self) -> Samples | CommitMessage | Literal[Reason.DRAIN] | None:
        if self._concluded or len(self._finals) >= MAX_FINALS:
            return None
        if self._listener.behind:
            return _NOTHING
        step = next(self._steps, None)
        if step is None:
            # Asked before taking: what is queued before the end must be heard before it.
            exhausted = self._source.exhausted
            self._steps = self._blocks(self._source.take())
            step = next(self._steps, None)
            if step is None and exhausted:
                return Reason.DRAIN
        return step

    def _blocks(self, messages: Sequence[Inbound]) -> Iterator[Samples | CommitMessage]:
        for message in messages:
            if isinstance(message, CommitMessage):
                yield message
                continue
            silence, samples = self._reader.read(message.offset, b"".join(message.chunks))
            self._arrivals.note(message.offset, message.chunks, message.arrivals)
            for done in range(0, silence, _BLOCK):
                yield np.zeros(min(_BLOCK, silence - done), np.int16)
            for first in range(0, len(samples), _BLOCK):
                yield samples[first : first + _BLOCK]

    def _hear(self, samples: Samples) -> None:
        self._recorder.heard(len(samples) / SAMPLE_RATE)
        self._follow(self._listener.hear(samples), None)

    def _end_utterance(self, reason: Reason, arrived: float) -> None:
        ended = self._follow(self._listener.end(reason), arrived)
        if reason is Reason.COMMIT and not ended:
            here = self._listener.position
            silent = EndedUtterance(UtteranceState(arrived), here, here, reason, arrived)
            self._finals.append(_PendingFinal(silent, here, stream=None, result=None))

    def _follow(self, events: Sequence[Heard], arrived: float | None) -> int:
        """How many utterances ended; `arrived` is when that was asked for, None: when their last sample came."""
        ended = 0
        for event in events:
            match event:
                case Began(voiced_start):
                    self._current = UtteranceState(began=self._arrivals.of(voiced_start + 1))
                    self._tell_start(voiced_start)
                case Ended():
                    self._await_final(event, self._arrivals.of(event.known) if arrived is None else arrived)
                    ended += 1
        return ended

    def _tell_start(self, voiced_start: int) -> None:
        message = self._state.speech_started_due(voiced_start, time.time())
        if message is not None:
            self._sink.speech_started(message)

    def _await_final(self, event: Ended, arrived: float) -> None:
        state, self._current = self._current, None
        if state is None:
            raise AssertionError("an utterance ended that never began")
        ended = EndedUtterance(state, event.voiced_start, event.voiced_end, event.reason, arrived)
        self._finals.append(_PendingFinal(ended, event.start, event.stream, event.result))
        event.result.add_done_callback(lambda _: self._source.wake())

    def _report(self) -> None:
        while self._finals and self._ready(self._finals[0]):
            self._deliver(self._finals.popleft())
        if self._listener.stream is not None and self._current is not None:
            self._show_partial(self._listener.stream, self._current)

    def _ready(self, pending: _PendingFinal) -> bool:
        return pending.result is None or pending.result.done() or self._source.must_finish

    def _deliver(self, pending: _PendingFinal) -> None:
        text = FinalText("")
        if pending.result is not None and pending.result.done():
            result = pending.result.result()
            self._recorder.decoded(result.inference_seconds)
            text = _final_text(result, ms(pending.start))
        elif pending.stream is not None:
            pending.stream.cancel()
            text = FinalText(pending.ended.state.newest)
        message = self._state.final_due(pending.ended, text, time.monotonic(), time.time())
        if message is not None:
            self._sink.final(message)
            self._recorder.final(message.reason, message.segment_seq, message.first_token_ms, message.latency_ms)

    def _show_partial(self, stream: ASRStream, utterance: UtteranceState) -> None:
        now = time.monotonic()
        hypothesis = stream.partial()
        if hypothesis is not None:
            self._recorder.decoded(hypothesis.inference_seconds)
            utterance.heard(hypothesis.text, now)
        if self._finals:
            return
        message = self._state.partial_due(utterance, now, time.time())
        if message is None:
            return
        if self._sink.partial(message):
            utterance.shown = message.text
        else:
            self._recorder.partial_dropped()

    def _drop_all(self) -> None:
        self._listener.cancel()
        for pending in self._finals:
            if pending.stream is not None:
                pending.stream.cancel()
        self._finals.clear()


def _final_text(result: ASRResult, offset_ms: int) -> FinalText:
    words = result.words
    if words is None:
        return FinalText(result.text, result.language)
    timed = [
        TimedWord(
            word=word.word,
            start_ms=word.start_ms + offset_ms,
            end_ms=word.end_ms + offset_ms,
            confidence=round(word.confidence, 3),
        )
        for word in words
    ]
    return FinalText(result.text, result.language, timed)
