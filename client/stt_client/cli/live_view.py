"""A stream on the terminal: the partial in place on the last line, finals as lines above it."""

from __future__ import annotations

from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from stt_client.events import AudioLost, Event, Final, Partial, Reconnected, Reconnecting, ServerWarning

_CLEAR_LINE = "\r\x1b[2K"
_SPEAKERS = ("left", "right")


class LiveView:
    """Writes finals to `out`, partials too if it is a terminal, and what happens to the connection to `errors`."""

    def __init__(self, out: TextIO, errors: TextIO, channels: int = 1, *, json: bool) -> None:
        self._speakers = _SPEAKERS if channels > 1 else ("",)
        self._out = out
        self._in_place = out.isatty() and not json
        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._errors = Console(file=errors, highlight=False, soft_wrap=True)
        self._json = json
        self._last_reason = ""
        """The last reason that was printed for a lost connection."""

    def connecting(self, server: str) -> Status:
        """Show on a terminal, until it is stopped, that there is no connection yet."""
        status = self._errors.status(f"Connecting to {escape(server)}")
        if self._errors.is_terminal and not self._json:
            status.start()
        return status

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._json:
            self._out.write(f"{event.model_dump_json(exclude_none=True)}\n")
            self._out.flush()
            return
        match event:
            case Partial():
                self._partial(self._named(event))
            case Final():
                self._final(event)
            case Reconnecting() | Reconnected() | ServerWarning() | AudioLost():
                self._tell(event)

    def clear(self) -> None:
        """Remove the partial."""
        if self._in_place:
            self._out.write(_CLEAR_LINE)
            self._out.flush()

    def _tell(self, event: Reconnecting | Reconnected | ServerWarning | AudioLost) -> None:
        """Print what happened. The reason for a lost connection is printed once, however many attempts fail."""
        outage = event.reason if isinstance(event, Reconnecting) else ""
        if not outage or outage != self._last_reason:
            self.clear()
            self._errors.print(_describe(event), style="yellow", markup=False)
        self._last_reason = outage

    def _partial(self, text: str) -> None:
        if self._in_place:
            self.clear()
            self._console.print(_end_of(text, self._console.width - 1), style="dim", markup=False, end="")
            self._out.flush()

    def _final(self, final: Final) -> None:
        self.clear()
        if not final.text:
            return
        if self._in_place:
            self._console.print(f"{_clock(final.start_ms)}  ", style="cyan", end="", markup=False)
        self._console.print(self._named(final), markup=False)
        self._out.flush()

    def _named(self, event: Partial | Final) -> str:
        """The text, after its speaker's name if there are two."""
        speaker = self._speakers[event.channel]
        return f"{speaker}: {event.text}" if speaker else event.text


def _describe(event: Reconnecting | Reconnected | ServerWarning | AudioLost) -> str:
    match event:
        case Reconnecting():
            wait = f" in {event.delay_seconds:.0f} s" if event.delay_seconds >= 1 else ""
            return f"{event.reason[:1].upper()}{event.reason[1:]}; connecting again{wait}."
        case Reconnected():
            return f"Connected again; {event.resent_ms / 1000:.1f} s of audio are sent again."
        case ServerWarning():
            return f"{event.code}: {event.message}"
        case AudioLost():
            return f"The words from {_clock(event.start_ms)} to {_clock(event.end_ms)} may be lost."


def _end_of(text: str, width: int) -> str:
    """The end of the text that fits on the line."""
    shown = text
    while cell_len(shown) > width:
        shown = shown[max(1, (cell_len(shown) - width) // 2) :]
    return shown


def _clock(ms: int) -> str:
    return f"{ms // 60_000}:{ms // 1000 % 60:02}"
