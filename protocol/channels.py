"""Chooses or mixes the channels that are transcribed."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from protocol.pcm import Signal

_BLOCKS_PER_SECOND = 10
"""Blocks in which levels are compared: 100 ms each."""
_SMOOTHING = np.float64(0.7)
"""Weight of the earlier levels in the mean: the mix follows a new speaker within about 300 ms."""
_OPPOSITE = -0.5
"""Correlation below which a channel counts as in opposite phase to the loudest one."""


class ChannelMode(StrEnum):
    """Which channels of a file are transcribed."""

    MIX = "mix"
    """All channels as one."""
    SPLIT = "split"
    """Each channel for itself, with `channel` in each segment."""
    LEFT = "left"
    """The first channel."""
    RIGHT = "right"
    """The second channel."""


class Mixer:
    """Mixes the channels of one source. Opposite phases do not cancel, and a quiet channel does not dilute a loud one.

    Each channel counts by its part of the sum of all levels (gain sharing: D. Dugan, "Automatic microphone mixing",
    1975). A channel in opposite phase to the loudest one is inverted. Equal channels come out as they are.
    Used by one thread.
    """

    def __init__(self, rate: int) -> None:
        """`rate` in Hz."""
        self._block = max(1, rate // _BLOCKS_PER_SECOND)
        self._held = np.zeros((0, 0), np.float32)
        self._products = np.zeros((0, 0))
        self._weights: Signal | None = None

    def mix(self, block: Signal, *, last: bool = False) -> Signal:
        """Add the next samples, float32 [channels, n]. Returns the mix of whole blocks so far, float32 [1, m]."""
        if len(block) == 1:
            return block
        held = np.concatenate((self._held, block), axis=1) if self._held.size else block
        count = held.shape[1] if last else held.shape[1] // self._block * self._block
        self._held = held[:, count:]
        mixed = [self._mix_block(held[:, at : min(at + self._block, count)]) for at in range(0, count, self._block)]
        return np.concatenate([np.zeros(0, np.float32), *mixed])[np.newaxis]

    def _mix_block(self, block: Signal) -> Signal:
        products = (block @ block.T).astype(np.float64)
        self._products = products if self._weights is None else self._products * _SMOOTHING + products
        weights = _weights(self._products)
        before = weights if self._weights is None else self._weights
        self._weights = weights
        if np.array_equal(before, weights):
            mixed: Signal = weights @ block
            return mixed
        # The weights change gradually over the block, so that there is no step.
        glide = np.linspace(0, 1, block.shape[1], dtype=np.float32)
        mixed = before @ block
        mixed += glide * ((weights - before) @ block)
        return mixed


def _weights(products: npt.NDArray[np.float64]) -> Signal:
    """Signed parts of the channels, float32 [channels], from the sums of products of each two of them."""
    energy = np.diagonal(products)
    levels = np.sqrt(energy)
    total = levels.sum()
    if total <= 0:
        return np.full(len(levels), 1 / len(levels), np.float32)
    loudest = int(np.argmax(energy))
    correlation = products[loudest] / np.maximum(levels[loudest] * levels, np.finfo(np.float64).tiny)
    signs = np.where(correlation < _OPPOSITE, -1.0, 1.0)
    weights: Signal = (signs * levels / total).astype(np.float32)
    return weights
