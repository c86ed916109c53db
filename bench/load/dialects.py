"""CPU of a stream in each dialect: of the server, for one second of audio of one stream, with the mock engine.

The server has one core and the generator another. All streams play references/ in messages of 20 ms, in each round
first in our own dialect and then in OpenAI's, where every message is JSON with base64 of 24 kHz audio.

cpu_ms     CPU in ms for one second of audio of one stream; loop_ms: the event loop's part; medians of the rounds
ratio      cpu_ms by that of our own dialect: median, smallest and largest of the rounds
finals     texts received, of all rounds
gen_late   largest p99 of the lateness of the generator, in ms
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soxr
import uvloop

from bench.common.paced_sender import SLOTS, GeneratorLoad, PacedSender, sending
from bench.common.recordings import FRAMES_PER_SECOND, Recording, encode, load
from bench.common.report import Progress, Row, add_window_options, conditions, parser, table, write_json
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import median, rounded
from bench.common.websocket_client import MAX_CONNECTING, Opcode, StreamClient, client_frame, handshake
from protocol.pcm import SAMPLE_RATE

PATHS = {"native": "/v1/stt/ws?call_id=bench&sample_rate=16000", "openai": "/v1/realtime?intent=transcription"}
FINALS = {"native": b'"type":"final"', "openai": b"input_audio_transcription.completed"}
_GAP_BYTES = 32_000  # a second of silence behind each recording
_OPENAI_RATE = 24_000
_OPENAI_FRAME_BYTES = 2 * _OPENAI_RATE // FRAMES_PER_SECOND


@dataclass(frozen=True, slots=True)
class Window:
    """All streams of one dialect for a while."""

    dialect: str
    cpu_ms: float
    loop_ms: float
    finals: int
    generator: GeneratorLoad


def encode_for_openai(pcm: bytes) -> list[bytes]:
    """PCM of 16 kHz as WebSocket messages of 20 ms."""
    resampled = soxr.resample(np.frombuffer(pcm, "<i2"), SAMPLE_RATE, _OPENAI_RATE).astype("<i2").tobytes()
    starts = range(0, len(resampled) - _OPENAI_FRAME_BYTES + 1, _OPENAI_FRAME_BYTES)
    pieces = (base64.b64encode(resampled[first : first + _OPENAI_FRAME_BYTES]).decode() for first in starts)
    return [
        client_frame(Opcode.TEXT, json.dumps({"type": "input_audio_buffer.append", "audio": piece}).encode())
        for piece in pieces
    ]


def speech(recordings: Sequence[Recording], dialect: str) -> list[bytes]:
    """The messages of all recordings one after another."""
    pcm = b"".join(recording.pcm + bytes(_GAP_BYTES) for recording in recordings)
    return encode(pcm) if dialect == "native" else encode_for_openai(pcm)


async def connect(port: int, path: str, frames: Iterator[bytes]) -> StreamClient:
    """A client past the server's first message."""
    _, client = await asyncio.get_running_loop().create_connection(lambda: StreamClient(frames), "127.0.0.1", port)
    client.write(handshake(path, port))
    await client.opened
    await client.first_message
    return client


async def measure(
    server: ServerProcess, dialect: str, messages: Sequence[bytes], streams: int, *, seconds: float, warm: float
) -> Window:
    """Play `warm` seconds, then measure `seconds` of `streams` streams, which begin anywhere in the messages."""
    generator = random.Random(1)  # noqa: S311 - reproducible, not secret
    free = asyncio.Semaphore(MAX_CONNECTING)

    async def one() -> StreamClient:
        async with free:
            frames = islice(cycle(messages), generator.randrange(len(messages)), None)
            return await connect(server.port, PATHS[dialect], frames)

    clients = await asyncio.gather(*(one() for _ in range(streams)))
    sender = PacedSender(clients, [generator.randrange(SLOTS) for _ in clients])
    async with sending(sender):
        await asyncio.sleep(warm)
        before, cpu, loop = sender.snapshot(), server.cpu_seconds(), server.event_loop_cpu_seconds()
        await asyncio.sleep(seconds)
        after, cpu, loop = sender.snapshot(), server.cpu_seconds() - cpu, server.event_loop_cpu_seconds() - loop
    await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
    audio = (after.frames - before.frames) / FRAMES_PER_SECOND
    finals = sum(FINALS[dialect] in message for client in clients for _, message in client.received)
    return Window(dialect, cpu * 1000 / audio, loop * 1000 / audio, finals, sender.load_between(before, after))


def summarise(windows: Sequence[Window], dialect: str) -> Row:
    """The row of a dialect."""
    mine = [each for each in windows if each.dialect == dialect]
    own = [each for each in windows if each.dialect == "native"]
    ratios = [each.cpu_ms / base.cpu_ms for each, base in zip(mine, own, strict=True)]
    return {
        "dialect": dialect,
        "cpu_ms": rounded(median([each.cpu_ms for each in mine]), 3),
        "loop_ms": rounded(median([each.loop_ms for each in mine]), 3),
        "ratio": f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        "finals": sum(each.finals for each in mine),
        "gen_late": max(each.generator.late_p99_ms or 0 for each in mine),
    }


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load dialects", __doc__)
    made.add_argument("--streams", type=int, default=100, help="streams at once (100)")
    add_window_options(made, rounds=3, seconds=10.0)
    given = made.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    settings = server_settings("mock", given.streams + 8, given.set)
    ran = conditions("load dialects", settings, server=cores[:1], load=cores[-1:])
    recordings = load(Path(ROOT) / "references")
    messages = {dialect: speech(recordings, dialect) for dialect in PATHS}
    progress, windows = Progress(2 * given.rounds), list[Window]()
    with ServerProcess(APP, settings, cores[:1]) as server:
        for dialect in list(PATHS) * given.rounds:
            progress.step(dialect)
            run = measure(server, dialect, messages[dialect], given.streams, seconds=given.seconds, warm=given.warm)
            windows.append(uvloop.run(run))
    rows = [summarise(windows, dialect) for dialect in PATHS]
    late = {f"THE GENERATOR WAS THE LIMIT: {each.dialect}" for each in windows if each.generator.was_the_limit}
    print("\n".join([table(rows), "", *sorted(late)]))
    write_json(given.json, ran | {"rows": rows, "windows": [asdict(each) for each in windows]})
