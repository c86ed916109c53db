"""One stream over several connections: what to send again, and which finals to hand out. Pure: no socket, no clock.

A final is provisional if the server ended the utterance only because it restarts (`drain`), or because it closes the
connection (`closing`) in a way after which the client connects again. Its utterance is sent again from 300 ms before
its start, and the new server's final replaces it. All other audio is sent again from the end of the last final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stt_client import events
from stt_client.history import History
from stt_client.messages import ErrorMessage, Finished, ServerMessage, shifted, written
from stt_client.retry import RETRIED_CODES

KEPT_SECONDS = 60
"""Longest audio that is kept to be sent again."""
LEAD_SECONDS = 20
"""A stream is sent at most so far ahead of real time, so that what a server has not processed is still kept."""
PRE_ROLL_MS = 300
"""Audio before a provisional final that is sent again with it: the voiced start is found behind soft sounds."""

_Passed = (
    events.SpeechStarted
    | events.SpeechStopped
    | events.Level
    | events.Cleared
    | events.Configured
    | events.ServerWarning
)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a new connection begins."""

    messages: Sequence[str]
    """To be sent before everything else."""
    lost: events.AudioLost | None
    """Audio of an open utterance that is no longer kept."""
    resent_ms: int
    """Audio that was sent before and will be sent again."""


class ResumableStream:
    """Positions are bytes of the whole stream, times ms of it. Not thread-safe."""

    def __init__(self, sample_rate: int, bytes_per_sample: int) -> None:
        self._bytes_per_sample = bytes_per_sample
        self._bytes_per_second = sample_rate * bytes_per_sample
        self._history = History()
        self._connected = False
        self._allowance = 0
        """Position up to which this connection may be sent audio at once."""
        self._base_ms = 0
        """Where this connection's audio begins."""
        self._furthest = 0
        """Position up to which any connection was sent audio."""
        self._next_seq = 0
        self._settled_ms = 0
        """End of the last final handed out."""
        self._provisional: events.Final | None = None
        self._closing: events.Final | None = None
        """A final whose close code is yet to come."""
        self._open_text = False
        """Whether a partial has no final yet."""
        self._configured: events.Configured | None = None
        """Settings that the caller changed."""
        self._repeated_settings = False
        """Whether this connection began with them and the server has not answered yet."""
        self._repeated_clears = 0
        """Clears sent again on this connection, and not answered again yet."""
        self._finishing = False
        self.finished = False
        """Whether the server has sent everything."""
        self.error: ErrorMessage | None = None
        """What the server said before it closes this connection."""

    # What the caller does

    def accepts(self, size: int) -> bool:
        """Whether `size` more bytes can be kept without forgetting any whose words may be missing."""
        return self._history.end - self._dispensable + size <= self._limit

    @property
    def _dispensable(self) -> int:
        """Position before which audio may be forgotten to make room."""
        if self._connected:
            return self._history.sent
        return self._history.start if self._open_speech else min(self._furthest, self._history.end)

    @property
    def _open_speech(self) -> bool:
        """Whether words were recognised that have no final that counts."""
        return self._open_text or self._provisional is not None

    def append(self, audio: bytes) -> None:
        """Add audio; `accepts` has said so, and `finish` was not called."""
        self._history.append(audio)
        self._history.trim(self._history.end - self._limit)

    def command(self, kind: str, **fields: object) -> None:
        """Add a `commit`, `clear` or `configure` behind all audio so far."""
        self._history.command(kind, written(kind, **fields))

    def finish(self) -> None:
        """Add the end; idempotent."""
        if not self._finishing:
            self._finishing = True
            self.command("finish")

    @property
    def finishing(self) -> bool:
        """Whether the end was added."""
        return self._finishing

    # What the connection does

    def opened(self) -> Opening:
        """Begin a connection."""
        needed = self._position(self._resume_ms)
        self._history.trim(needed)
        self._history.rewind(needed)
        begin = self._history.sent
        self._base_ms = self._ms(begin)
        self._allowance = self._history.end
        self._connected, self.error = True, None
        self._repeated_clears = self._history.repeated("clear")
        lost = events.AudioLost(start_ms=self._resume_ms, end_ms=self._base_ms)
        settings = self._configured.model_dump(exclude={"type", "hotwords_used"}) if self._configured else None
        self._repeated_settings = settings is not None
        return Opening(
            [written("configure", **settings)] if settings else [],
            lost if self._open_speech and begin > needed else None,
            self._ms(max(0, self._furthest - begin)),
        )

    def delay(self, elapsed: float) -> float | None:
        """Seconds until the next message may be sent, `elapsed` seconds after `opened`; None: there is none."""
        if not self._history.unsent:
            return None
        allowed = self._allowance + (elapsed + LEAD_SECONDS) * self._bytes_per_second
        return max(0.0, (self._history.sent - allowed) / self._bytes_per_second)

    def take(self) -> bytes | str:
        """The next message to send: a command, or at most 1 s of audio. `delay` has said that there is one."""
        message = self._history.take(self._bytes_per_second)
        self._furthest = max(self._furthest, self._history.sent)
        return message

    def received(self, message: ServerMessage) -> list[events.Event]:
        """What a message means to the caller."""
        match shifted(message, self._base_ms):
            case events.Ready():
                return []
            case ErrorMessage() as error:
                self.error = error
                return []
            case events.Final() as final:
                return self._final(final)
            case events.Partial() as partial:
                self._open_text = True
                return [partial.model_copy(update={"segment_seq": self._next_seq})]
            case Finished():
                self.finished = True
                return self._hand_out_provisional()
            case other:
                return self._answer(other)

    def closed(self, code: int) -> list[events.Event]:
        """The connection has ended with `code`."""
        self._connected = False
        closing, self._closing = self._closing, None
        if closing is None:
            return []
        return self._hold(closing) if code in RETRIED_CODES else self._hand_out(closing)

    def abandoned(self) -> list[events.Event]:
        """No server takes the stream any more: what is provisional is all there will be."""
        return self._hand_out_provisional()

    # Finals

    def _final(self, final: events.Final) -> list[events.Event]:
        self._open_text = False
        if final.reason == "drain":
            return self._hold(final)
        if final.reason == "closing":
            self._closing = final
            return []
        return self._hand_out(final)

    def _hold(self, final: events.Final) -> list[events.Event]:
        """Keep a provisional final; of two of the same utterance the one that covers more."""
        before = self._hand_out_earlier(final)
        if self._provisional is None or final.end_ms >= self._provisional.end_ms:
            self._provisional = final
        return before

    def _hand_out(self, final: events.Final) -> list[events.Event]:
        before = self._hand_out_earlier(final)
        self._provisional = None
        if final.reason == "commit":
            self._history.answered("commit")
        self._settled_ms = max(self._settled_ms, final.end_ms)
        self._history.trim(self._position(self._settled_ms))
        numbered = final.model_copy(update={"segment_seq": self._next_seq})
        self._next_seq += 1
        return [*before, numbered]

    def _hand_out_earlier(self, final: events.Final) -> list[events.Event]:
        """Hand out the provisional final if `final` is of a later utterance: no server will recognise it again."""
        earlier = self._provisional is not None and self._provisional.end_ms <= final.start_ms
        return self._hand_out_provisional() if earlier else []

    def _hand_out_provisional(self) -> list[events.Event]:
        final, self._provisional = self._provisional, None
        return self._hand_out(final) if final is not None and final.text else []

    # Answers to commands

    def _answer(self, event: _Passed) -> list[events.Event]:
        if isinstance(event, events.Cleared):
            return self._cleared(event)
        if isinstance(event, events.Configured):
            return self._configuration(event)
        if isinstance(event, events.ServerWarning) and event.code == "configure_refused":
            self._history.answered("configure")
        return [event]

    def _cleared(self, cleared: events.Cleared) -> list[events.Event]:
        self._open_text = False
        if self._repeated_clears:
            self._repeated_clears -= 1
            return []
        # Finals of utterances before it may still come, so the audio before it is kept, and the command with it.
        self._history.answered("clear", keep=True)
        return [cleared]

    def _configuration(self, configured: events.Configured) -> list[events.Event]:
        repeated, self._repeated_settings = self._repeated_settings, False
        if repeated:
            return []
        self._history.answered("configure")
        self._configured = configured
        return [configured]

    # Positions

    @property
    def _limit(self) -> int:
        return KEPT_SECONDS * self._bytes_per_second

    @property
    def _resume_ms(self) -> int:
        """Where a new connection must begin so that no word is lost or said twice."""
        if self._provisional is None:
            return self._settled_ms
        return max(self._settled_ms, self._provisional.start_ms - PRE_ROLL_MS)

    def _position(self, ms: int) -> int:
        samples = ms * self._bytes_per_second // self._bytes_per_sample // 1000
        return samples * self._bytes_per_sample

    def _ms(self, position: int) -> int:
        return round(position * 1000 / self._bytes_per_second)
