"""The qwen3 engine on real vLLM.

With the model that STT_VLLM_MODEL names, else the real one where it is on disk and there is a GPU, else the tiny
checkpoint of references/.
The suite needs `make test-engine`'s environment, or a CUDA machine with the extra `qwen3`; elsewhere it is skipped.
Engines take a minute each to start, so tests share two: `shared`, and the one in `server`.
"""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backends.qwen3 import machine
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from protocol.pcm import Signal, to_signal
from tests.audio import reference
from tests.backends.conformance import started
from tests.qwen3.tones import chatter
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
    return REAL if on_disk and machine.gpus() else str(TINY)


MODEL = _model()


def is_tiny() -> bool:
    """Whether the model hears tones; another one hears people."""
    return "tiny" in Path(MODEL).name


START_SECONDS = 900.0
"""For an engine to be warm on a busy machine."""

GPU_MEMORY = 0.2 if is_tiny() else 0.25
"""Three engines live at once. On a CPU it is a part of the machine's memory, which has to be free."""

OPTIONS = Qwen3Options(model=MODEL, gpu_memory=GPU_MEMORY, max_num_seqs=64)

SETTINGS = {
    "STT_BACKEND": "qwen3",
    "STT_VLLM_MODEL": MODEL,
    "STT_VLLM_GPU_MEMORY": str(GPU_MEMORY),
    "STT_VLLM_MAX_NUM_SEQS": str(OPTIONS.max_num_seqs),
}


def pytest_configure(config: pytest.Config) -> None:
    """Allow vLLM what no test can stand in for: it leaves a ZeroMQ context to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:Unclosed context:ResourceWarning")
    # That is for tests. What is collected after the last one meets the filters that pytest set before it called this.
    warnings.filterwarnings("ignore", "Unclosed context", ResourceWarning)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is no vLLM or no model; starting vLLM takes a minute or two on a busy machine."""
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


def launch(folder: Path) -> Server:
    """A server that begins to load its engine."""
    return Server(folder, SETTINGS, wait=False)


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, which still loads."""
    with launch(tmp_path_factory.mktemp("qwen3-server")) as running:
        yield running


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Iterator[Qwen3Backend]:
    """The engine that tests share which do it no harm."""
    if any("server" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("launched")  # loads at the same time, on another core
    backend = Qwen3Backend(OPTIONS)
    for _ in started(backend):
        yield backend


@pytest.fixture(scope="session")
def server(launched: Server) -> Server:
    """The server that tests share; the last of them end it."""
    return warm(launched)


def warm(server: Server) -> Server:
    """Wait for its engine; a look a second, because looks take the time of a core that loads."""
    deadline = time.monotonic() + START_SECONDS
    while server.answers() != 200:
        assert time.monotonic() < deadline, server.output()
        time.sleep(1)
    return server


def spoken(seconds: float, seed: int) -> Signal:
    """Speech that the model understands, of about so many seconds."""
    if is_tiny():
        return chatter(seconds, seed).signal
    recordings = ("hello", "meeting", "price", "radio", "school", "train", "weather", "wind")
    audio = to_signal(np.frombuffer(reference(recordings[seed % len(recordings)]), "<i2"))
    return (
        np.resize(audio, round(seconds * 16_000)) if len(audio) < seconds * 16_000 else audio[: round(seconds * 16_000)]
    )
