"""A server with Whisper's real weights, and browsers whose microphone plays a recording of references/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from protocol.pcm import Signal
from tests.audio import REFERENCES
from tests.page.browser import CHROMIUM, Browser
from tests.server import Server
from tests.weights import settings_of

MICROPHONE_RATE = 48_000
OpenBrowser = Callable[..., Browser]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is slow, and needs a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="chromium is not installed: apt-get install chromium"))


def _silence(seconds: float) -> Signal:
    return np.zeros(round(seconds * MICROPHONE_RATE), np.float32)


def _said(name: str) -> Signal:
    """A recording of references/, 48 kHz, and 2 s of silence."""
    samples, rate = soundfile.read(REFERENCES / f"{name}.wav", dtype="float32")
    return np.concatenate((soxr.resample(samples, rate, MICROPHONE_RATE), _silence(2)))


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 s of silence, `weather` and `hello`."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    samples = np.concatenate((_silence(1), _said("weather"), _said("hello")))
    soundfile.write(path, samples, MICROPHONE_RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def stereo_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 s of silence, then `weather` on the left and `hello` on the right."""
    path = tmp_path_factory.mktemp("speech") / "stereo.wav"
    left, right = (np.concatenate((_silence(1), _said(name))) for name in ("weather", "hello"))
    right = np.pad(right, (0, len(left) - len(right)))
    soundfile.write(path, np.stack((left, right), axis=1), MICROPHONE_RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def whisper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that recognises English."""
    with Server(tmp_path_factory.mktemp("whisper-server"), settings_of("tiny.en")) as server:
        yield server


@pytest.fixture
def open_browser(folder: Path) -> Iterator[OpenBrowser]:
    """Opens browsers, and closes them at the end."""
    with ExitStack() as stack:

        def start(url: str, recording: Path | None = None, *flags: str) -> Browser:
            browser = stack.enter_context(Browser(folder / "browser", recording, flags))
            browser.appearance(1000, 720)
            browser.open(url)
            return browser

        yield start
