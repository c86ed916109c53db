"""Recordings sent faster than real time, in every format and cut of a stream."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soxr

from protocol.pcm import SAMPLE_RATE
from protocol.stream_audio import StreamFormat
from tests.audio import reference, silence, text_of
from tests.client import session
from tests.server import Server
from tests.stream_formats import encoded

FORMATS = (
    StreamFormat(8_000, "pcm_s16le"),
    StreamFormat(8_000, "mulaw"),
    StreamFormat(8_000, "alaw"),
    StreamFormat(16_000, "pcm_s16le"),
    StreamFormat(22_050, "pcm_s16le"),
    StreamFormat(44_100, "pcm_f32le"),
    StreamFormat(48_000, "pcm_s16le"),
)
MESSAGE_BYTES = (333, 3_200, 100_000)
SPEECH = np.frombuffer(reference("hello") + silence(900), "<i2") / 32768


def spoken(server: Server, source: StreamFormat, size: int, *, paced: bool) -> list[tuple[str, int, int]]:
    """Text, start and end of each final."""
    data = encoded(soxr.resample(SPEECH, SAMPLE_RATE, source.sample_rate), source)
    bytes_per_second = len(data) * SAMPLE_RATE / len(SPEECH)
    with session(server.ws(sample_rate=source.sample_rate, codec=source.codec)) as client:
        began = time.monotonic()
        for first in range(0, len(data), size):
            if paced:
                time.sleep(max(0.0, began + first / bytes_per_second - time.monotonic()))
            client.socket.send(data[first : first + size])
        client.commit()
        messages = client.until("final", reason="commit")
    return [(each["text"], each["start_ms"], each["end_ms"]) for each in messages if each["type"] == "final"]


@pytest.mark.parametrize("source", FORMATS, ids=str)
def test_unpaced_audio_says_what_paced_audio_says(mock_server: Server, source: StreamFormat) -> None:
    """Whatever the rate, the codec and the messages' length: the same finals, with the same times."""
    with ThreadPoolExecutor(1) as pool:
        live = pool.submit(spoken, mock_server, source, 3_200, paced=True)
        unpaced = [spoken(mock_server, source, size, paced=False) for size in MESSAGE_BYTES]
        paced = live.result(60)

    assert paced[0][0] == text_of("hello")
    assert unpaced == [paced] * len(MESSAGE_BYTES)
