"""What the pocketsphinx engine is told; imports nothing heavy, so settings can build it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PocketsphinxOptions:
    """Sizes of the engine's worker processes."""

    workers: int = 0
    """Worker processes of each kind (streaming, final, batch); 0: one per core this process may use."""

    streams_per_worker: int = 3
    """Decoders kept warm in each streaming worker, so utterances with partials at once.

    Each takes 98 MB, and each process 12 MB more (private memory after speech, with large pages).
    One core streams about 3 speakers (0.25 core each). An utterance beyond them gets its final, without partials.
    """
