"""A server with Whisper's real weights, and browsers whose microphone plays a recording of references/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

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
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="chromium is not installed: apt-get install chromium"))


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`weather` and `hello`, 48 kHz, with 1 s of silence before and 2 s after each."""
    pieces: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = [np.zeros(MICROPHONE_RATE, np.float32)]
    for name in ("weather", "hello"):
        samples, rate = soundfile.read(REFERENCES / f"{name}.wav", dtype="float32")
        pieces += [soxr.resample(samples, rate, MICROPHONE_RATE), np.zeros(2 * MICROPHONE_RATE, np.float32)]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate(pieces), MICROPHONE_RATE, subtype="PCM_16")
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
