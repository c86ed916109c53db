"""How an utterance's audio is cut into the items that the engine caches. Pure.

The encoder attends within windows of 8 s and never across items, so audio cut at multiples of 8 s encodes as one clip
does. A closed window keeps its id, and costs no mel, no encoder and no prefill again.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.pcm import SAMPLE_RATE

WINDOW = 8 * SAMPLE_RATE
"""The encoder's `n_window_infer`: 800 mel frames of 10 ms."""

LEAST = SAMPLE_RATE
"""Shortest item: the encoder pads to the longest chunk of 1 s in the batch, so that what a shorter item encodes to
would depend on its neighbours."""

NEAR = SAMPLE_RATE // 4
"""A refresh that would end so little behind a window's end ends at it instead."""


@dataclass(frozen=True, slots=True)
class Item:
    """Samples of the utterance from `start` to before `stop`, sent as one audio item.

    The same samples have the same `key`, whether they are a tail or a closed window.
    """

    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name within the utterance."""
        return f"{self.start}-{self.stop}"

    @property
    def samples(self) -> int:
        """Length as the encoder sees it: padded with zeros to `LEAST`."""
        return max(self.stop - self.start, LEAST)


def layout(samples: int, *, freeze: bool = True) -> tuple[Item, ...]:
    """Items of an utterance of `samples` samples: closed windows, then a tail of 1 s to less than 9 s.

    `freeze` False: one item, which is new each time.
    """
    closed = max(0, (samples - LEAST) // WINDOW) if freeze else 0
    windows = [Item(number * WINDOW, (number + 1) * WINDOW) for number in range(closed)]
    return (*windows, Item(closed * WINDOW, samples))


def reach(covered: int, samples: int) -> int:
    """Where a refresh ends that may go up to `samples`, the last one having ended at `covered`.

    A tail that ends with its window is that window, encoded ahead of its closing: `NEAR` of new audio is worth 8 s of
    encoding.
    """
    boundary = samples // WINDOW * WINDOW
    return boundary if covered < boundary < samples <= boundary + NEAR else samples
