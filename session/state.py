"""What is known of one connection: segment numbers, the partial throttle, and the timings of each utterance.

No clock of its own: every `now` is monotonic seconds, and every `created_at` Unix seconds, of the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.pcm import ms
from protocol.schema import Final, Partial, Reason, SpeechStarted, TimedWord


@dataclass(slots=True)
class UtteranceState:
    """One utterance while it is heard and decoded."""

    began: float
    """Arrival of its first voiced sample, monotonic seconds."""
    newest: str = ""
    """Newest hypothesis."""
    shown: str | None = None
    """Text of the last partial handed out; None: none was."""
    first_text: float | None = None
    """When there first was text, monotonic seconds."""

    def heard(self, text: str, now: float) -> None:
        """Note a hypothesis."""
        self.newest = text
        if text and self.first_text is None:
            self.first_text = now


@dataclass(frozen=True, slots=True)
class EndedUtterance:
    """How and where an utterance ended; positions are samples of the connection's audio."""

    state: UtteranceState
    voiced_start: int
    voiced_end: int
    reason: Reason
    ended: float
    """Arrival of what ended it, monotonic seconds."""


@dataclass(frozen=True, slots=True)
class FinalText:
    """What the engine said of an ended utterance."""

    text: str
    language: str | None = None
    words: Sequence[TimedWord] | None = None
    """Timed in the connection's audio."""


class SessionState:
    """Numbers and throttles one connection's messages."""

    def __init__(self, call_id: str, language: str, partial_ms: int, *, tells_speech: bool = False) -> None:
        """`tells_speech`: the client asked for `speech_started`."""
        self._call_id = call_id
        self._language = language
        self._partial_seconds = partial_ms / 1000
        self._tells_speech = tells_speech
        self._last_partial = float("-inf")
        self.segment_seq = 0
        """Number of the next final."""

    def speech_started_due(self, voiced_start: int, created_at: float) -> SpeechStarted | None:
        """What to tell of an utterance whose voice starts at sample `voiced_start`."""
        if not self._tells_speech:
            return None
        return SpeechStarted(call_id=self._call_id, created_at=created_at, start_ms=ms(voiced_start))

    def partial_due(self, utterance: UtteranceState, now: float, created_at: float) -> Partial | None:
        """The partial to send now, if its text is new and the last one is `partial_ms` ago."""
        unchanged = utterance.newest == (utterance.shown or "")
        if unchanged or now - self._last_partial < self._partial_seconds:
            return None
        self._last_partial = now
        return Partial(
            call_id=self._call_id, created_at=created_at, segment_seq=self.segment_seq, text=utterance.newest
        )

    def final_due(self, ended: EndedUtterance, result: FinalText, now: float, created_at: float) -> Final | None:
        """The final of an ended utterance, or None if it is empty and nobody waits for it."""
        if result.text:
            ended.state.heard(result.text, now)
        elif ended.reason is not Reason.COMMIT and ended.state.shown is None:
            return None
        first_text = ended.state.first_text
        start_ms, end_ms = ms(ended.voiced_start), ms(ended.voiced_end)
        message = Final(
            call_id=self._call_id,
            created_at=created_at,
            segment_seq=self.segment_seq,
            text=result.text,
            first_token_ms=0 if first_text is None else _elapsed_ms(ended.state.began, first_text),
            latency_ms=_elapsed_ms(ended.ended, now),
            segment_duration_ms=end_ms - start_ms,
            start_ms=start_ms,
            end_ms=end_ms,
            reason=ended.reason,
            language=result.language or self._language,
            words=None if result.words is None else list(result.words),
        )
        self.segment_seq += 1
        return message


def _elapsed_ms(since: float, until: float) -> int:
    return max(0, round((until - since) * 1000))
