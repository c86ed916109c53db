"""Variables that look like settings and are none."""

from __future__ import annotations

from pathlib import Path

from config import Settings
from tests.server import Server

MOCK = {"STT_BACKEND": "mock"}


def test_a_misspelt_setting_is_named_with_the_nearest_real_one(folder: Path) -> None:
    """A warning in the log; the server starts, for an orchestrator may set variables of its own."""
    with Server(folder, MOCK | {"STT_VAD_SILENCE": "300", "STT_LOG_LEVEL": "info"}) as server:
        warned = [line["reason"] for line in server.log() if line["event"] == "unknown_setting"]

    assert warned == ["STT_VAD_SILENCE is not a setting: did you mean STT_VAD_SILENCE_MS?"]


def test_real_settings_are_not_called_unknown() -> None:
    """In any case, and other programs' variables do not matter; what resembles nothing has no suggestion."""
    assert Settings.unknown({"STT_PORT": "1", "stt_port": "1", "PATH": "x", "STT_QQQQ": "1"}) == [
        "STT_QQQQ is not a setting."
    ]
