"""The binary messages of a native client, as commands of the session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from protocol import events
from protocol.stream_audio import StreamConverter, StreamFormat
from protocol.stream_beginning import StreamBeginning


class ClientAudio:
    """Decodes one client's audio. Warns once of a wrong label, and once of damage. Used by one thread."""

    def __init__(self, source: StreamFormat, may_check: Callable[[], bool]) -> None:
        """`may_check` is asked before each part of the check of the label; False: later."""
        self._converter = None if source.is_native else StreamConverter(source)
        """Converts the audio; None: it needs no conversion."""
        self._beginning: StreamBeginning | None = StreamBeginning(source, may_check)
        """Checks the beginning; None: it was checked."""
        self._reports_fault = True
        """Whether the next damage will be reported: the first only."""

    def take(self, data: bytes) -> Iterable[events.Command]:
        """Decode the next message."""
        if self._beginning is None:
            return self._audio(data)
        data = self._beginning.take(data)
        # Lazy: a long Opus message is decoded in parts, and other connections are served in between.
        return chain(self._warnings_of_label(self._beginning), self._audio(data))

    def flush(self) -> Sequence[events.Audio]:
        """The samples that the resampler still holds."""
        held = b"" if self._converter is None else self._converter.flush()
        return (events.Audio(held),) if held else ()

    def in_order(self, command: events.Command) -> Sequence[events.Command]:
        """The command, after all audio that came before it."""
        if not isinstance(command, events.Commit | events.Clear | events.Finish):
            return (command,)
        warnings: Sequence[events.Command] = ()
        if self._beginning is not None:
            self._beginning.finish()
            warnings = self._warnings_of_label(self._beginning)
        return (*self.flush(), *warnings, command)

    def _warnings_of_label(self, beginning: StreamBeginning) -> Sequence[events.Command]:
        if beginning.is_over:
            self._beginning = None
        fault = beginning.fault
        return () if fault is None or self._beginning else (events.Reject(events.WarningCode.WRONG_LABEL, fault),)

    def _audio(self, data: bytes) -> Iterable[events.Command]:
        return (events.Audio(data),) if self._converter is None else self._converted(data, self._converter)

    def _converted(self, data: bytes, converter: StreamConverter) -> Iterator[events.Command]:
        for pcm in converter.convert(data):
            yield events.Audio(pcm)
        if converter.faults and self._reports_fault:
            self._reports_fault = False
            yield events.Reject(events.WarningCode.DAMAGED, converter.faults[0])
