"""One stream over several connections: decides what is sent again, and what is yielded. Pure: no socket, no clock.

Audio is sent again from the earliest point that a channel needs. Another channel is silent up to its own point, so that
no final comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stt_client import events
from stt_client.channel_finals import ChannelFinals
from stt_client.history import History
from stt_client.messages import ErrorMessage, Finished, ServerMessage, shifted, to_json

KEPT_SECONDS = 60
"""Longest audio that is kept to be sent again."""
LEAD_SECONDS = 20
"""How far ahead of real time a stream is sent, at most, so that audio that a server has not processed is still kept."""

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
    """Messages to send before everything else."""
    lost: Sequence[events.AudioLost]
    """Audio of open utterances that is no longer kept, of each channel."""
    resent_ms: int
    """Audio that was sent before and will be sent again."""


class ResumableStream:
    """The state of a stream. Positions are bytes of the whole stream, times ms of it. Not thread-safe."""

    def __init__(self, sample_rate: int, bytes_per_sample: int, channels: int = 1) -> None:
        """`bytes_per_sample`: of one channel; `channels` are interleaved."""
        self._channel_bytes = bytes_per_sample
        self._bytes_per_sample = channels * bytes_per_sample
        """Bytes of a sample of all channels."""
        self._bytes_per_second = sample_rate * self._bytes_per_sample
        self._channels = tuple(ChannelFinals() for _ in range(channels))
        self._silent_until = [0] * channels
        """For each channel, the position up to which silence is sent on this connection."""
        self._history = History()
        self._connected = False
        self._unpaced_until = 0
        """Position up to which audio may be sent on this connection without pacing."""
        self._base_ms = 0
        """Where this connection's audio begins."""
        self._max_sent = 0
        """Position up to which audio was sent on any connection."""
        self._configured: events.Configured | None = None
        """Settings that the caller changed."""
        self._repeated_settings = False
        """Whether this connection began with these settings, and the server has not answered yet."""
        self._repeated_clears = 0
        """Clears sent again on this connection, and not answered again yet."""
        self._finishing = False
        self.finished = False
        """Whether the server has sent everything."""
        self.error: ErrorMessage | None = None
        """The server's `error` message before it closes this connection."""

    # Called for the caller

    def accepts(self, size: int) -> bool:
        """Whether `size` more bytes can be kept without dropping audio whose words have no final."""
        return self._history.end - self._droppable_until + size <= self._limit

    @property
    def _droppable_until(self) -> int:
        """Position before which audio may be dropped to make room."""
        if self._connected:
            return self._history.sent
        return self._history.start if self._open_speech else min(self._max_sent, self._history.end)

    @property
    def _open_speech(self) -> bool:
        """Whether words were recognised that have no final that counts."""
        return any(channel.open_speech for channel in self._channels)

    def append(self, audio: bytes) -> None:
        """Add audio; `accepts` has said so, and `finish` was not called."""
        self._history.append(audio)
        self._history.trim(self._history.end - self._limit)

    def command(self, kind: str, **fields: object) -> None:
        """Add a `commit`, `clear` or `configure` behind all audio so far."""
        self._history.command(kind, to_json(kind, **fields))

    def finish(self) -> None:
        """Add the end; idempotent."""
        if not self._finishing:
            self._finishing = True
            self.command("finish")

    @property
    def finishing(self) -> bool:
        """Whether the end was added."""
        return self._finishing

    # Called for the connection

    def opened(self) -> Opening:
        """Begin a connection."""
        points = [self._position(channel.resume_ms) for channel in self._channels]
        needed = min(points)
        self._history.trim(needed)
        self._history.rewind(needed)
        begin = self._history.sent
        self._base_ms = self._ms(begin)
        self._unpaced_until = self._history.end
        self._connected, self.error = True, None
        self._repeated_clears = self._history.repeated("clear")
        self._silent_until = points
        for channel in self._channels:
            channel.opened()
        settings = self._configured.model_dump(exclude={"type", "hotwords_used"}) if self._configured else None
        self._repeated_settings = settings is not None
        return Opening(
            [to_json("configure", **settings)] if settings else [],
            self._lost(begin),
            self._ms(max(0, self._max_sent - begin)),
        )

    def _lost(self, begin: int) -> list[events.AudioLost]:
        return [
            events.AudioLost(start_ms=channel.resume_ms, end_ms=self._base_ms, channel=number)
            for number, channel in enumerate(self._channels)
            if channel.open_speech and begin > self._silent_until[number]
        ]

    def delay(self, elapsed: float) -> float | None:
        """Seconds until the next message may be sent, `elapsed` seconds after `opened`; None: there is none."""
        if not self._history.unsent:
            return None
        allowed = self._unpaced_until + (elapsed + LEAD_SECONDS) * self._bytes_per_second
        return max(0.0, (self._history.sent - allowed) / self._bytes_per_second)

    def take(self) -> bytes | str:
        """The next message to send: a command, or at most 1 s of audio. `delay` has said that there is one."""
        begin = self._history.sent
        message = self._history.take(self._bytes_per_second)
        self._max_sent = max(self._max_sent, self._history.sent)
        return message if isinstance(message, str) else self._silenced(message, begin)

    def _silenced(self, audio: bytes, begin: int) -> bytes:
        """`audio`, which begins at `begin`, with silence where a channel needs nothing sent again."""
        if begin >= max(self._silent_until):
            return audio
        silenced = bytearray(audio)
        for number, until in enumerate(self._silent_until):
            for offset in range(number * self._channel_bytes, (number + 1) * self._channel_bytes):
                first = (offset - begin) % self._bytes_per_sample
                settled = slice(first, max(first, until - begin), self._bytes_per_sample)
                silenced[settled] = bytes(len(silenced[settled]))
        return bytes(silenced)

    def received(self, message: ServerMessage) -> list[events.Event]:
        """The events to yield for a message."""
        match shifted(message, self._base_ms):
            case events.Ready():
                return []
            case ErrorMessage() as error:
                self.error = error
                return []
            case events.Final() as final:
                return self._final(final)
            case events.Partial() as partial:
                return [self._channels[partial.channel].partial(partial)]
            case Finished():
                self.finished = True
                return self.abandoned()
            case other:
                return self._answer(other)

    def closed(self, code: int) -> list[events.Event]:
        """The connection has ended with `code`."""
        self._connected = False
        return self._settle([final for channel in self._channels for final in channel.closed(code)])

    def abandoned(self) -> list[events.Event]:
        """No server takes the stream any more: yield the provisional finals."""
        return self._settle([final for channel in self._channels for final in channel.hand_out_provisional()])

    def _final(self, final: events.Final) -> list[events.Event]:
        return self._settle(self._channels[final.channel].final(final))

    def _settle(self, finals: Sequence[events.Final]) -> list[events.Event]:
        """Drop audio that no channel needs any more, now that `finals` are yielded."""
        while all(channel.answered_commits for channel in self._channels):
            self._history.answered("commit")
            for channel in self._channels:
                channel.answered_commits -= 1
        self._history.trim(self._position(min(channel.last_final_ms for channel in self._channels)))
        return list(finals)

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
        for channel in self._channels:
            channel.cleared()
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

    def _position(self, ms: int) -> int:
        samples = ms * self._bytes_per_second // self._bytes_per_sample // 1000
        return samples * self._bytes_per_sample

    def _ms(self, position: int) -> int:
        return round(position * 1000 / self._bytes_per_second)
