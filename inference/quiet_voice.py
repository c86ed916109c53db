"""Finds speech that is too quiet for the threshold, so that a warning can tell the client."""

from __future__ import annotations

from collections import deque

from inference.vad import BLOCK_FRAMES, DIGITAL_SILENCE

MIN_SPEECH_BLOCKS = 10
"""Blocks of 500 ms that must sound like speech: 5 s."""
WINDOW_BLOCKS = 20
"""Blocks among which they must be: 10 s, because half of speech may be pauses."""
MIN_RMS = 20.0
"""RMS in 16-bit units of a block's loud frames, below which it does not count. The noise of a quiet room has 10."""
MIN_MODULATION = 2.0
"""Least ratio of the RMS of a block's loud frames to that of its quiet frames: 6 dB. Syllables and gaps exceed it in
most blocks of speech. In steady noise the ratio is below 1.3 (`tests/inference/test_quiet_voice.py`)."""
_QUIET, _LOUD = BLOCK_FRAMES // 6, BLOCK_FRAMES - 1 - BLOCK_FRAMES // 6
"""Indices of these frames in a sorted block. They leave out a few clicks and a few gaps."""


class QuietVoiceFinder:
    """Watches one source for 5 s of speech without a voiced frame. Used by one thread.

    The result depends on the frames, never on how they were cut into calls.
    """

    def __init__(self) -> None:
        self._loudness: list[float] = []
        self._voiced: list[bool] = []
        self._peaks: deque[float] = deque(maxlen=WINDOW_BLOCKS)
        """Loudest frame of each block that sounds like speech; 0 for other blocks."""
        self.loudest: float | None = None
        """RMS in 16-bit units of the loudest frame of the quiet speech; None: not enough speech was found yet."""

    def update(self, loudness: list[float], voiced: list[bool]) -> None:
        """Take the RMS in 16-bit units of the next frames, and the detector's decisions on them."""
        self._loudness += loudness
        self._voiced += voiced
        while len(self._loudness) >= BLOCK_FRAMES and self.loudest is None:
            self._take_block(self._loudness[:BLOCK_FRAMES], voiced=any(self._voiced[:BLOCK_FRAMES]))
            del self._loudness[:BLOCK_FRAMES], self._voiced[:BLOCK_FRAMES]

    def _take_block(self, block: list[float], *, voiced: bool) -> None:
        if voiced:
            self._peaks.clear()
            return
        block.sort()
        self._peaks.append(block[-1] if _is_modulated(block) else 0.0)
        found = [peak for peak in self._peaks if peak]
        if len(found) >= MIN_SPEECH_BLOCKS:
            self.loudest = max(found)


def _is_modulated(block: list[float]) -> bool:
    quiet, loud = block[_QUIET], block[_LOUD]
    return loud >= MIN_RMS and loud >= MIN_MODULATION * max(quiet, DIGITAL_SILENCE)
