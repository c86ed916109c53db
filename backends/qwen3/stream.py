"""One utterance: its audio, its schedule, and the decodes that the schedule starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from uuid import uuid4

import structlog

from backends.base import ASRResult, EngineError
from backends.qwen3.audio_buffer import AudioBuffer
from backends.qwen3.audio_items import split_into_items
from backends.qwen3.dispatcher import DecodeJob, Outcome, to_engine_error
from backends.qwen3.engine import SharedEngine
from backends.qwen3.prompt import PromptTemplate, Tokenizer, parse_transcript, roll_back
from backends.qwen3.repetition import FINAL_STOP_COUNT, MAX_COUNT
from backends.qwen3.schedule import (
    AbortDecode,
    Command,
    Decode,
    DecodeResult,
    Ending,
    PublishFinal,
    PublishPartial,
    Purpose,
    Schedule,
    ScheduleOptions,
    StartDecode,
)
from backends.qwen3.vllm_model import Clip, DecodeOutput, DecodeRequest
from protocol.pcm import SAMPLE_RATE, Signal


@dataclass(frozen=True, slots=True)
class UtteranceOptions:
    """Options that all utterances of a session share."""

    template: PromptTemplate
    language: str | None
    """Forced, as a primary subtag; None: the model detects the language."""
    live: bool
    notify: Callable[[], None]
    """Called when `partial` has something new; never under a lock."""


class Qwen3Stream:
    """An `ASRStream`. No method waits: the engine's thread delivers the results of decodes."""

    def __init__(
        self, engine: SharedEngine, tokenizer: Tokenizer, options: UtteranceOptions, *, max_tokens: int, freeze: bool
    ) -> None:
        """Open an utterance; the last two arguments are `Qwen3Options.text_tokens` and `freeze_windows`."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._options = options
        self._max_tokens = max_tokens
        self._freeze = freeze
        self._lock = threading.Lock()
        """Protects all attributes below from the session's and the engine's thread. Taken before the engine's lock."""
        self._name = uuid4().hex
        """Unguessable, so that no other stream can name its audio in vLLM's caches."""
        self._audio = AudioBuffer()
        forced = options.language is not None
        self._schedule = Schedule(
            ScheduleOptions(
                options.live, max_tokens, lambda tokens: roll_back(tokenizer, tokens, forced=forced), freeze
            )
        )
        self._job: tuple[int, DecodeJob] | None = None
        """The decode in flight, with its number in the schedule."""
        self._sent_keys: set[str] = set()
        """Keys of audio items that were sent to vLLM."""
        self._new_partial: ASRResult | None = None
        """The latest hypothesis, until `partial` returns it."""
        self._returned_text = False
        """Whether `partial` returned a text; the session's thread only."""
        self._outcome: ASRResult | EngineError | None = None
        """How the utterance ended."""
        self._finished = self._cancelled = self._delivered = False
        self._future: Future[ASRResult] = Future()

    def push(self, samples: Signal) -> None:
        """See `ASRStream`; after `finish` or `cancel` it does nothing."""
        with self._lock:
            if self._finished or self._cancelled or not len(samples):
                return
            self._audio.append(samples)
            spacing = self._engine.refresh_spacing()
            self._execute(self._schedule.pushed(len(self._audio), self._audio.first_nonzero, spacing))

    def partial(self) -> ASRResult | None:
        """See `ASRStream`; None after `finish` or `cancel`.

        Raises:
            EngineError: the engine died, and the utterance cannot be decoded.
        """
        with self._lock:
            if self._finished or self._cancelled:
                return None
            if isinstance(self._outcome, EngineError):
                raise self._outcome
            partial, self._new_partial = self._new_partial, None
        if partial is None or not (partial.text or self._returned_text):
            return None  # an empty first hypothesis is no news
        self._returned_text = True
        return partial

    def pause(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if not self._finished:
                self._execute(self._schedule.paused())

    def finish(self, samples: int) -> Future[ASRResult]:
        """See `ASRStream`; after `cancel` the future is cancelled.

        Raises:
            ValueError: fewer than `samples` were pushed, or `finish` was called before.
        """
        with self._lock:
            if not self._cancelled and (self._outcome is None or self._finished):
                self._execute(self._schedule.finished(samples))
            self._finished = True
        self._deliver()
        return self._future

    def cancel(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._cancelled or self._delivered:
                return
            self._cancelled = True
            self._execute(self._schedule.cancelled())
        # The future's callbacks may call a stream, so no lock is held here.
        if self._future.cancel():
            self._future.set_running_or_notify_cancel()

    def _on_decode_done(self, decode: Decode, outcome: Outcome) -> None:
        """On the engine's thread."""
        with self._lock:
            if self._job is None or self._job[0] != decode.number:
                return
            job, self._job = self._job[1], None
            try:
                if isinstance(outcome, EngineError):
                    self._decode_failed(decode, outcome)
                else:
                    self._accept(decode, job, outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and fails this decode
                structlog.get_logger().exception("decode_result_failed", job=job.number)
                self._decode_failed(decode, to_engine_error(error))
            news = not self._finished and (self._new_partial is not None or isinstance(self._outcome, EngineError))
        self._deliver()
        if news:
            self._options.notify()

    def _accept(self, decode: Decode, job: DecodeJob, output: DecodeOutput) -> None:
        if output.ending is Ending.LENGTH and decode.max_tokens == self._max_tokens:
            structlog.get_logger().warning("text_cut_off", job=job.number, max_tokens=decode.max_tokens)
        result = DecodeResult(output.tokens, output.ending, job.age)
        self._execute(self._schedule.decoded(decode.number, result, self._engine.refresh_spacing()))

    def _decode_failed(self, decode: Decode, error: EngineError) -> None:
        if decode.purpose is Purpose.REFRESH and self._engine.healthy():
            # Only the final must succeed: without this refresh the client sees one partial less.
            structlog.get_logger().warning("refresh_failed", reason=str(error))
            self._schedule.refresh_failed()
        else:
            self._fail(error)

    def _execute(self, commands: Sequence[Command]) -> None:
        """Execute the schedule's commands. The caller holds the lock, so jobs reach the engine in their order."""
        for command in commands:
            match command:
                case StartDecode(decode):
                    self._start(decode)
                case AbortDecode():
                    if self._job is not None:
                        self._engine.abort(self._job[1])
                        self._job = None
                case PublishPartial(tokens, seconds):
                    self._new_partial = self._result(tokens, seconds)
                case PublishFinal(tokens, seconds):
                    self._outcome = self._final_result(tokens, seconds)

    def _start(self, decode: Decode) -> None:
        items = split_into_items(decode.samples, freeze=self._freeze)
        new_items = [item for item in items if item.key not in self._sent_keys]
        self._sent_keys.update(item.key for item in new_items)
        clips = tuple(Clip(f"{self._name}-{item.key}", self._audio.slice(item.start, item.stop)) for item in items)
        tokens = self._options.template.tokens(len(clips), decode.prefix)
        repeats = MAX_COUNT if decode.purpose is Purpose.REFRESH else FINAL_STOP_COUNT
        request = DecodeRequest(tokens, clips, decode.max_tokens, repeats, decode.purpose)
        new_audio = sum(item.samples for item in new_items) / SAMPLE_RATE
        try:
            job = self._engine.submit(
                decode.purpose, request, new_audio, lambda outcome: self._on_decode_done(decode, outcome)
            )
        except EngineError as error:
            self._fail(error)
        else:
            self._job = (decode.number, job)

    def _fail(self, error: EngineError) -> None:
        self._outcome = error
        self._execute(self._schedule.cancelled())

    def _deliver(self) -> None:
        """Resolve the future once the utterance is finished and has an outcome."""
        with self._lock:
            outcome = self._outcome
            if outcome is None or not self._finished or self._cancelled or self._delivered:
                return
            self._delivered = True
        if not self._future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, EngineError):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)

    def _final_result(self, tokens: Sequence[int], seconds: float) -> ASRResult | EngineError:
        try:
            return self._result(tokens, seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and fails this utterance
            structlog.get_logger().exception("final_not_parsed")
            return to_engine_error(error)

    def _result(self, tokens: Sequence[int], seconds: float) -> ASRResult:
        transcript = parse_transcript(self._tokenizer.decode(tokens), self._options.language)
        language = transcript.languages[0] if transcript.languages else None
        return ASRResult(transcript.text, language, inference_seconds=seconds)
