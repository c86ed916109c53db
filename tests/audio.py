"""Recordings as PCM, and silence."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from protocol.pcm import Signal, samples_of, to_signal

REFERENCES = Path(__file__).parents[1] / "references"


def reference(name: str) -> bytes:
    """PCM16LE of references/{name}.wav."""
    with wave.open(str(REFERENCES / f"{name}.wav")) as recording:
        pcm: bytes = recording.readframes(recording.getnframes())
        return pcm


def signal_of(name: str) -> Signal:
    """references/{name}.wav as the engines take it."""
    return to_signal(np.frombuffer(reference(name), "<i2"))


def text_of(name: str) -> str:
    """What references/{name}.wav says, lines joined."""
    return " ".join((REFERENCES / f"{name}.txt").read_text().split())


def silence(milliseconds: int) -> bytes:
    """Digital silence as PCM16LE."""
    return bytes(2 * samples_of(milliseconds))


def interleaved(left: bytes, right: bytes) -> bytes:
    """Two recordings, PCM16LE, as one of two channels; the shorter ends in silence."""
    length = max(len(left), len(right))
    channels = [np.frombuffer(each.ljust(length, b"\0"), "<i2") for each in (left, right)]
    return np.column_stack(channels).tobytes()
