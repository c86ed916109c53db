"""CPU of converting a stream to 16 kHz: decoding and resampling, for one second of audio of one stream.

It runs on the event loop; the server's other work is measured by `overhead`. Messages have 20 ms of audio; those of an
Ogg or WebM stream have 1 s, as from MediaRecorder.

cpu_ms   CPU in ms for one second of audio: median of the rounds
check_ms CPU in ms of the check for a wrong label, which runs once in a connection, within its first 300 messages
part_ms  CPU in ms of the longest part of the check, which holds up one message
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import soxr

from bench.common.recordings import load
from bench.common.report import Row, argument_parser, print_report, run_conditions
from bench.common.server_process import ROOT
from bench.common.stats import median
from protocol.pcm import SAMPLE_RATE, Signal, to_signal
from protocol.stream_audio import StreamConverter, StreamFormat
from protocol.stream_beginning import StreamBeginning
from tests.stream_formats import encoded, opus_file, opus_packets

_PCM_RATES, _FLOAT_RATES, _OPUS_RATE = (8_000, 16_000, 24_000, 44_100, 48_000), (16_000, 48_000), 48_000


def speech(rate: int) -> Signal:
    """Return the recordings of references/ at `rate` Hz, float32 [n]."""
    pcm = b"".join(recording.pcm for recording in load(ROOT / "references"))
    resampled: Signal = soxr.resample(to_signal(np.frombuffer(pcm, "<i2")), SAMPLE_RATE, rate).astype(np.float32)
    return resampled


def split(data: bytes, seconds: float, message_seconds: float) -> list[bytes]:
    """Split data of so many seconds into messages."""
    step = round(len(data) / seconds * message_seconds)
    return [data[first : first + step] for first in range(0, len(data), step)]


def streams() -> Iterator[tuple[str, StreamFormat, float, list[bytes]]]:
    """Yield the name, format, length in seconds and messages of each stream."""
    formats = [StreamFormat(rate, "pcm_s16le") for rate in _PCM_RATES]
    formats += [StreamFormat(rate, "pcm_f32le") for rate in _FLOAT_RATES]
    for source in [*formats, StreamFormat(8_000, "mulaw"), StreamFormat(8_000, "alaw")]:
        signal = speech(source.sample_rate)
        seconds = len(signal) / source.sample_rate
        messages = split(encoded(signal.astype(np.float64), source), seconds, 0.02)
        yield f"{source.codec} {source.sample_rate}", source, seconds, messages
    pcm = np.rint(speech(_OPUS_RATE) * 32767).astype(np.int16)
    seconds, source = len(pcm) / _OPUS_RATE, StreamFormat(_OPUS_RATE, "opus")
    yield "opus packets", source, seconds, opus_packets(pcm)
    yield "opus ogg", source, seconds, split(opus_file(pcm, "ogg"), seconds, 1.0)
    yield "opus webm", source, seconds, split(opus_file(pcm, "webm"), seconds, 1.0)


def converter(source: StreamFormat) -> Callable[[bytes], object]:
    """Return a function that converts a message. It does nothing for the server's own format."""
    stream_converter = None if source.is_native else StreamConverter(source)
    return lambda message: stream_converter and deque(stream_converter.convert(message), maxlen=0)


def label_check(source: StreamFormat) -> Callable[[bytes], object]:
    """Return a function that checks a message for a wrong label."""
    beginning = StreamBeginning(source)
    return lambda message: beginning.is_over or beginning.take(message)


def cpu_ms(process: Callable[[bytes], object], messages: Sequence[bytes]) -> list[float]:
    """Return the CPU in ms of processing each message."""
    times = []
    for message in messages:
        start = time.thread_time()
        process(message)
        times.append(1000 * (time.thread_time() - start))
    return times


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load conversion", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each format (5)")
    args = parser.parse_args(argv)
    rows: list[Row] = []
    for name, source, seconds, messages in streams():
        cpu = [sum(cpu_ms(converter(source), messages)) / seconds for _ in range(args.rounds)]
        checks = [cpu_ms(label_check(source), messages[:300]) for _ in range(args.rounds)]
        columns = {"cpu_ms": cpu, "check_ms": list(map(sum, checks)), "part_ms": list(map(max, checks))}
        rows.append({"format": name} | {name: round(median(each) or 0, 2) for name, each in columns.items()})
    print_report(args, run_conditions("load conversion", {}), rows)
