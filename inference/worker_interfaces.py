"""The interfaces of a session's worker: a source of audio and commands, and a sink for events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from protocol import events
from protocol.events import Reason


@dataclass(slots=True)
class AudioMessages:
    """Consecutive audio messages; grows until it is queued for the worker."""

    offset: int
    """Bytes of the session before the first chunk; dropped ones count."""
    chunks: list[bytes] = field(default_factory=list)
    """One or more messages each, which were read together."""
    arrivals: list[float] = field(default_factory=list)
    """When each chunk was read, monotonic seconds."""
    counts: list[int] = field(default_factory=list)
    """Number of messages in each chunk."""
    live: bool = True
    """Whether the client is live, not ahead of real time."""
    resumes: bool = False
    """Whether the client paused before the first chunk."""

    def add(self, chunk: bytes, read: float, messages: int = 1) -> None:
        """Add a chunk of so many messages, read at `read`, monotonic seconds."""
        self.chunks.append(chunk)
        self.arrivals.append(read)
        self.counts.append(messages)


@dataclass(frozen=True, slots=True)
class CommandMessage:
    """A command that is not audio."""

    command: events.Command
    arrived: float
    """Monotonic seconds."""


Inbound = AudioMessages | CommandMessage


@dataclass(frozen=True, slots=True)
class NextDecision:
    """Samples of the session that must have arrived before anything can change."""

    sample: int
    """Before it an utterance can neither pause nor end."""
    end_sample: int
    """Before it no utterance can end."""


class AudioSource(Protocol):
    """The source of the worker's messages. Called on the worker's thread; `wake` on any."""

    @property
    def cancelled(self) -> bool:
        """Whether to drop all work: the client is gone, or the session failed."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether nothing is queued and nothing more will come: the server ends the session."""
        ...

    @property
    def end_reason(self) -> Reason:
        """The reason of the final of the utterance that is open when the source is exhausted."""
        ...

    @property
    def must_finish(self) -> bool:
        """Whether not to wait for finals, but to send the newest hypotheses instead."""
        ...

    def take(self) -> list[Inbound]:
        """Return what is queued, in order. Does not block."""
        ...

    def wait(self, seconds: float, decision: NextDecision | None) -> None:
        """Block until there may be something to do.

        That is when `seconds` of new audio have arrived, or the audio up to `decision.sample`, whichever is sooner.
        With many workers a source may wait for `seconds` of audio beyond `decision.sample`, but not beyond
        `decision.end_sample`. If `decision` is None, audio does not end the wait. A command, the end of the session,
        `wake` and a timeout always do.
        """
        ...

    def wake(self) -> None:
        """End a `wait` now."""
        ...

    def watch_for_stall(self, seconds: float | None) -> None:
        """Queue a `Stall` when no audio comes for `seconds` and none is on its way; None: stop watching."""
        ...


class SinkClosed(Exception):
    """The session ended. Events will not be sent any more."""


class EventSink(Protocol):
    """The sink of the worker's events. Called on the worker's thread."""

    def offer(self, event: events.SpeechStarted | events.SpeechStopped | events.Level | events.Hypothesis) -> bool:
        """Queue the event if there is room. Returns whether there was."""
        ...

    def put(self, event: events.Event) -> None:
        """Queue the event. Blocks until there is room.

        Raises:
            SinkClosed: the session ended.
        """
        ...
