"""Segment numbers, the partial throttle and timings; every time is given."""

from __future__ import annotations

import pytest

from protocol.events import Final, Hypothesis, Reason, Word
from session.channel_state import ChannelState, EndedUtterance, FinalText, UtteranceState, elapsed_ms


def utterance(began: float = 10.0, newest: str = "", sent: str | None = None) -> UtteranceState:
    return UtteranceState(began, "auto", newest, sent=sent)


def ended(state: UtteranceState | None = None, reason: Reason = Reason.ENDPOINT, at: float = 11.0) -> EndedUtterance:
    return EndedUtterance(state or utterance(), 16_000, 32_000, reason, at)


def final_of(state: ChannelState, text: str, end: EndedUtterance | None = None) -> Final | None:
    return state.next_final(end or ended(), FinalText(text), now=11.25)


def partials(*hypotheses: tuple[float, str], partial_ms: int = 500) -> list[tuple[float, str]]:
    """What is reported of hypotheses at given times, if the queue always has room."""
    state, open_utterance, reported = ChannelState(partial_ms), utterance(0.0), []
    for now, text in hypotheses:
        open_utterance.update(text, now)
        event = state.next_partial(open_utterance, now)
        if event is not None:
            open_utterance.sent = event.text
            reported.append((now, event.text))
    return reported


def test_throttle() -> None:
    """Partials are at least `partial_ms` apart."""
    assert partials((0, "a"), (0.4, "b"), (0.5, "c"), (0.9, "d"), (1.5, "e")) == [(0, "a"), (0.5, "c"), (1.5, "e")]


def test_unchanged() -> None:
    """A text that was reported is not reported again, and costs no time: the next new one is reported at once."""
    assert partials((0, "a"), (1, "a"), (1.1, "a b")) == [(0, "a"), (1.1, "a b")]


def test_empty_first() -> None:
    """No words are not reported, unless to take words back."""
    assert partials((0, ""), (1, "a"), (2, "")) == [(1, "a"), (2, "")]


def test_throttle_spans_utterances() -> None:
    """The throttle is the session's, not the utterance's."""
    state = ChannelState(500)
    first, second = utterance(newest="a"), utterance(newest="b")
    assert state.next_partial(first, 1.0) is not None
    assert state.next_partial(second, 1.4) is None
    assert state.next_partial(second, 1.5) is not None


def test_partial() -> None:
    """A partial has the number of the final to come, and says how much of its text is stable."""
    state, open_utterance = ChannelState(500), utterance()
    final_of(state, "one")
    open_utterance.update("two thr", 1.0)
    open_utterance.update("two three", 1.1)
    assert state.next_partial(open_utterance, 1.1) == Hypothesis(1, "two three", len("two"))


def test_numbers() -> None:
    """Finals are numbered from 0, and one that is not sent takes no number."""
    state = ChannelState(500)
    finals = [final_of(state, text) for text in ("a", "", "b", "", "c")]
    assert [final and final.segment_seq for final in finals] == [0, None, 1, None, 2]
    assert state.segment_seq == 3


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("sent", [None, "", "a"])
def test_empty_final(reason: Reason, sent: str | None) -> None:
    """Without text a final is sent only after a commit, or if a partial was sent."""
    final = final_of(ChannelState(500), "", ended(utterance(newest="a", sent=sent), reason))
    assert (final is not None) == (reason is Reason.COMMIT or sent is not None)


def test_times() -> None:
    """Positions become ms, and the first token counts from the arrival of the first voiced sample."""
    final = final_of(ChannelState(500), "a", EndedUtterance(utterance(), 1, 24_007, Reason.ENDPOINT, 11.0))
    assert final is not None
    assert (final.start_ms, final.end_ms, final.first_token_ms, final.ended) == (0, 1500, 1250, 11.0)


@pytest.mark.parametrize("words", [None, (), (Word("a", 1, 2, 0.5),)])
def test_words(words: tuple[Word, ...] | None) -> None:
    """Words go out as the engine gave them: none at all, no words, or some."""
    final = ChannelState(500).next_final(ended(), FinalText("a", "en", words), 11.0)
    assert final is not None
    assert final.words == words


def test_commit_id() -> None:
    """A final has the id of the commit that it answers."""
    end = EndedUtterance(utterance(), 0, 0, Reason.COMMIT, 11.0, commit_id="x")
    final = final_of(ChannelState(500), "", end)
    assert final is not None
    assert final.commit_id == "x"


def test_language() -> None:
    """A final names the language recognised, or else the one asked for as the utterance began."""
    end = ended(UtteranceState(10.0, "en-GB"))
    finals = [ChannelState(500).next_final(end, FinalText("a", language), 11.0) for language in ("de", None)]
    assert [final and final.language for final in finals] == ["de", "en-GB"]


def test_first_text() -> None:
    """The first text counts, not a hypothesis without words, and not a later text."""
    state = utterance()
    for now, text in ((10.1, ""), (10.2, "a"), (10.3, "a b")):
        state.update(text, now)
    final = final_of(ChannelState(500), "a b c", ended(state))
    assert final is not None
    assert final.first_token_ms == 200


def test_never_negative() -> None:
    """Times of a clock read in two threads are never negative."""
    assert elapsed_ms(12.0, 11.999) == 0
    assert elapsed_ms(11.0, 11.25) == 250
