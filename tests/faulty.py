"""Servers whose engine has a fault that no real engine shows on demand.

They run as `uvicorn --factory tests.faulty:build`, or `python -m tests.faulty`, which serves as `python app.py` does.

FAULT names it; some last until the file FAULT_FILE exists.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI, Request, Response

from app import create_app
from backends import registry
from backends.base import ASRBackend, ASRResult, ASRStream, EngineError, StreamOptions, Word
from backends.mock import MockBackend
from config import load_settings
from protocol.pcm import SAMPLE_RATE, Signal
from transport import serving


def _released() -> bool:
    return Path(os.environ["FAULT_FILE"]).exists()


class FaultyStream:
    """A stream whose final comes when the backend's `decode` says so."""

    def __init__(self, backend: FaultyBackend) -> None:
        self._backend = backend
        self._future: Future[ASRResult] = Future()
        self._hypothesis: ASRResult | None = ASRResult("so far")

    def push(self, samples: Signal) -> None:
        pass

    def partial(self) -> ASRResult | None:
        hypothesis, self._hypothesis = self._hypothesis, None
        return hypothesis

    def pause(self) -> None:
        pass

    def finish(self, samples: int) -> Future[ASRResult]:
        self._backend.decode(self._future, samples)
        return self._future

    def cancel(self) -> None:
        self._future.cancel()


class FaultyBackend:
    """Everything a backend has, and no fault yet."""

    name = "mock"
    languages: frozenset[str] | None = None
    uses_hotwords = False
    has_words = False
    translates = False
    batch_width = 1

    def start(self) -> None:
        pass

    def healthy(self) -> bool:
        return True

    def stream(self, options: StreamOptions) -> FaultyStream:
        return FaultyStream(self)

    def close(self) -> None:
        pass

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        future.set_result(ASRResult(f"{samples} samples"))


class StuckBackend(FaultyBackend):
    """No final comes before the release."""

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        threading.Thread(target=self._wait, args=(future, samples), daemon=True).start()

    def _wait(self, future: Future[ASRResult], samples: int) -> None:
        while not _released() and not future.cancelled():
            time.sleep(0.01)
        if future.set_running_or_notify_cancel():
            future.set_result(ASRResult(f"{samples} samples"))


class SlowBackend(FaultyBackend):
    """Decodes finals one after another, at FAULT_SPEED times real time, until the release."""

    def __init__(self) -> None:
        self._speed = float(os.environ["FAULT_SPEED"])
        self._decoder = ThreadPoolExecutor(1)

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        self._decoder.submit(self._decode, future, samples)

    def _decode(self, future: Future[ASRResult], samples: int) -> None:
        done = time.monotonic() + samples / SAMPLE_RATE / self._speed
        while time.monotonic() < done and not (_released() or future.cancelled()):
            time.sleep(0.01)
        if future.set_running_or_notify_cancel():
            future.set_result(ASRResult(f"{samples} samples"))


class FailingBackend(FaultyBackend):
    """Every final fails."""

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        future.set_exception(EngineError("secret internals"))


class WordyBackend(FaultyBackend):
    """Every final is 8 MB long, more than socket buffers hold."""

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        future.set_result(ASRResult("word " * 1_600_000))


class TimedBackend(FaultyBackend):
    """No fault: every final has two words with times, which `mock` has not."""

    has_words = True

    def decode(self, future: Future[ASRResult], samples: int) -> None:
        words = Word("hello", 0, 380, 0.94), Word("world", 380, 800, 0.91)
        future.set_result(ASRResult("hello world", "en", words))


def _never(samples: int) -> Future[ASRResult]:
    return Future()


class OneFinalBackend(MockBackend):
    """The mock engine, of which no final but the first ever comes."""

    def __init__(self) -> None:
        super().__init__(Path("references"))
        self._opened = itertools.count()

    def stream(self, options: StreamOptions) -> ASRStream:
        stream = super().stream(options)
        if next(self._opened):
            stream.finish = _never  # type: ignore[method-assign] # of this stream alone
        return stream


class SlowToLoadBackend(FaultyBackend):
    """Loads until the release."""

    def start(self) -> None:
        while not _released():
            time.sleep(0.01)


class UnloadableBackend(FaultyBackend):
    """Its load fails."""

    def start(self) -> None:
        raise EngineError("no weights")


class DyingBackend(FaultyBackend):
    """Healthy until the release."""

    def healthy(self) -> bool:
        return not _released()


def _without_temporary_folder() -> FaultyBackend:
    """What a container shows whose disk cannot be written."""
    tempfile.tempdir = None
    tempfile._candidate_tempdir_list = lambda: ["/proc"]  # type: ignore[attr-defined] # noqa: SLF001 - no other way
    return FaultyBackend()


def _on_small_disk() -> FaultyBackend:
    """No file grows beyond 512 KiB, as on a disk that fills up."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
    return FaultyBackend()


_FAULTS: dict[str, Callable[[], ASRBackend]] = {
    "none": FaultyBackend,
    "no_temporary_folder": _without_temporary_folder,
    "small_disk": _on_small_disk,
    "stuck": StuckBackend,
    "slow": SlowBackend,
    "one_final": OneFinalBackend,
    "failing": FailingBackend,
    "wordy": WordyBackend,
    "timed": TimedBackend,
    "slow_to_load": SlowToLoadBackend,
    "unloadable": UnloadableBackend,
    "dying": DyingBackend,
}


def build() -> FastAPI:
    """The server with the fault named in FAULT; for `uvicorn --factory tests.faulty:build`."""
    fault = _FAULTS[os.environ["FAULT"]]
    registry.BACKENDS = {"mock": registry.BackendSpec(lambda _: fault())}
    app = create_app()
    app.add_route("/hold-up", _hold_up)
    return app


async def _hold_up(request: Request) -> Response:
    """Hold up the event loop, as a library that blocks does."""
    time.sleep(float(request.query_params["seconds"]))  # noqa: ASYNC251 - that is the fault
    return Response()


if __name__ == "__main__":  # as `python app.py` serves
    options = load_settings().serving()
    sys.exit(serving.serve(build(), serving.listen(options), options))
