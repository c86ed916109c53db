"""OpenAI's numbers for voice activity, in this server's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol.dialect import ServerInfo

MIN_SILENCE_MS, MAX_SILENCE_MS = 100, 5_000
"""Range of silences; other values are clamped. Frameworks ask for as little as 25 ms, less than the silence of a
plosive."""
DEFAULT_THRESHOLD = 0.5
"""OpenAI's threshold is a probability; its default stands for the server's own setting."""
_MAX_RMS = 32_768.0
_EAGERNESS = {"low": 3.0, "medium": 2.0, "auto": 2.0, "high": 1.0}
"""Eagerness of `semantic_vad` -> multiple of the server's own silence. OpenAI waits at most 8, 4 and 2 s."""


def silence_ms(turn_detection: Mapping[str, Any], server: ServerInfo) -> int | None:
    """Silence in ms that ends an utterance; None: the server's own."""
    if turn_detection.get("type") == "semantic_vad":
        factor = _EAGERNESS.get(str(turn_detection.get("eagerness")), _EAGERNESS["auto"])
        return _bounded(server.silence_ms * factor)
    value = turn_detection.get("silence_duration_ms")
    return None if value is None else _bounded(float(value))


def vad_threshold(value: float | None, server: ServerInfo) -> float | None:
    """Audio with a lower RMS, in 16-bit units, is no voice; None: the server's own setting."""
    if value is None or value == DEFAULT_THRESHOLD:
        return None
    return min(_MAX_RMS, server.vad_threshold * value / DEFAULT_THRESHOLD)


def _bounded(milliseconds: float) -> int:
    return round(min(max(milliseconds, MIN_SILENCE_MS), MAX_SILENCE_MS))
