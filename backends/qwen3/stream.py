"""One utterance: its audio, its schedule, and the engine that follows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from uuid import uuid4

from backends.base import ASRResult, EngineError
from backends.qwen3.audio import Recording
from backends.qwen3.desk import Order, Result
from backends.qwen3.engine import Engine
from backends.qwen3.model import Clip, Request, Vocabulary
from backends.qwen3.prompt import Frame, parse, roll_back
from backends.qwen3.schedule import Abort, Begin, Command, Decode, Decoded, Rules, Schedule, Settle, Show
from backends.qwen3.windows import layout
from protocol.pcm import SAMPLE_RATE, Signal


@dataclass(frozen=True, slots=True)
class Speaker:
    """What the utterances of one speaker have in common."""

    frame: Frame
    language: str | None
    """Forced; None: the model says."""
    live: bool
    notify: Callable[[], None]
    """Called when `partial` has something new; never under a lock."""


class Qwen3Stream:
    """An `ASRStream`. Nothing in it waits: orders are left with the engine, whose thread hands in what they came to."""

    def __init__(
        self, engine: Engine, vocabulary: Vocabulary, speaker: Speaker, *, max_tokens: int, freeze: bool
    ) -> None:
        """Open an utterance; the last two are the options' `max_tokens` and `freeze_windows`."""
        self._engine = engine
        self._vocabulary = vocabulary
        self._speaker = speaker
        self._freeze = freeze
        self._lock = threading.Lock()
        """Of all below, between the session's thread and the engine's. The engine's own lock is only taken within."""
        self._name = uuid4().hex
        """Nobody else can name its audio in the engine's caches."""
        self._recording = Recording()
        self._schedule = Schedule(Rules(speaker.live, max_tokens, _roll_back(vocabulary, speaker), freeze))
        self._order: tuple[int, Order] | None = None
        """The decode in flight, by its number in the schedule."""
        self._sent: set[str] = set()
        """Keys of audio items that the engine was sent."""
        self._shown: Show | None = None
        """The newest hypothesis, until it is taken."""
        self._told = False
        """Whether a hypothesis with words was taken; the session's thread only."""
        self._settled: ASRResult | EngineError | None = None
        """How the utterance ended."""
        self._finished = self._cancelled = self._delivered = False
        self._future: Future[ASRResult] = Future()

    def push(self, samples: Signal) -> None:
        """See `ASRStream`; after `finish` or `cancel` it does nothing."""
        with self._lock:
            if self._finished or self._cancelled or not len(samples):
                return
            self._recording.append(samples)
            self._follow(self._schedule.pushed(len(self._recording), self._recording.sound, self._engine.spacing()))

    def partial(self) -> ASRResult | None:
        """See `ASRStream`; None after `finish` or `cancel`.

        Raises:
            EngineError: the engine died, and the utterance with it.
        """
        with self._lock:
            if self._finished or self._cancelled:
                return None
            if isinstance(self._settled, EngineError):
                raise self._settled
            shown, self._shown = self._shown, None
        result = None if shown is None else self._result(shown.tokens, shown.seconds)
        if result is None or not (result.text or self._told):
            return None  # that nothing was heard yet is no news
        self._told = True
        return result

    def pause(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if not self._finished:
                self._follow(self._schedule.paused())

    def finish(self, samples: int) -> Future[ASRResult]:
        """See `ASRStream`; after `cancel` the future is cancelled.

        Raises:
            ValueError: fewer than `samples` were pushed, or it is finished already.
        """
        with self._lock:
            if not self._cancelled and (self._settled is None or self._finished):
                self._follow(self._schedule.finished(samples))
            self._finished = True
        self._deliver()
        return self._future

    def cancel(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._cancelled or self._delivered:
                return
            self._cancelled = True
            self._follow(self._schedule.cancelled())
        # Not under the lock, like all that settles the future: its callbacks may call a stream.
        if self._future.cancel():
            self._future.set_running_or_notify_cancel()

    def _done(self, decode: Decode, result: Result) -> None:
        """On the engine's thread."""
        with self._lock:
            if self._order is None or self._order[0] != decode.number:
                return
            order, self._order = self._order[1], None
            if isinstance(result, EngineError):
                self._fail(result)
            else:
                decoded = Decoded(result.tokens, result.runaway, order.age)
                self._follow(self._schedule.decoded(decode.number, decoded, self._engine.spacing()))
            news = not self._finished and (self._shown is not None or isinstance(self._settled, EngineError))
        if news:
            self._speaker.notify()
        self._deliver()

    def _follow(self, commands: Sequence[Command]) -> None:
        """Do what the schedule says. Caller holds the lock, so that orders reach the engine in the schedule's order."""
        for command in commands:
            match command:
                case Begin(decode):
                    self._begin(decode)
                case Abort():
                    if self._order is not None:
                        self._engine.drop(self._order[1])
                        self._order = None
                case Show():
                    self._shown = command
                case Settle(tokens, seconds):
                    self._settled = self._result(tokens, seconds)

    def _begin(self, decode: Decode) -> None:
        items = layout(decode.samples, freeze=self._freeze)
        fresh = [item for item in items if item.key not in self._sent]
        self._sent.update(item.key for item in fresh)
        clips = tuple(Clip(f"{self._name}-{item.key}", self._recording.cut(item.start, item.stop)) for item in items)
        tokens = self._speaker.frame.tokens(len(clips), decode.prefix)
        request = Request(tokens, clips, decode.max_tokens, decode.purpose)
        new_audio = sum(item.samples for item in fresh) / SAMPLE_RATE
        try:
            order = self._engine.submit(decode.purpose, request, new_audio, lambda result: self._done(decode, result))
        except EngineError as error:
            self._fail(error)
        else:
            self._order = (decode.number, order)

    def _fail(self, error: EngineError) -> None:
        self._settled = error
        self._follow(self._schedule.cancelled())

    def _deliver(self) -> None:
        """Settle the future, if the utterance is finished and has an end."""
        with self._lock:
            settled = self._settled
            if settled is None or not self._finished or self._cancelled or self._delivered:
                return
            self._delivered = True
        if not self._future.set_running_or_notify_cancel():
            return
        if isinstance(settled, EngineError):
            self._future.set_exception(settled)
        else:
            self._future.set_result(settled)

    def _result(self, tokens: Sequence[int], seconds: float) -> ASRResult:
        said = parse(self._vocabulary.decode(tokens), self._speaker.language)
        return ASRResult(said.text, said.languages[0] if said.languages else None, inference_seconds=seconds)


def _roll_back(vocabulary: Vocabulary, speaker: Speaker) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """No method of a stream: it would be in a circle with its schedule, and its audio stay until Python looks."""
    forced = speaker.language is not None
    return lambda tokens: roll_back(vocabulary, tokens, forced=forced)
