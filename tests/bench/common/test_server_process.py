"""The server that a measurement starts."""

from __future__ import annotations

import pytest

from bench.common.server_process import server_settings


def test_settings() -> None:
    """Extra settings are NAME=VALUE, with or without the prefix."""
    settings = server_settings("mock", 9, ["VAD_SILENCE_MS=400", "STT_IDLE_SECONDS=0"])
    assert (settings["STT_VAD_SILENCE_MS"], settings["STT_IDLE_SECONDS"], settings["STT_MAX_SESSIONS"]) == (
        "400",
        "0",
        "9",
    )
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        server_settings("mock", 9, ["VAD_SILENCE_MS"])
