"""Decides which finals of one channel are yielded, and from where its audio is sent again. Pure: no socket, no clock.

A final is provisional if the server ended the utterance only because it restarts (`drain`), or because it closes the
connection (`closing`) in a way after which the client connects again. Its utterance is sent again from 300 ms before
its start, and the new server's final replaces it. All other audio is sent again from the end of the last final.
"""

from __future__ import annotations

from stt_client import events
from stt_client.retry import RETRIED_CODES

PRE_ROLL_MS = 300
"""Audio before a provisional final that is sent again with it, because the first sounds are softer than the
threshold."""


class ChannelFinals:
    """One channel of a stream over several connections. Times are ms of the whole stream. Not thread-safe."""

    def __init__(self) -> None:
        self._next_seq = 0
        self.last_final_ms = 0
        """End of the last final that was yielded."""
        self.answered_commits = 0
        """Commits that this channel has answered and another has not."""
        self._repeated_commits = 0
        """Of these, the commits sent again on this connection and not answered again yet."""
        self._provisional: events.Final | None = None
        self._closing: events.Final | None = None
        """A final with the reason `closing`, whose close code has not come yet."""
        self._open_text = False
        """Whether a partial has no final yet."""

    @property
    def open_speech(self) -> bool:
        """Whether words were recognised that have no final that counts."""
        return self._open_text or self._provisional is not None

    @property
    def resume_ms(self) -> int:
        """Time at which a new connection must begin, so that no word is lost or comes twice."""
        if self._provisional is None:
            return self.last_final_ms
        return max(self.last_final_ms, self._provisional.start_ms - PRE_ROLL_MS)

    def opened(self) -> None:
        """A connection begins: commits that another channel has not answered are sent again."""
        self._repeated_commits = self.answered_commits

    def partial(self, partial: events.Partial) -> events.Partial:
        """The partial with the number that its final will have."""
        self._open_text = True
        return partial.model_copy(update={"segment_seq": self._next_seq})

    def final(self, final: events.Final) -> list[events.Final]:
        """The finals to yield when `final` comes."""
        self._open_text = False
        if final.reason == "drain":
            return self._hold(final)
        if final.reason == "closing":
            self._closing = final
            return []
        if final.reason == "commit":
            if self._repeated_commits:
                self._repeated_commits -= 1
                return []
            self.answered_commits += 1
        return self._hand_out(final)

    def cleared(self) -> None:
        """The open utterance was dropped."""
        self._open_text = False

    def closed(self, code: int) -> list[events.Final]:
        """The finals to yield when the connection has ended with `code`."""
        closing, self._closing = self._closing, None
        if closing is None:
            return []
        return self._hold(closing) if code in RETRIED_CODES else self._hand_out(closing)

    def hand_out_provisional(self) -> list[events.Final]:
        """Yield the provisional final: no server will replace it."""
        final, self._provisional = self._provisional, None
        return self._hand_out(final) if final is not None and final.text else []

    def _hold(self, final: events.Final) -> list[events.Final]:
        """Keep a provisional final. Of two for the same utterance keep the longer one."""
        before = self._hand_out_earlier(final)
        if self._provisional is None or final.end_ms >= self._provisional.end_ms:
            self._provisional = final
        return before

    def _hand_out(self, final: events.Final) -> list[events.Final]:
        before = self._hand_out_earlier(final)
        self._provisional = None
        self.last_final_ms = max(self.last_final_ms, final.end_ms)
        numbered = final.model_copy(update={"segment_seq": self._next_seq})
        self._next_seq += 1
        return [*before, numbered]

    def _hand_out_earlier(self, final: events.Final) -> list[events.Final]:
        """Yield the provisional final if `final` belongs to a later utterance: no server will recognise it again."""
        earlier = self._provisional is not None and self._provisional.end_ms <= final.start_ms
        return self.hand_out_provisional() if earlier else []
