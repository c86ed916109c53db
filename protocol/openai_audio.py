"""OpenAI's audio, base64 in JSON, as the server's own PCM. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from protocol.stream_audio import StreamCodec, StreamConverter, StreamFormat

MIME_TYPES: Mapping[str, StreamCodec] = MappingProxyType(
    {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
)


class NotBase64(ValueError):
    """The text is not base64."""


class AudioDecoder:
    """One client's audio in one format. Used by one thread."""

    def __init__(self, source: StreamFormat) -> None:
        self._converter = StreamConverter(source)

    def decode(self, text: str) -> Iterator[bytes]:
        """The next audio as PCM at 16 kHz, signed 16-bit little-endian.

        Raises:
            NotBase64: before anything is converted.
        """
        return filter(None, self._converter.convert(_from_base64(text)))

    def flush(self) -> bytes:
        """The samples that the conversion still holds."""
        return self._converter.flush()


def _from_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)  # MIME has line breaks
    except ValueError as error:
        raise NotBase64("audio is not base64") from error
