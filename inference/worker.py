"""The loop of a connection's own thread: hear what arrived, show partials, deliver finals in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from backends.base import ASRResult, ASRStream
from inference.arrivals import Arrivals
from inference.listener import Began, Ended, Heard, Listener
from observability.recorder import Recorder
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE, PcmReader, Samples, ms, samples_of
from protocol.schema import Final, Partial, Reason, TimedWord
from session.state import EndedUtterance, FinalText, SessionState, UtteranceState

POLL_SPEECH_SECONDS = 0.05
"""Longest wait while there is speech or a final is in work."""
POLL_IDLE_SECONDS = 0.2
"""Longest wait when nobody speaks."""
MAX_FINALS = 2
"""Finals in work at once; beyond them the worker stops reading."""
_BLOCK = samples_of(100)
"""Audio is heard in blocks of at most this many samples, so that a long message holds up neither partials nor a
cancellation."""
_NOTHING = np.zeros(0, np.int16)


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """A binary message."""

    offset: int
    """Bytes that came before it in this connection, dropped ones counted."""
    data: bytes
    arrived: float
    """Monotonic seconds, taken in the recv pump."""


@dataclass(frozen=True, slots=True)
class CommitMessage:
    """A commit."""

    arrived: float
    """Monotonic seconds, taken in the recv pump."""


Inbound = AudioMessage | CommitMessage


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

    def take(self) -> list[Inbound]:
        """Everything queued now, in order; never waits."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until a commit, an end or `wake`."""
        ...

    def wake(self) -> None:
        """End a `wait` now."""
        ...


class SinkClosed(Exception):
    """Nobody will send what the worker has to say."""


class Sink(Protocol):
    """Where the worker's messages go; called from its thread."""

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
                    self._source.wait(self._patience())
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

    def _patience(self) -> float:
        busy = self._finals or self._listener.expectant
        return POLL_SPEECH_SECONDS if busy else POLL_IDLE_SECONDS

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
        block = _NOTHING
        for message in messages:
            if isinstance(message, CommitMessage):
                if len(block):
                    yield block
                yield message
                block = _NOTHING
                continue
            for piece in self._pieces(message):
                block = np.concatenate((block, piece))
                while len(block) >= _BLOCK:
                    yield block[:_BLOCK]
                    block = block[_BLOCK:]
        if len(block):
            yield block

    def _pieces(self, message: AudioMessage) -> Iterator[Samples]:
        silence, samples = self._reader.read(message.offset, message.data)
        self._arrivals.note((message.offset + len(message.data)) // BYTES_PER_SAMPLE, message.arrived)
        for done in range(0, silence, _BLOCK):
            yield np.zeros(min(_BLOCK, silence - done), np.int16)
        yield samples

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
                case Ended():
                    self._await_final(event, self._arrivals.of(event.known) if arrived is None else arrived)
                    ended += 1
        return ended

    def _await_final(self, event: Ended, arrived: float) -> None:
        state, self._current = self._current, None
        if state is None:
            raise AssertionError("an utterance ended that never began")
        ended = EndedUtterance(state, event.voiced_start, event.voiced_end, event.reason, arrived)
        self._finals.append(_PendingFinal(ended, event.start, event.stream, event.result))
        event.result.add_done_callback(lambda _: self._source.wake())

    def _report(self) -> None:
        while self._finals and (self._finals[0].result is None or self._finals[0].result.done()):
            self._deliver(self._finals.popleft())
        if self._listener.stream is not None and self._current is not None:
            self._show_partial(self._listener.stream, self._current)

    def _deliver(self, pending: _PendingFinal) -> None:
        text = FinalText("")
        if pending.result is not None:
            result = pending.result.result()
            self._recorder.decoded(result.inference_seconds)
            text = _final_text(result, ms(pending.start))
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
