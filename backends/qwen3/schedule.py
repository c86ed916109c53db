"""When an utterance is decoded, and what for: events in, commands out. Pure, without a clock.

Time is samples pushed. At most one decode is in flight; a refresh always takes the newest audio, and one that cannot
begin yet is not queued but forgotten: the next samples ask again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from backends.qwen3.prompt import ROLLBACK
from backends.qwen3.repetition import collapse
from backends.qwen3.windows import reach
from protocol.pcm import SAMPLE_RATE

UNFIXED_REFRESHES = 2
"""Refreshes decoded afresh before their text is trusted as a prefix (`unfixed_chunk_num` in the model's own code)."""

_SLACK_TOKENS = 16
"""For the header `language X<asr_text>`, the end, and a first syllable."""

_TOKENS_PER_SECOND = 12
"""Nobody speaks faster: fast speech is about 8 syllables a second, and ordinary speech 4 tokens."""


class Purpose(IntEnum):
    """What a decode is for, as the engine's priority: lower is served first."""

    FINAL = 0
    REFRESH = 10
    BATCH = 20


@dataclass(frozen=True, slots=True)
class Decode:
    """A decode of the utterance's first `samples` samples."""

    number: int
    """Not used before in this utterance."""
    purpose: Purpose
    samples: int
    prefix: tuple[int, ...]
    """Text that is taken for granted, as token ids."""
    max_tokens: int
    """Text beyond the prefix that the audio can hold."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decode came to."""

    tokens: tuple[int, ...]
    """Without the prefix."""
    runaway: bool = False
    """It was stopped: at its cap, or because it repeated itself."""
    seconds: float = 0.0
    """Wall clock from its beginning."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a decode."""

    decode: Decode


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the decode `number`; whatever it comes to is not wanted."""

    number: int


@dataclass(frozen=True, slots=True)
class Show:
    """A new hypothesis: all its tokens."""

    tokens: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Settle:
    """The final's tokens."""

    tokens: tuple[int, ...]
    seconds: float


Command = Begin | Abort | Show | Settle


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between engines and speakers."""

    live: bool
    """False: a piece of a file, decoded once, when it is finished."""
    max_tokens: int
    """Longest text."""
    roll_back: Callable[[tuple[int, ...]], tuple[int, ...]]
    """The part of a hypothesis that more audio will not change."""
    freeze: bool = True
    """Whether closed windows are items of their own."""


class Schedule:
    """One utterance's decodes. Not thread-safe.

    `spacing` is the least number of new samples for which a refresh is worth its work now; None: no room for one.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._samples = 0
        self._sound: int | None = None
        """The first sample that is not zero: before it there is nothing to decode."""
        self._count = 0
        self._running: Decode | None = None
        self._covered = 0
        """Samples that the newest refresh took, in flight or done."""
        self._hypothesis: tuple[int, ...] = ()
        self._heard = 0
        """Samples that the hypothesis covers."""
        self._refreshes = 0
        """In a row that did not run away."""
        self._final: tuple[int, Decoded] | None = None
        """A final pass that is done, and the samples it covers."""
        self._wanted: int | None = None
        """Samples of the finished utterance."""
        self._over = False
        """Settled or cancelled."""

    def pushed(self, samples: int, sound: int | None, spacing: int | None) -> list[Command]:
        """The utterance has `samples` by now, the first that is not zero being `sound`. Voids a final pass."""
        if self._over or self._wanted is not None:
            return []
        self._samples, self._sound = samples, sound
        commands = [] if self._passing() is None else self._stop()
        self._final = None
        return commands + self._refresh(spacing)

    def paused(self) -> list[Command]:
        """The speaker may be done: begin the final pass."""
        if self._over or self._wanted is not None or not self._rules.live or not self._audible(self._samples):
            return []
        if self._passing() is not None or self._final is not None:
            return []
        return self._decode_final(self._samples)

    def finished(self, samples: int) -> list[Command]:
        """The utterance is its first `samples` samples."""
        if self._over or self._wanted is not None or not 0 <= samples <= self._samples:
            raise ValueError(f"cannot finish at {samples} of {self._samples} samples")
        self._wanted = samples
        if not self._audible(samples):
            return self._stop() + self._settle(Decoded(()))
        if self._final is not None and self._final[0] == samples:
            return self._settle(self._final[1])
        return [] if self._passing() == samples else self._decode_final(samples)

    def decoded(self, number: int, decoded: Decoded, spacing: int | None) -> list[Command]:
        """The decode `number` is done; one that was aborted is ignored."""
        decode = self._running
        if decode is None or decode.number != number:
            return []
        self._running = None
        if decode.purpose is not Purpose.REFRESH:
            self._final = (decode.samples, _tidy(decoded))
            return [] if self._wanted is None else self._settle(self._final[1])
        if decoded.runaway and decode.prefix:
            return self._begin_refresh(afresh=True)
        return [self._adopt(decode, decoded), *self._refresh(spacing)]

    def cancelled(self) -> list[Command]:
        """Nothing of it is wanted any more."""
        self._over = True
        return self._stop()

    def _refresh(self, spacing: int | None) -> list[Command]:
        if spacing is None or not self._rules.live or self._running is not None or self._final is not None:
            return []
        if self._samples - self._covered < spacing or not self._audible(self._samples):
            return []
        return self._begin_refresh(afresh=self._refreshes < UNFIXED_REFRESHES)

    def _begin_refresh(self, *, afresh: bool) -> list[Command]:
        samples = reach(self._covered, self._samples) if self._rules.freeze else self._samples
        prefix = () if afresh else self._rules.roll_back(self._hypothesis)
        unheard = samples - self._heard if prefix else samples
        if afresh:
            self._refreshes = min(self._refreshes, UNFIXED_REFRESHES - 1)
        self._covered = samples
        return [self._begin(Purpose.REFRESH, samples, prefix, unheard)]

    def _adopt(self, decode: Decode, decoded: Decoded) -> Show:
        decoded = _tidy(decoded)
        self._hypothesis, self._heard = decode.prefix + decoded.tokens, decode.samples
        self._refreshes = 0 if decoded.runaway else self._refreshes + 1
        return Show(self._hypothesis, decoded.seconds)

    def _decode_final(self, samples: int) -> list[Command]:
        # Afresh over the whole utterance: the prefix of streaming is what costs accuracy in the model's own paper.
        purpose = Purpose.FINAL if self._rules.live else Purpose.BATCH
        return [*self._stop(), self._begin(purpose, samples, (), samples)]

    def _begin(self, purpose: Purpose, samples: int, prefix: tuple[int, ...], unheard: int) -> Begin:
        longest = _SLACK_TOKENS + math.ceil(_TOKENS_PER_SECOND * unheard / SAMPLE_RATE)
        longest += ROLLBACK + len(self._hypothesis) - len(prefix) if prefix else 0
        self._count += 1
        cap = max(1, min(longest, self._rules.max_tokens - len(prefix)))
        self._running = Decode(self._count, purpose, samples, prefix, cap)
        return Begin(self._running)

    def _stop(self) -> list[Command]:
        running, self._running = self._running, None
        # The audio of a refresh that is aborted is still unheard, should the speaker go on.
        self._covered = self._heard
        return [] if running is None else [Abort(running.number)]

    def _settle(self, final: Decoded) -> list[Command]:
        self._over = True
        return [Settle(final.tokens, final.seconds)]

    def _audible(self, samples: int) -> bool:
        return self._sound is not None and self._sound < samples

    def _passing(self) -> int | None:
        """Samples that the final pass in flight covers; None: there is none."""
        running = self._running
        return None if running is None or running.purpose is Purpose.REFRESH else running.samples


def _tidy(decoded: Decoded) -> Decoded:
    """A text that was stopped, without its repetitions."""
    return Decoded(collapse(decoded.tokens), decoded.runaway, decoded.seconds) if decoded.runaway else decoded
