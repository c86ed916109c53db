"""The latest audio and commands of a stream, kept so that they can be sent to another server."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Command:
    """A text message, and its position in the audio."""

    kind: str
    """Its `type`."""
    text: str
    """The message."""
    position: int
    """Bytes of audio before it."""
    answered: bool = False
    """Whether a server has answered it."""


class History:
    """Audio from `start` to `end`, in bytes of the stream, the commands in it, and how far the connection was sent it.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._audio = bytearray()
        self._commands: deque[Command] = deque()
        """Commands in order. Those before `start` are dropped with the audio."""
        self._sent_commands = 0
        """How many of them were sent on this connection."""
        self.start = 0
        """Position of the oldest byte kept."""
        self.sent = 0
        """Position up to which audio was sent on this connection."""

    @property
    def end(self) -> int:
        """Position behind the newest byte."""
        return self.start + len(self._audio)

    def append(self, audio: bytes) -> None:
        """Add audio at the end."""
        self._audio += audio

    def command(self, kind: str, text: str) -> None:
        """Add a command behind all audio so far."""
        self._commands.append(Command(kind, text, self.end))

    def answered(self, kind: str, *, keep: bool = False) -> None:
        """The server has answered the oldest open command of this kind; `keep`: it must be sent again all the same."""
        for index, command in enumerate(self._commands):
            if command.kind == kind and not command.answered:
                if keep:
                    self._commands[index] = replace(command, answered=True)
                else:
                    self._remove(index)
                return

    def repeated(self, kind: str) -> int:
        """How many answered commands of this kind a new connection is sent again."""
        return sum(command.kind == kind and command.answered for command in self._commands)

    def _remove(self, index: int) -> None:
        del self._commands[index]
        self._sent_commands -= index < self._sent_commands

    def trim(self, position: int) -> None:
        """Forget the audio before `position`."""
        surplus = min(position, self.end) - self.start
        if surplus > 0:
            del self._audio[:surplus]
            self.start += surplus
            self.sent = max(self.sent, self.start)
            while self._commands and self._commands[0].answered and self._commands[0].position <= self.start:
                self._remove(0)

    def rewind(self, position: int) -> None:
        """Begin a new connection at `position`, or at the oldest byte kept."""
        self.sent = min(max(position, self.start), self.end)
        self._sent_commands = 0

    @property
    def unsent(self) -> bool:
        """Whether there is audio or a command that this connection was not sent."""
        return self.sent < self.end or self._sent_commands < len(self._commands)

    def take(self, most: int) -> bytes | str:
        """The next message to send; at most `most` bytes of audio. There is one: `unsent` is true."""
        stop = min(self.end, self.sent + most)
        if self._sent_commands < len(self._commands):
            command = self._commands[self._sent_commands]
            if command.position <= self.sent:
                self._sent_commands += 1
                return command.text
            stop = min(stop, command.position)
        audio = bytes(self._audio[self.sent - self.start : stop - self.start])
        self.sent = stop
        return audio
