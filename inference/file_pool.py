"""Processes that decode and cut uploads beside the server: a malicious file can crash only one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np

from inference.file_pieces import Piece, Progress, Segmented
from inference.vad_factory import Detector
from protocol.channels import ChannelMode
from protocol.events import WarningCode
from protocol.file_audio import AudioRejected, AudioTooLong, AudioWarning

_ROOT = Path(__file__).parents[1]
_CHECK_SECONDS = 0.1
"""How long a reader waits for its process before it asks again whether to give up."""


@dataclass(frozen=True, slots=True)
class FileRequest:
    """How a file is to be decoded and cut."""

    max_seconds: float
    vad_threshold: float
    silence_ms: int
    max_segment_ms: int
    channel_mode: ChannelMode = ChannelMode.MIX
    name: str = ""
    """The upload's file name."""


@dataclass(frozen=True, slots=True)
class FileEnded:
    """The file was read to its end."""

    segmented: Segmented
    warnings: list[AudioWarning]


class FilePool:
    """Owns the processes. Each is started when it is first needed, kept, and ended by `close`. Any thread."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._closed = False

    def read(
        self, file: BinaryIO, request: FileRequest, check: Callable[[], None] = lambda: None
    ) -> Generator[Piece | Progress | FileEnded, None, None]:
        """Decode and cut a file in a process of the pool.

        Blocks the calling thread; the pipe bounds what is read ahead. Closing the generator before its end ends the
        process. `check` is called while nothing comes from the process, and raises to give up.

        Raises:
            AudioRejected: the file gives no audio, or its process died of it.
            AudioTooLong: it is longer than `max_seconds`.
        """
        worker = self._take()
        done = False
        try:
            yield from worker.read(file, request, check)
            done = True
        except (AudioRejected, AudioTooLong):
            done = worker.is_alive()
            raise
        except (EOFError, OSError) as error:
            raise AudioRejected("could not be decoded") from error
        finally:
            self._give_back(worker, reusable=done)

    def close(self) -> None:
        """End all processes; idempotent. A file that is being read ends with AudioRejected."""
        with self._lock:
            self._closed = True
            idle, workers = self._idle, list(self._workers)
            self._idle = []
        for worker in workers:
            worker.kill()
        for worker in idle:
            worker.release()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
                worker.kill()
                worker.release()
                self._workers.discard(worker)
            if self._closed:
                raise AudioRejected("could not be decoded: the server is closing")
            worker = _Worker(self._detector)
            self._workers.add(worker)
            return worker

    def _give_back(self, worker: _Worker, *, reusable: bool) -> None:
        with self._lock:
            if reusable and not self._closed:
                self._idle.append(worker)
                return
            self._workers.discard(worker)
        worker.kill()
        worker.release()


class _Worker:
    """One process, used by one thread at a time; `kill` is for any."""

    def __init__(self, detector: Detector) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # The process sees the end of its standard input when this process is gone, however it went.
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "inference.file_worker", str(theirs.fileno()), detector],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))

    def read(
        self, file: BinaryIO, request: FileRequest, check: Callable[[], None]
    ) -> Generator[Piece | Progress | FileEnded, None, None]:
        with _on_disk_or_in_memory(file) as passed:
            socket.send_fds(self._socket, [b"f"], [passed.fileno()])
        self._connection.send_bytes(json.dumps(asdict(request)).encode())
        while True:
            message: dict[str, Any] = json.loads(self._receive(check))
            match message.pop("kind"):
                case "piece":
                    audio = np.frombuffer(self._receive(check), np.float32)
                    yield Piece(**message, audio=audio)
                case "progress":
                    yield Progress(**message)
                case "rejected":
                    raise AudioRejected(message["message"])
                case "too_long":
                    raise AudioTooLong(message["message"])
                case _:
                    listed = message.pop("warnings")
                    warnings = [AudioWarning(WarningCode(each["code"]), each["message"]) for each in listed]
                    yield FileEnded(Segmented(**message), warnings)
                    return

    def _receive(self, check: Callable[[], None]) -> bytes:
        while not self._connection.poll(_CHECK_SECONDS):
            check()
        return self._connection.recv_bytes()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """Free what this process holds for it, after `kill`."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._connection.close()
        self._socket.close()


def _environment() -> dict[str, str]:
    """The environment of a process that reads hostile files: without our settings, some of which are secret."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    return {**ours, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _on_disk_or_in_memory(file: BinaryIO) -> BinaryIO:
    """A file with a descriptor and the same bytes. On Linux small uploads stay in memory."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    if size > 1 << 20:
        return os.fdopen(os.dup(file.fileno()), "rb")
    copy = os.fdopen(os.memfd_create("upload"), "w+b") if sys.platform == "linux" else TemporaryFile()  # noqa: SIM115
    copy.write(file.read())
    copy.flush()
    copy.seek(0)
    return copy
