"""OpenAI's audio: base64 of three formats."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest

from protocol.openai_audio import MIME_TYPES, AudioDecoder, NotBase64
from protocol.stream_audio import StreamConverter, StreamFormat
from tests.audio import reference

NATIVE = StreamFormat(16_000, "pcm_s16le")


@pytest.mark.parametrize("source", [StreamFormat(24_000, "pcm_s16le"), StreamFormat(8_000, "mulaw"), NATIVE], ids=str)
def test_messages_may_be_cut_anywhere(source: StreamFormat) -> None:
    """Even in the middle of a sample, and longer than what is converted at once."""
    data = reference("hello") * 2
    decoder, whole = AudioDecoder(source), StreamConverter(source)
    edges = [0, 1, 1_001, 5_000, 70_000, len(data)]
    messages = [base64.b64encode(data[first:last]).decode() for first, last in pairwise(edges)]
    pieces = [piece for message in messages for piece in decoder.decode(message)]

    assert b"".join(pieces) + decoder.flush() == b"".join(whole.convert(data)) + whole.flush()
    assert all(pieces)
    assert max(map(len, pieces)) < 200_000


def test_the_formats_are_openais() -> None:
    """By their MIME types."""
    assert dict(MIME_TYPES) == {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}


@pytest.mark.parametrize("text", ["?", "QUJD?", "data:audio/wav;base64,QUJD", "QUI"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    """And lines, as in MIME, are not."""
    with pytest.raises(NotBase64):
        AudioDecoder(NATIVE).decode(text)
    assert b"".join(AudioDecoder(NATIVE).decode("QUJD\nREVG\n")) == b"ABCDEF"
