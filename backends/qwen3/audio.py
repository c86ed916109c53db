"""The samples of one utterance, kept for as long as it lasts. Pure."""

from __future__ import annotations

import numpy as np

from protocol.pcm import SAMPLE_RATE, Signal


class Recording:
    """Grows at its end. What `cut` returned stays as it is: samples are written once."""

    def __init__(self) -> None:
        self._samples: Signal = np.zeros(4 * SAMPLE_RATE, np.float32)
        self._length = 0
        self.sound: int | None = None
        """The first sample that is not zero; None: there is none."""

    def __len__(self) -> int:
        return self._length

    def append(self, samples: Signal) -> None:
        """Copy `samples` (float32, shape [n]) to the end."""
        end = self._length + len(samples)
        if end > len(self._samples):
            # The old array stays with those who have cuts of it.
            grown: Signal = np.zeros(max(end, 2 * len(self._samples)), np.float32)
            grown[: self._length] = self._samples[: self._length]
            self._samples = grown
        self._samples[self._length : end] = samples
        if self.sound is None:
            first = int(np.argmax(samples != 0)) if len(samples) else 0
            if len(samples) and samples[first] != 0:
                self.sound = self._length + first
        self._length = end

    def cut(self, start: int, stop: int) -> Signal:
        """Samples from `start` to before `stop`, read-only."""
        view = self._samples[start:stop]
        view.flags.writeable = False
        return view
