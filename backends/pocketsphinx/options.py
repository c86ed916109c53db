"""What the pocketsphinx engine is told; imports nothing heavy, so settings can build it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PocketsphinxOptions:
    """Sizes of the engine's worker processes."""

    workers: int = 0
    """Worker processes for finals, and for files; 0: one per core this process may use."""

    streams_per_worker: int = 3
    """Streaming workers for each of the others, so utterances with partials at once.

    Each takes about 35 MB once it was used: all share one model. One core streams about 3 speakers (0.25 core each). An
    utterance beyond them gets its final, without partials.
    """
