"""Measures loudness and voice for every 100 ms of audio, for clients that show a level meter."""

from __future__ import annotations

import math

from inference.vad import FrameDecisions, Vad
from protocol.events import Level
from protocol.pcm import FRAME_SAMPLES, Signal, ms

FRAMES = 5
"""Frames of one level: 100 ms."""


class LevelMeter:
    """Judges frames by a detector, and keeps a `Level` for every five of them. Used by one thread.

    The detector gets the frames of one level at a time, so that each level has the threshold that was then in effect.
    """

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self._loudness: list[float] = []
        self._voiced = False
        self._levels: list[Level] = []

    def frames(self, signal: Signal, start: int) -> FrameDecisions:
        """Like `Vad.frames`, for a signal whose first sample has the position `start`."""
        loudness: list[float] = []
        voiced: list[bool] = []
        while len(signal) - len(loudness) * FRAME_SAMPLES >= FRAME_SAMPLES:
            first = len(loudness) * FRAME_SAMPLES
            last = first + (FRAMES - len(self._loudness)) * FRAME_SAMPLES
            decisions = self._vad.frames(signal[first:last])
            loudness += decisions[0]
            voiced += decisions[1]
            self._measure(*decisions, ms(start + len(loudness) * FRAME_SAMPLES))
        return loudness, voiced

    def _measure(self, loudness: list[float], voiced: list[bool], end_ms: int) -> None:
        self._loudness += loudness
        self._voiced = self._voiced or any(voiced)
        if len(self._loudness) == FRAMES:
            rms = math.sqrt(sum(each**2 for each in self._loudness) / FRAMES)
            self._levels.append(Level(end_ms, rms, self._vad.threshold, self._voiced))
            self._loudness, self._voiced = [], False

    def take(self) -> list[Level]:
        """The levels since the last call."""
        levels, self._levels = self._levels, []
        return levels
