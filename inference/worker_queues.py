"""What a session's worker stands between: a source of audio and commands, and a sink for events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from protocol import events
from protocol.events import Reason


@dataclass(slots=True)
class AudioMessages:
    """Binary messages that came one after another; grows until it is handed over."""

    offset: int
    """Bytes that came before the first in this session; dropped ones count."""
    chunks: list[bytes] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    """When each chunk was read, monotonic seconds."""
    live: bool = True
    """Whether the client sends no faster than real time."""
    resumes: bool = False
    """Whether the client paused before the first."""


@dataclass(frozen=True, slots=True)
class CommandMessage:
    """A command that is not audio."""

    command: events.Command
    arrived: float
    """Monotonic seconds."""


Inbound = AudioMessages | CommandMessage


class AudioSource(Protocol):
    """Where the worker gets its messages; called from the worker's thread, `wake` from any."""

    @property
    def cancelled(self) -> bool:
        """The client is gone, or the session failed: drop all work."""
        ...

    @property
    def exhausted(self) -> bool:
        """Nothing is queued and nothing will come: the server ends the session."""
        ...

    @property
    def end_reason(self) -> Reason:
        """Why the utterance that is then open ends."""
        ...

    @property
    def must_finish(self) -> bool:
        """There is no time to wait for finals: their newest hypotheses take their place."""
        ...

    def take(self) -> list[Inbound]:
        """Everything queued now, in order; never waits."""
        ...

    def wait(self, seconds: float, position: int | None) -> None:
        """Sleep until `seconds` of new audio, or the audio up to sample `position`, arrived, whichever is sooner.

        A command, an end and `wake` end the wait at once. A source with many workers may let them sleep longer; if no
        audio comes the wait ends by itself. `position` None: no audio ends the wait.
        """
        ...

    def wake(self) -> None:
        """End a `wait` now."""
        ...

    def watch_for_stall(self, seconds: float | None) -> None:
        """Have a `Stall` queued when no audio comes for `seconds` and none is on its way; None: no more."""
        ...


class SinkClosed(Exception):
    """The session ended: nothing that the worker reports will be sent."""


class EventSink(Protocol):
    """Where the worker's events go; called from its thread."""

    def offer(self, event: events.SpeechStarted | events.SpeechStopped | events.Level | events.Hypothesis) -> bool:
        """Queue it if there is room; whether it was."""
        ...

    def put(self, event: events.Event) -> None:
        """Queue it, waiting for room.

        Raises:
            SinkClosed: there never will be.
        """
        ...
