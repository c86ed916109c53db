"""The open utterance, and its last frames, which are needed to cut an overlong utterance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from protocol.pcm import FRAME_SAMPLES

CUT_WINDOW_FRAMES = 5
"""Frames over which loudness is averaged to find the quietest point: 100 ms."""


class Frame(NamedTuple):
    """20 ms of audio, or less at the end of an utterance; positions are samples, `loudness` is RMS in 16-bit units."""

    start: int
    end: int
    loudness: float
    voiced: bool


class OpenUtterance:
    """Where the open utterance began, where its last voice ended, and its last frames, without gaps."""

    __slots__ = ("_kept_frames", "loudness", "paused_at", "start", "voiced", "voiced_before", "voiced_end")

    def __init__(self, start: int, frames: Collection[Frame], kept_frames: int) -> None:
        """`frames`: the onset. `kept_frames`: least number of last frames to keep."""
        self.start = start
        self.loudness = [frame.loudness for frame in frames]
        """Loudness and voicing of the last frames, at least `kept_frames` of them."""
        self.voiced = [frame.voiced for frame in frames]
        self.voiced_before = start
        """End of the last voiced frame that was discarded."""
        self.voiced_end = max(frame.end for frame in frames if frame.voiced)
        self.paused_at: int | None = None
        self._kept_frames = kept_frames

    def remember(self, loudness: Sequence[float], voiced: Sequence[bool], position: int) -> None:
        """Take the next frames; the last one ends at `position`."""
        self.loudness += loudness
        self.voiced += voiced
        surplus = len(self.voiced) - self._kept_frames
        if surplus > self._kept_frames:  # rarely, because it copies
            forgotten = last_voiced_end(self.voiced[:surplus], position - self._kept_frames * FRAME_SAMPLES)
            self.voiced_before = forgotten or self.voiced_before
            del self.loudness[:surplus], self.voiced[:surplus]


def last_voiced_end(voiced: Sequence[bool], end: int) -> int | None:
    """Where the last voiced frame ends, if the last of these frames ends at `end`; None: none is voiced."""
    for number, voice in enumerate(reversed(voiced)):
        if voice:
            return end - number * FRAME_SAMPLES
    return None


def quietest_frame(loudness: Sequence[float]) -> int:
    """The frame in the middle of the quietest 100 ms."""
    power = [level**2 for level in loudness]
    sums = [sum(power[i : i + CUT_WINDOW_FRAMES]) for i in range(max(1, len(power) - CUT_WINDOW_FRAMES + 1))]
    quietest = sums.index(min(sums))
    return min(quietest + CUT_WINDOW_FRAMES // 2, len(power) - 1)
