"""A process that decodes and cuts uploads for the server: `python -m inference.file_worker SOCKET VAD`.

It reads one upload at a time. It ends with the server: its standard input then ends. Each message on the socket is
JSON; audio follows the message that announces it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, BinaryIO, get_args

from backends.base import StreamOptions
from inference import vad_factory
from inference.file_pieces import Piece, Progress, cut, open_collecting
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtterancePipeline
from inference.vad import VadOptions
from protocol.channels import ChannelMode
from protocol.file_audio import AudioRejected, AudioTooLong, DecodedAudio, decode

if sys.platform != "win32":
    import resource

MAX_DATA_BYTES = 1 << 30
"""Memory that a process may ask for: ten times what an ordinary file takes."""
CPU_SECONDS = 60
"""CPU seconds for any file."""
CPU_SECONDS_PER_AUDIO_SECOND = 0.1
"""CPU seconds more, for each second of audio that a file may have: twenty times what MP3 takes."""


def main() -> None:
    """Serve requests until the server goes away."""
    descriptor, detector = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    with suppress(OSError):
        os.nice(19)  # live speech comes first: at 10, p95 of live finals beside four uploads rose by 1.7 instead of 1.3
    choice: vad_factory.Detector = detector if detector in get_args(vad_factory.Detector) else "energy"  # type: ignore[assignment]
    make_vad = vad_factory.load(choice)
    with socket.socket(fileno=descriptor) as channel, Connection(os.dup(descriptor)) as connection:
        while True:
            try:
                _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
                if not descriptors:
                    return
                with os.fdopen(descriptors[0], "rb") as file:
                    _serve(connection, json.loads(connection.recv_bytes()), file, make_vad)
            except (EOFError, OSError):
                return


def _end_with_the_server() -> None:
    """End this process when the standard input ends, which the server's death and `FilePool.close` cause."""
    os.read(0, 1)
    os._exit(0)


def _serve(connection: Connection, request: dict[str, Any], file: BinaryIO, make_vad: vad_factory.MakeVad) -> None:
    _limit_time(request["max_seconds"])

    def pipelines() -> Iterator[UtterancePipeline]:
        for _ in repeat(None):
            yield UtterancePipeline(
                make_vad(VadOptions(request["vad_threshold"])),
                SegmenterOptions(request["silence_ms"], request["max_segment_ms"]),
                open_collecting,
                StreamOptions(live=False),
            )

    decoded = decode(
        file,
        max_seconds=request["max_seconds"],
        channel_mode=ChannelMode(request["channel_mode"]),
        name=request["name"],
    )
    try:
        _answer(connection, decoded, pipelines())
    except AudioRejected as error:
        _send(connection, "rejected", {"message": str(error)})
    except AudioTooLong as error:
        _send(connection, "too_long", {"message": str(error)})
    except MemoryError:
        _send(connection, "rejected", {"message": "needs more memory than a file may take"})


def _answer(connection: Connection, decoded: DecodedAudio, pipelines: Iterator[UtterancePipeline]) -> None:
    for each in cut(decoded, pipelines):
        if isinstance(each, Piece):
            fields = {name: getattr(each, name) for name in ("channel", "start", "voiced_start", "voiced_end")}
            _send(connection, "piece", fields)
            connection.send_bytes(each.audio.tobytes())
        elif isinstance(each, Progress):
            _send(connection, "progress", asdict(each))
        else:
            warnings = [asdict(warning) for warning in decoded.warnings]
            _send(connection, "end", {**asdict(each), "warnings": warnings})


def _send(connection: Connection, kind: str, fields: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps({"kind": kind, **fields}).encode())


def _limit_time(max_seconds: float) -> None:
    """End this process if the next file takes too much CPU time. Wall-clock time would depend on the machine's load."""
    if sys.platform != "win32":
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + CPU_SECONDS + CPU_SECONDS_PER_AUDIO_SECOND * max_seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
