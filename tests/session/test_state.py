"""Segment numbers, the partial throttle and timings; every time is given."""

from __future__ import annotations

import pytest

from protocol.schema import Final, Reason, SpeechStarted, TimedWord
from session.state import EndedUtterance, FinalText, SessionState, UtteranceState


def state_of(partial_ms: int = 500) -> SessionState:
    return SessionState("call", "auto", partial_ms)


def ended(state: UtteranceState | None = None, reason: Reason = Reason.ENDPOINT, at: float = 11.0) -> EndedUtterance:
    return EndedUtterance(state or UtteranceState(10.0), 16_000, 32_000, reason, at)


def final_of(state: SessionState, text: str, utterance: EndedUtterance | None = None) -> Final | None:
    return state.final_due(utterance or ended(), FinalText(text), now=11.25, created_at=1.7e9)


def partials(*heard: tuple[float, str], partial_ms: int = 500) -> list[tuple[float, str]]:
    """What is shown of hypotheses heard at times, if all that is due finds room."""
    state, utterance, shown = state_of(partial_ms), UtteranceState(0.0), []
    for now, text in heard:
        utterance.heard(text, now)
        message = state.partial_due(utterance, now, 1.7e9)
        if message is not None:
            utterance.shown = message.text
            shown.append((now, message.text))
    return shown


def test_speech_started() -> None:
    """Only who asked is told, in ms of the connection's audio."""
    asked = SessionState("call", "auto", 500, tells_speech=True)

    assert state_of().speech_started_due(16_000, 1.7e9) is None
    assert asked.speech_started_due(16_320, 1.7e9) == SpeechStarted(call_id="call", created_at=1.7e9, start_ms=1020)


def test_throttle() -> None:
    """Partials are at least `partial_ms` apart."""
    assert partials((0, "a"), (0.4, "b"), (0.5, "c"), (0.9, "d"), (1.5, "e")) == [(0, "a"), (0.5, "c"), (1.5, "e")]


def test_unchanged() -> None:
    """A text that was shown is not shown again, and costs no time: the next new one is shown at once."""
    assert partials((0, "a"), (1, "a"), (1.1, "b")) == [(0, "a"), (1.1, "b")]


def test_empty_first() -> None:
    """No words are not shown, unless to take words back."""
    assert partials((0, ""), (1, "a"), (2, "")) == [(1, "a"), (2, "")]


def test_throttle_spans_utterances() -> None:
    """The throttle is the connection's, not the utterance's."""
    state = state_of()
    first, second = UtteranceState(0.0, newest="a"), UtteranceState(0.0, newest="b")
    assert state.partial_due(first, 1.0, 1.7e9) is not None
    assert state.partial_due(second, 1.4, 1.7e9) is None
    assert state.partial_due(second, 1.5, 1.7e9) is not None


def test_partial_message() -> None:
    """A partial has the number of the final to come."""
    state = state_of()
    final_of(state, "one")
    message = state.partial_due(UtteranceState(0.0, newest="a"), 1.0, 1.7e9)
    assert message is not None
    assert message.model_dump() == {
        "call_id": "call",
        "created_at": 1.7e9,
        "type": "partial",
        "segment_seq": 1,
        "text": "a",
        "final": False,
    }


def test_numbers() -> None:
    """Finals are numbered from 0, and one that is not sent takes no number."""
    state = state_of()
    finals = [final_of(state, text) for text in ("a", "", "b", "", "c")]
    assert [final and final.segment_seq for final in finals] == [0, None, 1, None, 2]
    assert state.segment_seq == 3


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("shown", [None, "", "a"])
def test_empty_final(reason: Reason, shown: str | None) -> None:
    """Without text a final is sent only after a commit, or if a partial was shown."""
    utterance = ended(UtteranceState(10.0, newest="a", shown=shown), reason)
    sent = final_of(state_of(), "", utterance) is not None
    assert sent == (reason is Reason.COMMIT or shown is not None)


def test_times() -> None:
    """Positions become ms, the duration is their difference, and latency counts from what ended it."""
    final = final_of(state_of(), "a", EndedUtterance(UtteranceState(10.0), 1, 24_007, Reason.ENDPOINT, 11.0))
    assert final is not None
    assert (final.start_ms, final.end_ms, final.segment_duration_ms) == (0, 1500, 1500)
    assert (final.first_token_ms, final.latency_ms) == (1250, 250)


@pytest.mark.parametrize("words", [None, [], [TimedWord(word="a", start_ms=1, end_ms=2, confidence=0.5)]])
def test_words(words: list[TimedWord] | None) -> None:
    """Words go out as the engine has them: none at all, no words, or some."""
    final = state_of().final_due(ended(), FinalText("a", "en", words), 11.0, 1.7e9)
    assert final is not None
    assert final.words == words


def test_language() -> None:
    """A final names the language heard, or else the one asked for."""
    state = SessionState("call", "en-GB", 500)
    finals = [state.final_due(ended(), FinalText("a", language), 11.0, 1.7e9) for language in ("de", None)]
    assert [final and final.language for final in finals] == ["de", "en-GB"]


def test_first_text() -> None:
    """The first text counts, not a hypothesis without words, and not a later text."""
    utterance = UtteranceState(10.0)
    for now, text in ((10.1, ""), (10.2, "a"), (10.3, "a b")):
        utterance.heard(text, now)
    final = final_of(state_of(), "a b c", ended(utterance))
    assert final is not None
    assert final.first_token_ms == 200


def test_never_negative() -> None:
    """Times of a clock read in two threads are never negative."""
    final = state_of().final_due(ended(at=12.0), FinalText("a"), now=11.999, created_at=1.7e9)
    assert final is not None
    assert final.latency_ms == 0
