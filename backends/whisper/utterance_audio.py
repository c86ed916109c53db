"""An utterance's audio, cut into spans that fit Whisper's window. Pure."""

from __future__ import annotations

import numpy as np

from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, frame_rms, samples_of

MAX_SPAN = 29 * SAMPLE_RATE
"""Longest span in samples: Whisper's window has 30 s, and its last second must be silence."""
_CUT_WINDOW = 5 * SAMPLE_RATE
"""Samples at the end of an overlong span in which the quietest point is searched."""
_CUT_FRAMES = 5
"""Frames over which loudness is averaged for that: 100 ms."""
_INITIAL_SAMPLES = 5 * SAMPLE_RATE
DECODED_QUIET = samples_of(80)
"""Samples of quiet after the last sound that are decoded. More quiet does not change the decoded audio, so the final
can begin before the pause is certain."""
NO_PARTIAL_QUIET = samples_of(40)
"""Samples of quiet after which no partial begins, because the final may begin at any moment."""
_MAX_QUIET_RATIO = 0.05
"""A frame is quiet if its RMS is below this part of the loudest frame's: -26 dB. No word of the recordings changed by
it."""
_MAX_QUIET_RMS = 300.0
"""RMS in 16-bit units from which no frame is quiet, such as soft speech after a bang."""
_LOUDEST_WINDOW = 2 * SAMPLE_RATE
"""Samples in which the loudest frame is searched."""


class UtteranceAudio:
    """The growing audio of one utterance. Not thread-safe."""

    def __init__(self) -> None:
        self._samples = np.zeros(_INITIAL_SAMPLES, np.float32)
        self._length = 0
        self._sound: int | None = None
        self._cuts = [0]
        """Starts of the spans. All except the last are closed."""

    def __len__(self) -> int:
        return self._length

    def append(self, samples: Signal) -> None:
        """Copy the next samples. Values that are not finite become 0."""
        end = self._length + len(samples)
        if end > len(self._samples):
            self._samples = np.concatenate((self._samples, np.zeros(end, np.float32)))
        fresh = self._samples[self._length : end]
        np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0, copy=True).clip(-1, 1, out=fresh)
        if self._sound is None and fresh.any():
            self._sound = self._length + int(fresh.nonzero()[0][0])
        self._length = end
        while end - self._cuts[-1] > MAX_SPAN:
            self._cuts.append(self._cut(self._cuts[-1]))

    def audible(self, samples: int) -> bool:
        """Whether the first `samples` are not all zeros."""
        return self._sound is not None and self._sound < samples

    def cut(self, start: int, end: int) -> Signal:
        """A copy."""
        return self._samples[start:end].copy()

    def spans(self, samples: int) -> list[tuple[int, int]]:
        """Spans of the first `samples` samples. The cuts do not depend on later samples."""
        starts = [0]
        for cut in self._cuts[1:]:
            if samples - starts[-1] > MAX_SPAN:
                starts.append(cut)
        end = min(samples, self._sound_end(starts[-1], samples) + DECODED_QUIET)
        return list(zip(starts, [*starts[1:], end], strict=True))

    def quiet(self) -> int:
        """Samples since the last sound."""
        return self._length - self._sound_end(self._cuts[-1], self._length)

    def _sound_end(self, start: int, samples: int) -> int:
        """End of the last sound before `samples`, in whole frames from `start` on."""
        first = start + max(0, samples - start - _LOUDEST_WINDOW) // FRAME_SAMPLES * FRAME_SAMPLES
        loudness = frame_rms(self._samples[first:samples])
        if not len(loudness):
            return samples
        loud = (loudness >= min(_MAX_QUIET_RMS, _MAX_QUIET_RATIO * loudness.max())).nonzero()[0]
        return first + (int(loud[-1]) + 1) * FRAME_SAMPLES

    def _cut(self, start: int) -> int:
        first = start + MAX_SPAN - _CUT_WINDOW
        power = np.square(frame_rms(self._samples[first : start + MAX_SPAN]))
        quietest = int(np.convolve(power, np.ones(_CUT_FRAMES), "valid").argmin())
        return first + samples_of(20 * quietest + 10 * _CUT_FRAMES)
