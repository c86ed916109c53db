"""Converts decoded audio to 16 kHz, and to the channels that are transcribed."""

from __future__ import annotations

import numpy as np
import soxr  # has no type information

from protocol.channels import ChannelMode, Mixer
from protocol.pcm import SAMPLE_RATE, Signal


class Converter:
    """Converts audio of one rate and number of channels, as one continuous signal. Used by one thread."""

    def __init__(self, rate: int, channels: int, mode: ChannelMode, wanted: int) -> None:
        """`wanted`: number of channels to return. For `split` that of the file's beginning, else 1."""
        self._input = rate, channels
        self._wanted = wanted
        # If the number of channels changes within a file they are mixed, so that `split` loses no words.
        mixes = mode is ChannelMode.MIX or (mode is ChannelMode.SPLIT and channels != wanted)
        self._mixer = Mixer(rate) if mixes else None
        self._only = {ChannelMode.LEFT: 0, ChannelMode.RIGHT: 1}.get(mode)
        self._resampler = None
        if rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, wanted, dtype="float32")

    def fits(self, rate: int, channels: int) -> bool:
        """Whether audio of this rate and number of channels can be passed to `convert`."""
        return self._input == (rate, channels)

    def convert(self, block: Signal) -> Signal:
        """Convert the next samples, float32 [channels, n]. Returns the samples that are ready, float32 [wanted, m]."""
        return self._convert(block, last=False)

    def end(self) -> Signal:
        """The remaining samples at the end, float32 [wanted, m]."""
        return self._convert(np.zeros((self._input[1], 0), np.float32), last=True)

    def _convert(self, block: Signal, *, last: bool) -> Signal:
        if self._only is not None:
            block = block[self._only : self._only + 1]
        if self._mixer is not None:
            block = self._mixer.mix(block, last=last)
            if self._wanted > 1:
                block = np.concatenate((block, np.zeros((self._wanted - 1, block.shape[1]), np.float32)))
        if self._resampler is None:
            return block
        if self._wanted == 1:
            converted: Signal = self._resampler.resample_chunk(block[0], last=last)[np.newaxis]
            return converted
        return np.ascontiguousarray(self._resampler.resample_chunk(np.ascontiguousarray(block.T), last=last).T)
