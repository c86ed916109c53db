"""Which frames hold voice, by their energy."""

from __future__ import annotations

from typing import Protocol

from protocol.pcm import Signal, frame_rms

Judged = tuple[list[float], list[bool]]
"""RMS in 16-bit units of each frame, and whether it is voice."""


class Vad(Protocol):
    """One source's voice activity detector. Used by one thread."""

    def frames(self, signal: Signal) -> Judged:
        """Judge each whole 20 ms frame of `signal` (float32 [n]), which follows the frames judged before.

        What is said of a frame depends on the audio up to its end, never on how it was cut into calls.
        """
        ...


class FixedVad:
    """Calls a frame voiced when its RMS reaches a fixed threshold: the yardstick, right in a quiet room. Stateless."""

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold

    def frames(self, signal: Signal) -> Judged:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        return rms, [loudness >= self._threshold for loudness in rms]
