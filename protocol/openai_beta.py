"""The retired beta form of OpenAI's transcription sessions, which older clients still send. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_NAMES = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}


def read_beta_session(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert a beta `session` to the current form; one in the current form is unchanged."""
    asked = {new: session[old] for old, new in _NAMES.items() if old in session}
    if "input_audio_format" in session:
        named = session["input_audio_format"]
        asked["format"] = {"type": _FORMATS.get(named, named) if isinstance(named, str) else named}
    if not asked:
        return session
    rest = {name: value for name, value in session.items() if name not in _NAMES and name != "input_audio_format"}
    return {**rest, "audio": {"input": asked}}
