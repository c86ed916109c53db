"""Stand-ins for a client, an engine and a microphone in this folder's tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import structlog

from backends.base import ASRResult, StreamOptions
from inference.segmenter import Segmenter, SegmenterOptions
from inference.segmenter_actions import Action
from inference.session_config import SessionConfig
from inference.session_worker import SessionWorker
from inference.utterance_pipeline import UtterancePipeline
from inference.vad import FixedVad
from inference.worker_interfaces import AudioMessages, CommandMessage, Inbound, NextDecision, SinkClosed
from observability.connection_telemetry import ConnectionTelemetry
from observability.metrics import Metrics
from protocol import events
from protocol.languages import primary_subtag
from protocol.pcm import FRAME_SAMPLES, Samples, Signal
from session.channel_state import elapsed_ms

THRESHOLD = 300.0
LOUD = 3000
"""Peak of voice, in 16-bit units."""

Message = events.Hypothesis | events.Final | events.Warning | events.Cleared | events.Configured | events.Finished


def ms_of(position: int) -> int:
    """Frame positions as ms."""
    assert position % 16 == 0
    return position // 16


def judge(frames: str) -> tuple[list[float], list[bool]]:
    """Loudness and voice of a picture of frames: `V` voiced, `.` silent, a digit: silent, but so loud."""
    loudness = {"V": 1000.0, ".": 0.0}
    return [loudness.get(each) or float(each.isdigit() and each) for each in frames], [each == "V" for each in frames]


def feed(segmenter: Segmenter, loudness: Sequence[float], voiced: Sequence[bool]) -> list[Action]:
    """Feed all, though each `feed` stops where an utterance ends."""
    actions: list[Action] = []
    taken, first = 0, segmenter.position
    while taken < len(voiced):
        actions += segmenter.feed(loudness[taken:], voiced[taken:])
        taken = (segmenter.position - first) // FRAME_SAMPLES
    return actions


def draw(frames: str) -> Samples:
    """Audio, shape [320 n], with no two samples of voice in a row alike, so that a misplaced one shows."""
    audio = np.zeros(len(frames) * FRAME_SAMPLES, np.int16)
    for number, each in enumerate(frames):
        if each == "V":
            steps = np.arange(number * FRAME_SAMPLES, (number + 1) * FRAME_SAMPLES)
            wave = (LOUD - steps * 7919 % 1000) * np.where(steps % 2, 1, -1)
            audio[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES] = wave
    return audio


class FakeStream:
    """An `ASRStream` that keeps what it is told and says what it is given to say."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """What was called, with the number of samples pushed until then: `pause@6400`."""
        self.pushed: list[Signal] = []
        self.hypotheses: deque[ASRResult] = deque()
        self.result: Future[ASRResult] = Future()
        self.cancelled = False
        self.samples: int | None = None

    @property
    def audio(self) -> Signal:
        """The utterance, as `finish` bounds it."""
        return self.all_pushed[: self.samples]

    @property
    def all_pushed(self) -> Signal:
        return np.concatenate([np.zeros(0, np.float32), *self.pushed])

    @property
    def in_work(self) -> bool:
        return self.samples is not None and not self.result.done()

    def say(self, text: str) -> None:
        """The next partial."""
        self.hypotheses.append(ASRResult(text))

    def push(self, samples: Signal) -> None:
        assert self.samples is None, "pushed after finish"
        assert len(samples), "pushed nothing"
        self.pushed.append(samples.copy())

    def partial(self) -> ASRResult | None:
        return self.hypotheses.popleft() if self.hypotheses else None

    def pause(self) -> None:
        self.calls.append(f"pause@{len(self.all_pushed)}")

    def finish(self, samples: int) -> Future[ASRResult]:
        assert 0 < samples <= len(self.all_pushed)
        self.calls.append(f"finish@{samples}")
        self.samples = samples
        return self.result

    def cancel(self) -> None:
        self.cancelled = True
        self.result.cancel()


class Engine:
    """Opens fake streams and remembers them; `script` sees each as it opens."""

    def __init__(self, script: Callable[[FakeStream], None] = lambda _: None) -> None:
        self.streams: list[FakeStream] = []
        self.options: list[StreamOptions] = []
        """What each stream was opened with."""
        self._script = script

    def open(self, options: StreamOptions) -> FakeStream:
        stream = FakeStream()
        self.streams.append(stream)
        self.options.append(options)
        self._script(stream)
        return stream

    @property
    def in_work(self) -> int:
        return sum(stream.in_work for stream in self.streams)


def pipeline_of(engine: Engine, options: SegmenterOptions | None = None) -> UtterancePipeline:
    return UtterancePipeline(FixedVad(THRESHOLD), options or SegmenterOptions(), engine.open, StreamOptions())


class Clock:
    """Takes the place of the module `time`: stands still unless told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1.7e9

    def tick(self, seconds: float) -> None:
        self.now += seconds


class FakeSession:
    """A worker with its source, sink and engine, all on the test's own thread.

    The worker runs until it would wait; then the next of `steps` happens. Once there are none it is cancelled
    at its next wait, unless it ends before.
    """

    def __init__(
        self,
        clock: Clock,
        engine: Engine | None = None,
        partial_ms: int = 100,
        language: str = "auto",
        endpointing: bool = True,
        **options: int,
    ) -> None:
        self.clock = clock
        self.engine = engine or Engine()
        self.sent: list[Message] = []
        self.speech: list[events.SpeechStarted | events.SpeechStopped | events.Level] = []
        self.partials_fit = True
        self.sink_closed = False
        self.metrics = Metrics()
        self.waits: list[float] = []
        self.takes = 0
        self.wakes = 0
        self.stall_seconds: list[float | None] = []
        """What `watch_for_stall` was asked for."""
        self.peak_in_work = 0
        self.cancelled = False
        self.must_finish = False
        self.end_reason = events.Reason.DRAIN
        self._draining = False
        self._queue: deque[Inbound] = deque()
        self._bytes = 0
        self._steps: deque[Callable[[], object]] = deque()
        segmenter = SegmenterOptions(**options, endpointing=endpointing)
        stream = StreamOptions(primary_subtag(language), partial_ms=partial_ms)
        pipeline = UtterancePipeline(FixedVad(THRESHOLD), segmenter, self.engine.open, stream)
        telemetry = ConnectionTelemetry(self.metrics, structlog.get_logger())
        self._worker = SessionWorker(self, self, [pipeline], SessionConfig(language, stream, segmenter), telemetry)

    def run(self, *steps: Callable[[], object]) -> list[Message]:
        """Run each step once the worker has nothing to do; then what was sent."""
        self._steps.extend(steps)
        self._worker.run()
        return self.sent

    # What may happen.

    def send(self, audio: Samples | bytes, arrived: float | None = None) -> None:
        data = audio if isinstance(audio, bytes) else audio.astype("<i2").tobytes()
        messages = AudioMessages(self._bytes)
        messages.add(data, self.clock.now if arrived is None else arrived)
        self._queue.append(messages)
        self._bytes += len(data)

    def speak(self, frames: str, arrived: float | None = None) -> None:
        self.send(draw(frames), arrived)

    def lose(self, size: int) -> None:
        """So many bytes were sent, and dropped from a full queue."""
        self._bytes += size

    def command(self, command: events.Command, arrived: float | None = None) -> None:
        self._queue.append(CommandMessage(command, self.clock.now if arrived is None else arrived))

    def commit(self, arrived: float | None = None, commit_id: str | None = None) -> None:
        self.command(events.Commit(commit_id), arrived)

    def drain(self, reason: events.Reason = events.Reason.DRAIN) -> None:
        self._draining = True
        self.end_reason = reason

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, index: int, text: str = "", **more: object) -> None:
        """The engine has decoded its stream number `index`."""
        self.engine.streams[index].result.set_result(ASRResult(text, **more))  # type: ignore[arg-type] # a test's own

    # Source

    @property
    def exhausted(self) -> bool:
        return self._draining and not self._queue

    def take(self) -> list[Inbound]:
        self.takes += 1
        assert self.takes < 100_000, "the worker never waits"
        taken = list(self._queue)
        self._queue.clear()
        return taken

    def wait(self, seconds: float, decision: NextDecision | None) -> None:
        self.waits.append(seconds)
        self.peak_in_work = max(self.peak_in_work, self.engine.in_work)
        if self._steps:
            self._steps.popleft()()
        else:
            self.cancelled = True

    def wake(self) -> None:
        self.wakes += 1

    def watch_for_stall(self, seconds: float | None) -> None:
        self.stall_seconds.append(seconds)

    # Sink

    def offer(self, event: events.SpeechStarted | events.SpeechStopped | events.Level | events.Hypothesis) -> bool:
        if not isinstance(event, events.Hypothesis):
            self.speech.append(event)
            return True
        if self.partials_fit:
            self.sent.append(event)
        return self.partials_fit

    def put(self, event: events.Event) -> None:
        if self.sink_closed:
            raise SinkClosed
        if isinstance(event, events.Final):
            # As the send loop does.
            event = replace(event, latency_ms=elapsed_ms(event.ended, self.clock.monotonic()))
        assert not isinstance(event, events.SpeechStarted | events.SpeechStopped | events.Level)
        self.sent.append(event)

    @property
    def finals(self) -> list[events.Final]:
        return [event for event in self.sent if isinstance(event, events.Final)]
