"""The qwen3 engine on real vLLM.

With the model that STT_VLLM_MODEL names, else the real one where it is on disk and there is a GPU, else the tiny
checkpoint of references/.
The suite needs `make test-engine`'s environment, or a CUDA machine with the extra `qwen3`; elsewhere it is skipped.
An engine takes a minute to start, so tests share two: `shared`, and the engine of `server`.
They start one after another.
"""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from backends.qwen3 import preflight
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from protocol.pcm import Signal, to_signal
from tests.audio import reference
from tests.backends.conformance import started
from tests.qwen3.tones import random_speech
from tests.server import Server

HERE = Path(__file__).parent
TINY = HERE.parents[1] / "references" / "tiny-qwen3-asr"
REAL = "Qwen/Qwen3-ASR-1.7B"


def _model() -> str:
    named = os.environ.get("STT_VLLM_MODEL")
    if named is not None:
        return named
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    on_disk = (cache / f"models--{REAL.replace('/', '--')}" / "snapshots").is_dir()
    return REAL if on_disk and preflight.gpu_count() else str(TINY)


MODEL = _model()


def model_is_tiny() -> bool:
    """Whether the model transcribes tones; other models transcribe speech."""
    return "tiny" in Path(MODEL).name


START_SECONDS = 900.0
"""Longest start of an engine on a busy machine."""

GPU_MEMORY = 0.2 if model_is_tiny() else 0.25
"""Three engines run at once. On a CPU this is a part of the machine's memory, and has to be free."""

OPTIONS = Qwen3Options(model=MODEL, gpu_memory=GPU_MEMORY, max_num_seqs=64)

SETTINGS = {
    "STT_BACKEND": "qwen3",
    "STT_VLLM_MODEL": MODEL,
    "STT_VLLM_GPU_MEMORY": str(GPU_MEMORY),
    "STT_VLLM_MAX_NUM_SEQS": str(OPTIONS.max_num_seqs),
}


def pytest_configure(config: pytest.Config) -> None:
    """Allow that vLLM leaves a ZeroMQ context to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:Unclosed context:ResourceWarning")
    # The line above is for tests. Objects collected after the last test meet the filters of the whole run.
    warnings.filterwarnings("ignore", "Unclosed context", ResourceWarning)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip without vLLM or a model; else allow time for vLLM's start on a busy machine."""
    missing = None
    if importlib.util.find_spec("vllm") is None:
        missing = "vLLM is not installed: `make test-engine` runs this suite"
    elif str(TINY) == MODEL and not TINY.is_dir():
        missing = "there is no references/tiny-qwen3-asr"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))
            # vLLM and what it imports warn about each other.
            item.add_marker(pytest.mark.filterwarnings("default"))
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))


@contextmanager
def launch(folder: Path) -> Iterator[Server]:
    """A server that is ready.

    Engines must start one after another: vLLM measures the memory of the whole GPU while it starts, so an engine that
    starts at the same time would count as its own.
    """
    with Server(folder, SETTINGS, wait=False) as server:
        wait_until_ready(server)
        yield server


@pytest.fixture(scope="session")
def shared() -> Iterator[Qwen3Backend]:
    """The engine of all tests that leave it running."""
    backend = Qwen3Backend(OPTIONS)
    for _ in started(backend):
        yield backend


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shared server; the last tests end it."""
    with launch(tmp_path_factory.mktemp("qwen3-server")) as running:
        yield running


def wait_until_ready(server: Server) -> None:
    """Wait for the engine of a server. Polls once a second, to leave the cores to the start."""
    deadline = time.monotonic() + START_SECONDS
    while server.answers() != 200:
        assert time.monotonic() < deadline, server.output()
        time.sleep(1)


def make_speech(seconds: float, seed: int) -> Signal:
    """Speech of about `seconds` seconds that the model can transcribe."""
    if model_is_tiny():
        return random_speech(seconds, seed).signal
    recordings = ("hello", "meeting", "price", "radio", "school", "train", "weather", "wind")
    audio = to_signal(np.frombuffer(reference(recordings[seed % len(recordings)]), "<i2"))
    return (
        np.resize(audio, round(seconds * 16_000)) if len(audio) < seconds * 16_000 else audio[: round(seconds * 16_000)]
    )
