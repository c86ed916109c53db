"""Exit codes for scripts, and error messages for people."""

from __future__ import annotations

from enum import IntEnum

from stt_client.errors import RequestRefused, ServerUnreachable, StreamClosed, SttError
from stt_client.unreachable import ConnectionBroken, NeverReachable


class Exit(IntEnum):
    """Exit codes. 2 is a mistake in the command itself."""

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
    """The command failed. The text is one sentence that says what to do."""


def code_of(error: SttError) -> Exit:
    """The exit code of an error of the library."""
    if isinstance(error, ServerUnreachable):
        return Exit.UNREACHABLE
    if isinstance(error, RequestRefused):
        return Exit.UNREACHABLE if error.status in (502, 503, 504) else Exit.REFUSED
    if isinstance(error, StreamClosed):
        return Exit.REFUSED if error.code in (1008, 1009) else Exit.UNREACHABLE
    return Exit.FAILED


def describe(error: SttError) -> str:
    """An error of the library as a sentence, with a second one about what to do, if there is one."""
    text = str(error)
    return " ".join(filter(None, (f"{text[:1].upper()}{text[1:].rstrip('.')}.", _advice(error))))


def _advice(error: SttError) -> str:
    match error:
        case NeverReachable() | ConnectionBroken():
            return ""
        case ServerUnreachable():
            return "Is it running? `stt serve` starts one here, and --server names another."
        case RequestRefused(status=401):
            return "Give it a valid key, with --api-key or the variable STT_API_KEY."
        case RequestRefused(status=404):
            return "Is the address right? A server behind a proxy may have its own path."
        case _:
            return ""
