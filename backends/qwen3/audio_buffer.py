"""The samples of one utterance, kept until the utterance ends. Pure."""

from __future__ import annotations

import numpy as np

from protocol.pcm import SAMPLE_RATE, Signal


class AudioBuffer:
    """A growing array of samples. Samples are written once: a slice never changes. Not thread-safe."""

    def __init__(self) -> None:
        self._samples: Signal = np.zeros(4 * SAMPLE_RATE, np.float32)
        self._length = 0
        self.first_nonzero: int | None = None
        """Index of the first sample that is not zero; None: all are zero."""

    def __len__(self) -> int:
        return self._length

    def append(self, samples: Signal) -> None:
        """Copy `samples` (float32, shape [n]) to the end."""
        end = self._length + len(samples)
        if end > len(self._samples):
            # Slices keep the old array, which is not written any more.
            grown: Signal = np.zeros(max(end, 2 * len(self._samples)), np.float32)
            grown[: self._length] = self._samples[: self._length]
            self._samples = grown
        self._samples[self._length : end] = samples
        if self.first_nonzero is None and len(samples):
            first = int(np.argmax(samples != 0))
            if samples[first] != 0:
                self.first_nonzero = self._length + first
        self._length = end

    def slice(self, start: int, stop: int) -> Signal:
        """Samples `start` to `stop`, without `stop`, as a read-only view."""
        view = self._samples[start:stop]
        view.flags.writeable = False
        return view
