"""Exit codes that scripts can use, and what a person is told of an error."""

from __future__ import annotations

from enum import IntEnum

from stt_client.errors import RequestRefused, ServerUnreachable, StreamClosed, SttError
from stt_client.unreachable import ConnectionBroken, NeverReachable


class Exit(IntEnum):
    """What the program's end means; 2 is a mistake in the command itself."""

    DONE = 0
    FAILED = 1
    """Something could not be done: a file, a model, the engine."""
    UNREACHABLE = 3
    """No server answers, or the connection was lost for good."""
    REFUSED = 4
    """The server refuses the request."""
    INTERRUPTED = 130
    """Ctrl-C."""


class Failure(Exception):
    """The command cannot be carried out; the text is one plain sentence that says what to do."""


def code_of(error: SttError) -> Exit:
    """The exit code of an error of the library."""
    if isinstance(error, ServerUnreachable):
        return Exit.UNREACHABLE
    if isinstance(error, RequestRefused):
        return Exit.UNREACHABLE if error.status in (502, 503, 504) else Exit.REFUSED
    if isinstance(error, StreamClosed):
        return Exit.REFUSED if error.code in (1008, 1009) else Exit.UNREACHABLE
    return Exit.FAILED


def told(error: SttError) -> str:
    """An error of the library as a sentence, and one more about what to do if there is something."""
    text = str(error)
    return " ".join(filter(None, (f"{text[:1].upper()}{text[1:].rstrip('.')}.", _advice(error))))


def _advice(error: SttError) -> str:
    match error:
        case NeverReachable() | ConnectionBroken():
            return ""
        case ServerUnreachable():
            return "Is it running? `stt serve` starts one here, and --server names another."
        case RequestRefused(status=401):
            return "Give a key that it knows, with --api-key or the variable STT_API_KEY."
        case RequestRefused(status=404):
            return "Is its address right? A server behind a proxy may have a path of its own."
        case _:
            return ""
