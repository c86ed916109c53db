"""Which frames hold voice, by their energy."""

from __future__ import annotations

from protocol.pcm import Signal, frame_rms


class EnergyVad:
    """Calls a frame voiced when its RMS reaches a fixed threshold. Stateless; any thread."""

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold

    def frames(self, signal: Signal) -> tuple[list[float], list[bool]]:
        """RMS in 16-bit units, and whether it is voice, of each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        return rms, [loudness >= self._threshold for loudness in rms]
