"""The qwen3 engine on real vLLM: with the tiny checkpoint of references/, or the model that STT_VLLM_MODEL names.

The suite needs `make test-engine`'s environment, or a CUDA machine with the extra `qwen3`; elsewhere it is skipped.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from protocol.pcm import Signal, to_signal
from tests.audio import reference
from tests.backends.conformance import started
from tests.qwen3.tones import chatter

HERE = Path(__file__).parent
TINY = HERE.parents[1] / "references" / "tiny-qwen3-asr"
MODEL = os.environ.get("STT_VLLM_MODEL", str(TINY))


def is_tiny() -> bool:
    """Whether the model hears tones; another one hears people."""
    return "tiny" in Path(MODEL).name


GPU_MEMORY = 0.2 if is_tiny() else 0.7
"""On a CPU it is a part of the memory, which has to be free."""

OPTIONS = Qwen3Options(model=MODEL, gpu_memory=GPU_MEMORY, max_num_seqs=64)


def pytest_configure(config: pytest.Config) -> None:
    """Allow vLLM what no test can stand in for: it leaves a ZeroMQ context to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:Unclosed context:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is no vLLM or no model; starting vLLM takes a minute or two on a busy machine."""
    missing = None
    if importlib.util.find_spec("vllm") is None:
        missing = "vLLM is not installed: `make test-engine` runs this suite"
    elif str(TINY) == MODEL and not TINY.is_dir():
        missing = "there is no references/tiny-qwen3-asr"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))
            # vLLM and what it imports warn about each other.
            item.add_marker(pytest.mark.filterwarnings("default"))
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def shared() -> Iterator[Qwen3Backend]:
    """The engine that tests share which do it no harm."""
    backend = Qwen3Backend(OPTIONS)
    for _ in started(backend):
        yield backend


def spoken(seconds: float, seed: int) -> Signal:
    """Speech that the model understands, of about so many seconds."""
    if is_tiny():
        return chatter(seconds, seed).signal
    recordings = ("hello", "meeting", "price", "radio", "school", "train", "weather", "wind")
    audio = to_signal(np.frombuffer(reference(recordings[seed % len(recordings)]), "<i2"))
    return (
        np.resize(audio, round(seconds * 16_000)) if len(audio) < seconds * 16_000 else audio[: round(seconds * 16_000)]
    )
