"""Client of the speech-to-text server realtime-stt-ws: live streams that survive restarts, and files over HTTP.

`Client` and `Stream` are for ordinary programs, `AsyncClient` and `AsyncStream` for asyncio.
"""

from stt_client.blocking import Client, Stream
from stt_client.client import AsyncClient
from stt_client.errors import RequestRefused, ServerUnreachable, StreamClosed, SttError
from stt_client.events import (
    AudioLost,
    Cleared,
    Configured,
    Event,
    Final,
    Level,
    Partial,
    Ready,
    Reconnected,
    Reconnecting,
    ServerWarning,
    SpeechStarted,
    SpeechStopped,
    Word,
)
from stt_client.stream import AsyncStream
from stt_client.transcript import Progress, Segment, Transcript, TranscriptWarning

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "AudioLost",
    "Cleared",
    "Client",
    "Configured",
    "Event",
    "Final",
    "Level",
    "Partial",
    "Progress",
    "Ready",
    "Reconnected",
    "Reconnecting",
    "RequestRefused",
    "Segment",
    "ServerUnreachable",
    "ServerWarning",
    "SpeechStarted",
    "SpeechStopped",
    "Stream",
    "StreamClosed",
    "SttError",
    "Transcript",
    "TranscriptWarning",
    "Word",
]
