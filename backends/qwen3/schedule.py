"""Decides when an utterance is decoded, and what for: events in, commands out. Pure, without a clock.

Time is counted in samples pushed. At most one decode of an utterance is in flight. A refresh decodes all audio there
is for the partial text. A refresh that cannot start now is not queued: the next samples ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from backends.qwen3.audio_items import refresh_end
from backends.qwen3.options import text_tokens
from backends.qwen3.prompt import ROLLBACK
from backends.qwen3.repetition import collapse_repeats
from protocol.pcm import SAMPLE_RATE

UNFIXED_REFRESHES = 2
"""Least number of refreshes without a prefix, before a text is used as one."""

UNFIXED_SAMPLES = 4 * SAMPLE_RATE
"""Least audio behind a text that is used as a prefix. The official client has two chunks of 2 s without a prefix."""

FIRST_REFRESH_SAMPLES = SAMPLE_RATE
"""Least audio in a refresh: shorter clips are often transcribed in a wrong language, or not at all."""


class Purpose(IntEnum):
    """The purpose of a decode. Its value is the priority in vLLM, which serves lower values first."""

    FINAL = 0
    REFRESH = 10
    BATCH = 20


@dataclass(frozen=True, slots=True)
class Decode:
    """A decode of the utterance's first `samples` samples."""

    number: int
    """Unique within the utterance."""
    purpose: Purpose
    samples: int
    prefix: tuple[int, ...]
    """Tokens of the text that the model continues."""
    max_tokens: int
    """Most tokens after the prefix."""


class Ending(Enum):
    """Why a text ended."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """The text reached `max_tokens`."""
    LOOP = "repetition"
    """The text repeated itself."""


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """The result of a decode."""

    tokens: tuple[int, ...]
    """Tokens of the text, without the prefix."""
    ending: Ending = Ending.STOP
    seconds: float = 0.0
    """Wall clock, from the start of the decode."""


@dataclass(frozen=True, slots=True)
class StartDecode:
    """Start a decode."""

    decode: Decode


@dataclass(frozen=True, slots=True)
class AbortDecode:
    """Abort the decode `number` and ignore its result."""

    number: int


@dataclass(frozen=True, slots=True)
class PublishPartial:
    """A new hypothesis: all its tokens."""

    tokens: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class PublishFinal:
    """The tokens of the final text."""

    tokens: tuple[int, ...]
    seconds: float


Command = StartDecode | AbortDecode | PublishPartial | PublishFinal


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The options of an utterance."""

    live: bool
    """False: a piece of a file, decoded once, at its end."""
    max_tokens: int
    """Longest text."""
    roll_back: Callable[[tuple[int, ...]], tuple[int, ...]]
    """Returns the part of a hypothesis that the next refresh continues."""
    freeze: bool = True
    """Whether closed windows are items of their own."""


class Schedule:
    """The decodes of one utterance. Not thread-safe.

    `spacing` is the least number of new samples with which a refresh may start now; None: the engine has no room.
    """

    def __init__(self, options: ScheduleOptions) -> None:
        self._options = options
        self._samples = 0
        self._first_nonzero: int | None = None
        """Index of the first sample that is not zero: digital silence before it is not decoded."""
        self._count = 0
        self._in_flight: Decode | None = None
        self._refreshed = 0
        """Samples in the latest refresh, in flight or done."""
        self._hypothesis: tuple[int, ...] = ()
        self._hypothesis_samples = 0
        """Samples that the hypothesis covers."""
        self._refreshes = 0
        """Refreshes in a row whose text the model ended."""
        self._final: tuple[int, DecodeResult] | None = None
        """The samples and the result of a final decode."""
        self._finished_at: int | None = None
        """Length of the finished utterance in samples."""
        self._closed = False
        """The final is published, or the utterance is cancelled."""

    def pushed(self, samples: int, first_nonzero: int | None, spacing: int | None) -> list[Command]:
        """The utterance now has `samples` samples. Aborts a final decode, because the speaker resumed."""
        if self._closed or self._finished_at is not None:
            return []
        self._samples, self._first_nonzero = samples, first_nonzero
        commands = [] if self._final_in_flight() is None else self._abort()
        self._final = None
        return commands + self._refresh_if_due(spacing)

    def paused(self) -> list[Command]:
        """The utterance may be over: start the final decode."""
        if self._closed or self._finished_at is not None or not self._options.live or not self._audible(self._samples):
            return []
        if self._final_in_flight() is not None or self._final is not None:
            return []
        return self._start_final(self._samples)

    def finished(self, samples: int) -> list[Command]:
        """The utterance is its first `samples` samples.

        Raises:
            ValueError: fewer samples were pushed, or the utterance is finished or cancelled.
        """
        if self._closed or self._finished_at is not None or not 0 <= samples <= self._samples:
            raise ValueError(f"cannot finish at {samples} of {self._samples} samples")
        self._finished_at = samples
        if not self._audible(samples):
            return self._abort() + self._publish(DecodeResult(()))
        if self._final is not None and self._final[0] == samples:
            return self._publish(self._final[1])
        return [] if self._final_in_flight() == samples else self._start_final(samples)

    def decoded(self, number: int, result: DecodeResult, spacing: int | None) -> list[Command]:
        """The decode `number` is done. Aborted decodes are ignored."""
        decode = self._in_flight
        if decode is None or decode.number != number:
            return []
        self._in_flight = None
        if decode.purpose is not Purpose.REFRESH:
            return self._accept_final(decode, result)
        if result.ending is not Ending.STOP and decode.prefix:
            return self._start_refresh(use_prefix=False)
        return [self._update_hypothesis(decode, result), *self._refresh_if_due(spacing)]

    def refresh_failed(self) -> None:
        """The refresh that was in flight failed. Later samples start another one, without a prefix."""
        self._in_flight, self._hypothesis, self._refreshes = None, (), 0

    def cancelled(self) -> list[Command]:
        """No result is needed any more."""
        self._closed = True
        return self._abort()

    def _refresh_if_due(self, spacing: int | None) -> list[Command]:
        if spacing is None or not self._options.live or self._in_flight is not None or self._final is not None:
            return []
        if self._samples < FIRST_REFRESH_SAMPLES or self._samples - self._refreshed < spacing:
            return []
        if not self._audible(self._samples):
            return []
        trusted = self._refreshes >= UNFIXED_REFRESHES and self._hypothesis_samples >= UNFIXED_SAMPLES
        return self._start_refresh(use_prefix=trusted)

    def _start_refresh(self, *, use_prefix: bool) -> list[Command]:
        samples = refresh_end(self._refreshed, self._samples) if self._options.freeze else self._samples
        prefix = self._options.roll_back(self._hypothesis) if use_prefix else ()
        limit = text_tokens(samples / SAMPLE_RATE)
        if prefix:
            redone = ROLLBACK + len(self._hypothesis) - len(prefix)
            limit = text_tokens((samples - self._hypothesis_samples) / SAMPLE_RATE) + redone
        if not use_prefix:
            self._refreshes = min(self._refreshes, UNFIXED_REFRESHES - 1)
        self._refreshed = samples
        return [self._start(Purpose.REFRESH, samples, prefix, limit)]

    def _update_hypothesis(self, decode: Decode, result: DecodeResult) -> PublishPartial:
        result = _without_loop(result)
        self._hypothesis, self._hypothesis_samples = decode.prefix + result.tokens, decode.samples
        self._refreshes = self._refreshes + 1 if result.ending is Ending.STOP else 0
        return PublishPartial(self._hypothesis, result.seconds)

    def _accept_final(self, decode: Decode, result: DecodeResult) -> list[Command]:
        final = _without_loop(result)
        # The speech was denser than expected: decode again with room for the longest text.
        too_short = result.ending is Ending.LENGTH and final.tokens == result.tokens
        if too_short and decode.max_tokens < self._options.max_tokens:
            return [self._start(decode.purpose, decode.samples, (), self._options.max_tokens)]
        self._final = (decode.samples, final)
        return [] if self._finished_at is None else self._publish(final)

    def _start_final(self, samples: int) -> list[Command]:
        # Without a prefix: according to the model's paper, streaming with a prefix costs accuracy.
        purpose = Purpose.FINAL if self._options.live else Purpose.BATCH
        return [*self._abort(), self._start(purpose, samples, (), text_tokens(samples / SAMPLE_RATE))]

    def _start(self, purpose: Purpose, samples: int, prefix: tuple[int, ...], limit: int) -> StartDecode:
        self._count += 1
        max_tokens = max(1, min(limit, self._options.max_tokens - len(prefix)))
        self._in_flight = Decode(self._count, purpose, samples, prefix, max_tokens)
        return StartDecode(self._in_flight)

    def _abort(self) -> list[Command]:
        decode, self._in_flight = self._in_flight, None
        # An aborted refresh showed nothing: its audio counts as new if the speaker resumes.
        self._refreshed = self._hypothesis_samples
        return [] if decode is None else [AbortDecode(decode.number)]

    def _publish(self, final: DecodeResult) -> list[Command]:
        self._closed = True
        return [PublishFinal(final.tokens, final.seconds)]

    def _audible(self, samples: int) -> bool:
        return self._first_nonzero is not None and self._first_nonzero < samples

    def _final_in_flight(self) -> int | None:
        """Samples that the final decode in flight covers; None: none is in flight."""
        decode = self._in_flight
        return None if decode is None or decode.purpose is Purpose.REFRESH else decode.samples


def _without_loop(result: DecodeResult) -> DecodeResult:
    """Remove the loop at the end of a text that vLLM ended."""
    if result.ending is Ending.STOP:
        return result
    return DecodeResult(collapse_repeats(result.tokens), result.ending, result.seconds)
