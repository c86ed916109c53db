"""Every format of live audio on a real server, at the speed of speech and as fast as it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from protocol.events import WarningCode
from protocol.native import MAX_MESSAGE_BYTES
from protocol.pcm import SAMPLE_RATE
from protocol.stream_audio import StreamCodec, StreamFormat
from tests.audio import reference, silence, text_of
from tests.client import Message, session
from tests.server import Server
from tests.stream_formats import encoded, opus_file, opus_packets
from transport.receiver import MAX_UNKNOWN_MESSAGES

SPOKEN = ("hello", "price")
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
OPUS_RATE = 48_000
SOME = ("pcm_s16le 8000", "pcm_s16le 16000", "pcm_f32le 44100", "mulaw 8000", "opus 48000", "webm 48000")


@dataclass(frozen=True, slots=True)
class Way:
    """How audio is sent: its format, and the container if it has one."""

    source: StreamFormat
    container: str = ""

    def __str__(self) -> str:
        return f"{self.container or self.source.codec} {self.source.sample_rate}"


def ways() -> list[Way]:
    pcm: list[StreamCodec] = ["pcm_s16le", "pcm_f32le"]
    g711: list[StreamCodec] = ["mulaw", "alaw"]
    every = [Way(StreamFormat(rate, codec)) for rate in RATES for codec in pcm]
    every += [Way(StreamFormat(8_000, codec)) for codec in g711]
    return every + [Way(StreamFormat(OPUS_RATE, "opus"), container) for container in ("", "ogg", "webm")]


@cache
def _spoken(rate: int) -> npt.NDArray[np.float64]:
    """What is sent, at this rate in Hz, as floats."""
    pcm = b"".join(reference(name) + silence(700) for name in SPOKEN)
    signal: npt.NDArray[np.float64] = soxr.resample(np.frombuffer(pcm, "<i2") / 32768, SAMPLE_RATE, rate, "VHQ")
    return signal


def _messages(way: Way, milliseconds: float | None) -> list[bytes]:
    """The audio in messages of this length; None: the longest allowed. A packet of Opus is always a message."""
    signal = _spoken(way.source.sample_rate)
    if way.source.codec == "opus":
        pcm = np.rint(signal * 32767).astype(np.int16)
        if not way.container:
            return opus_packets(pcm)
        data = opus_file(pcm, "ogg" if way.container == "ogg" else "webm")
    else:
        data = encoded(signal, way.source)
    step = MAX_MESSAGE_BYTES
    if milliseconds is not None:
        step = max(1, int(len(data) * milliseconds / 1000 * way.source.sample_rate / len(signal)))
    return [data[first : first + step] for first in range(0, len(data), step)]


def _finals(server: Server, way: Way, messages: Sequence[bytes], *, seconds: float) -> list[tuple[object, ...]]:
    """Texts, times and reasons of what was said, if the audio is sent in `seconds`."""
    began = time.monotonic()
    with session(server.ws(sample_rate=way.source.sample_rate, codec=way.source.codec)) as client:
        for number, message in enumerate(messages):
            time.sleep(max(0.0, began + seconds * number / len(messages) - time.monotonic()))
            client.socket.send(message)
        client.command("finish")
        received = client.until("finished")
    assert not [message for message in received if message["type"] == "warning"], received
    fields = ("text", "start_ms", "end_ms", "reason")
    return [tuple(message[field] for field in fields) for message in received if message["type"] == "final"]


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param([way for way in ways() if str(way) in SOME], id="some"),
        pytest.param(ways(), id="all", marks=pytest.mark.slow),
    ],
)
def test_audio_sent_faster_than_real_time_loses_nothing(mock_server: Server, chosen: Sequence[Way]) -> None:
    """In every rate, codec and length of message, its texts and times are those of audio at the speed of speech."""
    length = len(_spoken(SAMPLE_RATE)) / SAMPLE_RATE
    with ThreadPoolExecutor(len(chosen)) as pool:
        paced = pool.map(lambda way: _finals(mock_server, way, _messages(way, 20), seconds=length), chosen)
        expected = dict(zip(chosen, paced, strict=True))
        unpaced = [(way, milliseconds) for way in chosen for milliseconds in (3.3, 60, 1_000, None)]
        found = pool.map(lambda each: _finals(mock_server, each[0], _messages(*each), seconds=0), unpaced)
        for (way, milliseconds), finals in zip(unpaced, found, strict=True):
            assert finals == expected[way], (way, milliseconds)
    for way, finals in expected.items():
        assert " ".join(str(final[0]) for final in finals) == " ".join(map(text_of, SPOKEN)), way


@pytest.mark.parametrize("container", ["", "ogg", "webm"])
def test_damaged_opus_is_a_warning_and_a_log_line(mock_server: Server, container: str) -> None:
    """One of each; the words behind the damage still come."""
    way = Way(StreamFormat(OPUS_RATE, "opus"), container)
    messages = _messages(way, 20)
    with session(mock_server.ws(sample_rate=OPUS_RATE, codec="opus", call_id=f"damaged {container}")) as client:
        for message in messages[:30]:
            client.socket.send(message)
        client.socket.send(bytes([0xFF] * 1_500))
        for message in messages[30:]:
            client.socket.send(message)
        client.command("finish")
        received = client.until("finished")
    warnings = [message for message in received if message["type"] == "warning"]
    assert [message["code"] for message in warnings] == [WarningCode.DAMAGED]
    lines = [line for line in mock_server.log() if line.get("call_id") == f"damaged {container}"]
    assert [line["code"] for line in lines if line["event"] == "client_warned"] == ["damaged"]
    assert text_of("price") in _text(received)


def _text(messages: Sequence[Message]) -> str:
    return " ".join(message["text"] for message in messages if message["type"] == "final")


def test_a_wrong_label_is_a_warning_and_a_log_line(mock_server: Server) -> None:
    """Big-endian samples; the session goes on."""
    swapped = np.frombuffer(reference("hello"), "<i2").byteswap().tobytes()
    with session(mock_server.ws(call_id="swapped")) as client:
        client.send(swapped)
        client.command("finish")
        (warning,) = [message for message in client.until("finished") if message["type"] == "warning"]
    assert (warning["code"], warning["message"]) == (
        "wrong_label",
        "the samples look big-endian, not like pcm_s16le",
    )
    (line,) = [
        each for each in mock_server.log() if each.get("call_id") == "swapped" and each["event"] == "client_warned"
    ]
    assert line["fact"] == warning["message"]


@pytest.mark.parametrize("reason", ["stalled", "closing"])
def test_the_resamplers_last_samples_count_when_the_server_ends_the_utterance(mock_server: Server, reason: str) -> None:
    """The last 100 ms of a second are processed: the client sends no more, or is sent away."""
    audio = encoded(_spoken(48_000)[:48_000], StreamFormat(48_000, "pcm_s16le"))
    with session(mock_server.ws(sample_rate=48_000, events="level")) as client:
        client.socket.send(audio)
        if reason == "closing":
            for _ in range(MAX_UNKNOWN_MESSAGES + 1):
                client.socket.send("not a message")
        received = client.until("final", reason=reason)
    assert [message["end_ms"] for message in received if message["type"] == "level"][-1] == 1_000
