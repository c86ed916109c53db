"""CPU of converting a stream to 16 kHz: decoding and resampling, for one second of audio of one stream.

It runs on the event loop; the server's other work is measured by `overhead`. Messages of 20 ms; an Ogg or WebM stream
comes in messages of 1 s, as from MediaRecorder.

cpu_ms   CPU in ms for one second of audio: median of the rounds
look_ms  CPU in ms of the look at the first seconds, once in a connection
part_ms  and of the longest part of it, which holds up one message
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import soxr

from bench.common.recordings import load
from bench.common.report import Row, parser, table
from bench.common.server_process import ROOT
from bench.common.stats import median
from bench.labels.faults import g711
from protocol.pcm import SAMPLE_RATE, Signal, to_pcm, to_signal
from protocol.sample_codecs import PcmCodec
from protocol.stream_audio import StreamConverter, StreamFormat
from protocol.stream_beginning import StreamBeginning

_RATES: dict[PcmCodec, Sequence[int]] = {
    "pcm_s16le": (8_000, 16_000, 24_000, 44_100, 48_000),
    "pcm_f32le": (16_000, 48_000),
    "mulaw": (8_000,),
    "alaw": (8_000,),
}
_OPUS_RATE = 48_000


def speech(rate: int) -> Signal:
    """The recordings of references/ at `rate` Hz, float32 [n]."""
    pcm = b"".join(recording.pcm for recording in load(Path(ROOT) / "references"))
    resampled: Signal = soxr.resample(to_signal(np.frombuffer(pcm, "<i2")), SAMPLE_RATE, rate).astype(np.float32)
    return resampled


def encoded(signal: Signal, codec: PcmCodec) -> bytes:
    """The samples in a codec."""
    if codec == "pcm_f32le":
        return signal.tobytes()
    return to_pcm(signal) if codec == "pcm_s16le" else g711(signal, codec)


def cut(data: bytes, seconds: float, message_seconds: float) -> list[bytes]:
    """Messages of that length."""
    step = round(len(data) / seconds * message_seconds)
    return [data[first : first + step] for first in range(0, len(data), step)]


def opus(signal: Signal, container: str) -> tuple[bytes, list[bytes]]:
    """A file of 20 ms packets, and the packets."""
    file, packets = io.BytesIO(), []
    with av.open(file, "w", container) as output:
        stream = output.add_stream("libopus", _OPUS_RATE, layout="mono", format="s16", bit_rate=32_000)
        pcm = np.frombuffer(to_pcm(signal), "<i2")
        for first in range(0, len(pcm), 960):
            frame = av.AudioFrame.from_ndarray(pcm[first : first + 960].reshape(1, -1), "s16", "mono")
            frame.sample_rate = _OPUS_RATE
            for packet in stream.encode(frame):
                packets.append(bytes(packet))
                output.mux(packet)
        output.mux(stream.encode(None))
    return file.getvalue(), packets


def streams() -> Iterator[tuple[str, StreamFormat, float, list[bytes]]]:
    """Name, format, seconds and messages."""
    for codec, rates in _RATES.items():
        for rate in rates:
            signal = speech(rate)
            seconds = len(signal) / rate
            yield f"{codec} {rate}", StreamFormat(rate, codec), seconds, cut(encoded(signal, codec), seconds, 0.02)
    signal = speech(_OPUS_RATE)
    seconds, source = len(signal) / _OPUS_RATE, StreamFormat(_OPUS_RATE, "opus")
    yield "opus packets", source, seconds, opus(signal, "ogg")[1]
    for container in ("ogg", "webm"):
        yield f"opus {container}", source, seconds, cut(opus(signal, container)[0], seconds, 1.0)


def cpu_seconds(source: StreamFormat, messages: Sequence[bytes]) -> float:
    """CPU of converting all messages."""
    if source.is_native:
        return 0.0
    converter = StreamConverter(source)
    began = time.thread_time()
    for message in messages:
        for _ in converter.convert(message):
            pass
    return time.thread_time() - began


def look_seconds(source: StreamFormat, messages: Sequence[bytes]) -> list[float]:
    """CPU of looking at the beginning, for each message that it takes."""
    beginning = StreamBeginning(source)
    parts: list[float] = []
    for message in messages:
        if not beginning.is_over:
            began = time.thread_time()
            beginning.take(message)
            parts.append(time.thread_time() - began)
    return parts


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load conversion", __doc__)
    made.add_argument("--rounds", type=int, default=5, help="measurements of each format (5)")
    given = made.parse_args(arguments)
    rows: list[Row] = []
    for name, source, seconds, messages in streams():
        cpu = [1000 * cpu_seconds(source, messages) / seconds for _ in range(given.rounds)]
        looks = [look_seconds(source, messages) for _ in range(given.rounds)]
        rows.append(
            {
                "format": name,
                "cpu_ms": round(median(cpu) or 0, 2),
                "look_ms": round(1000 * (median(list(map(sum, looks))) or 0), 1),
                "part_ms": round(1000 * (median(list(map(max, looks))) or 0), 1),
            }
        )
    print(table(rows))
