"""Splits an utterance into the audio items that vLLM caches. Pure.

The model's encoder attends within windows of 8 s and never across items. So audio that is split at multiples of 8 s is
encoded as the whole clip would be. A closed window keeps its key: vLLM computes its mel spectrum, its encoding and its
KV cache entries once.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.pcm import SAMPLE_RATE

WINDOW_SAMPLES = 8 * SAMPLE_RATE
"""The encoder's `n_window_infer` in the model's configuration: 800 mel frames of 10 ms."""

MIN_ITEM_SAMPLES = SAMPLE_RATE
"""Shortest item. The encoder pads to the longest 1 s chunk in the batch, so the encoding of a shorter item would depend
on the other items in the batch."""

SNAP_SAMPLES = SAMPLE_RATE // 4
"""A refresh that would end so few samples after a window's end stops at the window's end."""


@dataclass(frozen=True, slots=True)
class AudioItem:
    """Samples `start` to `stop` of the utterance, without `stop`, sent as one audio item."""

    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name within the utterance. Equal samples have equal keys, as a tail and as a closed window."""
        return f"{self.start}-{self.stop}"

    @property
    def samples(self) -> int:
        """Length that the encoder sees: short items are padded with zeros to `MIN_ITEM_SAMPLES`."""
        return max(self.stop - self.start, MIN_ITEM_SAMPLES)


def split_into_items(samples: int, *, freeze: bool = True) -> tuple[AudioItem, ...]:
    """Items of an utterance of `samples` samples: closed windows, then a tail of 1 s to less than 9 s.

    Args:
        samples: length of the utterance.
        freeze: False: one item for the whole utterance, with a new key at each length.
    """
    closed = max(0, (samples - MIN_ITEM_SAMPLES) // WINDOW_SAMPLES) if freeze else 0
    windows = [AudioItem(number * WINDOW_SAMPLES, (number + 1) * WINDOW_SAMPLES) for number in range(closed)]
    return (*windows, AudioItem(closed * WINDOW_SAMPLES, samples))


def refresh_end(previous_end: int, samples: int) -> int:
    """End of a refresh of an utterance of `samples` samples, if the previous refresh ended at `previous_end`.

    A tail that ends at a window's end is that window, encoded before the window closes. So stopping there saves 8 s of
    encoding, and costs at most `SNAP_SAMPLES` of new audio.
    """
    boundary = samples // WINDOW_SAMPLES * WINDOW_SAMPLES
    return boundary if previous_end < boundary < samples <= boundary + SNAP_SAMPLES else samples
