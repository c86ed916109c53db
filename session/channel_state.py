"""The state of one channel: utterance numbers, the rate of partials, and the delays of each utterance.

It has no clock: every `now` is monotonic seconds, from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.events import Final, Hypothesis, Reason, Word
from protocol.pcm import ms
from session.stable_prefix import StablePrefix


@dataclass(slots=True)
class UtteranceState:
    """One utterance while its audio is processed and decoded."""

    began: float
    """Arrival of its first voiced sample, monotonic seconds."""
    language: str
    """The language asked for when it began."""
    newest: str = ""
    """The newest hypothesis. Every later one begins with its first `stable_chars`."""
    stable_chars: int = 0
    sent: str | None = None
    """Text of the last hypothesis that was reported; None: none."""
    first_text: float | None = None
    """When there was text for the first time, monotonic seconds."""
    _prefix: StablePrefix = field(default_factory=StablePrefix)

    def update(self, text: str, now: float, stable_chars: int | None = None) -> None:
        """Process a hypothesis. `stable_chars`: the engine's own stable prefix; None: it has none."""
        self.newest, self.stable_chars = self._prefix.update(text, stable_chars)
        self.note_text(text, now)

    def note_text(self, text: str, now: float) -> None:
        """Record when there was text for the first time."""
        if text and self.first_text is None:
            self.first_text = now


@dataclass(frozen=True, slots=True)
class EndedUtterance:
    """How and where an utterance ended; positions are samples of the session's audio."""

    state: UtteranceState
    voiced_start: int
    voiced_end: int
    reason: Reason
    ended: float
    """Arrival of what ended it, monotonic seconds."""
    commit_id: str | int | None = None


@dataclass(frozen=True, slots=True)
class FinalText:
    """The engine's result for an ended utterance."""

    text: str
    language: str | None = None
    words: tuple[Word, ...] | None = None
    """Words with times of the session's audio."""


class ChannelState:
    """Numbers and throttles the hypotheses and finals of one channel. Used by one thread."""

    def __init__(self, partial_ms: int, channel: int = 0, *, every_turn: bool = False) -> None:
        """`partial_ms`: least time in ms between two hypotheses; `every_turn`: finals without text are reported too."""
        self._channel = channel
        self._every_turn = every_turn
        self._partial_seconds = partial_ms / 1000
        self._last_partial = float("-inf")
        self.segment_seq = 0
        """Number of the next final."""

    def next_partial(self, utterance: UtteranceState, now: float) -> Hypothesis | None:
        """The hypothesis to report now: if its text is new, and the last one was `partial_ms` ago."""
        unchanged = utterance.newest == (utterance.sent or "")
        if unchanged or now - self._last_partial < self._partial_seconds:
            return None
        self._last_partial = now
        return Hypothesis(self.segment_seq, utterance.newest, utterance.stable_chars, self._channel)

    def next_final(self, ended: EndedUtterance, result: FinalText, now: float) -> Final | None:
        """The final of an ended utterance; None: it is empty, and the client need not know."""
        state = ended.state
        if result.text:
            state.note_text(result.text, now)
        elif ended.reason is not Reason.COMMIT and state.sent is None and not self._every_turn:
            return None
        final = Final(
            segment_seq=self.segment_seq,
            text=result.text,
            start_ms=ms(ended.voiced_start),
            end_ms=ms(ended.voiced_end),
            reason=ended.reason,
            language=result.language or state.language,
            first_token_ms=0 if state.first_text is None else elapsed_ms(state.began, state.first_text),
            ended=ended.ended,
            words=result.words,
            commit_id=ended.commit_id,
            channel=self._channel,
        )
        self.segment_seq += 1
        return final


def elapsed_ms(since: float, until: float) -> int:
    """Whole ms between two times in monotonic seconds; 0 if `until` is earlier."""
    return max(0, round((until - since) * 1000))
