"""Why a stream or a transcription failed; each text is one plain sentence."""

from __future__ import annotations


class SttError(Exception):
    """Base class of this library's errors.

    Example:
        >>> try:
        ...     Client("http://localhost:9", connect_seconds=0.1).transcribe("references/hello.wav")
        ... except SttError as error:
        ...     print(type(error).__name__)
        ServerUnreachable
    """


class ServerUnreachable(SttError):
    """No server accepted the connection in time.

    Example:
        >>> try:
        ...     with Client("http://localhost:9", connect_seconds=0.1).stream():
        ...         pass
        ... except ServerUnreachable:
        ...     print("start it with `make serve`")
        start it with `make serve`
    """


class RequestRefused(SttError):
    """The server answered with an HTTP error. The same request fails again unless `status` is 502, 503 or 504.

    Example:
        >>> try:
        ...     client.transcribe("references/hello.txt")
        ... except RequestRefused as refusal:
        ...     print(refusal.status)
        422
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the server answered {status}: {message}")
        self.status = status
        """The HTTP status."""
        self.message = message
        """What the server said about it."""


class StreamClosed(SttError):
    """The server closed the stream for good.

    Example:
        >>> try:
        ...     with client.stream(vad_silence_ms=1) as stream:
        ...         stream.close()
        ... except StreamClosed as closed:
        ...     print(closed.code, closed.message)
        1008 vad_silence_ms: input should be greater than or equal to 100
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the server closed the stream with {code}: {message}" if message else f"closed with {code}")
        self.code = code
        """The WebSocket's close code; 1006: there was no close frame."""
        self.message = message
        """What the server said about it; may be empty."""
