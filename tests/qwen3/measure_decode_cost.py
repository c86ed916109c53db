"""Audio encoded and tokens computed per second of audio, compared with encoding the whole clip at each refresh.

    STT_VLLM_MODEL=references/tiny-qwen3-asr python -m tests.qwen3.measure_decode_cost

Prints two tables in Markdown. The first has the cost of refreshes and of finals, with a refresh each 0.5 s and KV
blocks of 32 tokens. The second has the last partial's word error rate with windows frozen and not frozen. Each refresh
ends before the next 20 ms are pushed, and no refresh is delayed, so the numbers do not depend on the machine's speed.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backends.base import StreamOptions
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from backends.qwen3.stats import DecodeTotals
from bench.common.word_error_rate import rate, score
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal
from tests.backends.conformance import pieces
from tests.qwen3.conftest import GPU_MEMORY, MODEL
from tests.qwen3.tones import Speech, random_speech

CADENCE = 0.5
"""Seconds of speech between two refreshes."""
BLOCK = 32
LENGTHS = (5, 10, 20, 30)
"""Seconds of audio in an utterance whose cost is measured."""
UTTERANCES = 50
"""Of 10 to 20 s, whose word error rate is measured."""
PATIENCE = 60.0
"""Seconds that a decode may take."""


@dataclass(frozen=True, slots=True)
class Played:
    """Cost and texts of one utterance."""

    refreshes: DecodeTotals
    final_cost: DecodeTotals
    partial: str
    """The last partial's text."""
    final: str


def engine(*, freeze: bool) -> Qwen3Backend:
    """A started engine."""
    backend = Qwen3Backend(
        Qwen3Options(
            model=MODEL,
            gpu_memory=GPU_MEMORY,
            max_num_seqs=16,
            refresh_seconds=CADENCE,
            refresh_spread=0,
            block_size=BLOCK,
            freeze_windows=freeze,
        )
    )
    backend.start()
    return backend


def play(backend: Qwen3Backend, audio: Signal, tail: int = 0) -> Played:
    """Push an utterance, wait for each refresh, then push `tail` more samples and finish."""
    before, partial = backend.stats(), ""
    stream = backend.stream(StreamOptions())
    for piece in pieces(audio, FRAME_SAMPLES):
        stream.push(piece)
        wait_until_idle(backend)
        newest = stream.partial()
        partial = partial if newest is None else newest.text
    refreshed = backend.stats()
    stream.push(audio[:tail])
    final = stream.finish(len(audio) + tail).result(PATIENCE).text
    finished = backend.stats()
    return Played(
        minus(refreshed.refreshes, before.refreshes), minus(finished.finals, refreshed.finals), partial, final
    )


def wait_until_idle(backend: Qwen3Backend) -> None:
    """Wait until nothing is in flight."""
    deadline = time.monotonic() + PATIENCE
    while backend.stats().in_flight:
        if time.monotonic() > deadline:
            sys.exit("a decode takes too long")
        time.sleep(0.0005)


def minus(after: DecodeTotals, before: DecodeTotals) -> DecodeTotals:
    """The difference of two totals."""
    return DecodeTotals(
        *(late - early for late, early in zip(dataclasses.astuple(after), dataclasses.astuple(before), strict=True))
    )


def computed(work: DecodeTotals) -> int:
    """Prompt tokens that did not come from the cache."""
    return work.prompt_tokens - work.cached_tokens


def row(*cells: object) -> None:
    """Print a table's row."""
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")


def cost_table(frozen: Sequence[Played], whole: Sequence[Played]) -> None:
    """Print the cost for each of LENGTHS, per second of audio and relative to the whole clip."""
    row(
        "audio",
        "decodes",
        "audio encoded, s/s",
        "whole clip",
        "part",
        "prompt tokens computed, /s",
        "whole clip",
        "part",
    )
    row(*["---"] * 8)
    for kind in ("refreshes", "final_cost"):
        for seconds, ours, theirs in zip(LENGTHS, frozen, whole, strict=True):
            mine, other = getattr(ours, kind), getattr(theirs, kind)
            row(
                f"{seconds} s, {kind.removesuffix('_cost')}",
                mine.decodes,
                f"{mine.audio_seconds / seconds:.2f}",
                f"{other.audio_seconds / seconds:.2f}",
                share(mine.audio_seconds, other.audio_seconds),
                round(computed(mine) / seconds),
                round(computed(other) / seconds),
                share(computed(mine), computed(other)),
            )


def share(part: float, whole: float) -> str:
    """`part` of `whole`; a dash for a part of nothing."""
    return f"{part / whole:.2f}" if whole else "-"


def error_table(speeches: Sequence[Speech], played: dict[str, list[Played]]) -> None:
    """Print word error rates."""
    words = sum(len(speech.words) for speech in speeches)
    sys.stdout.write("\n")
    row(f"{len(speeches)} utterances, {words} words", "last partial", "final")
    row(*["---"] * 3)
    for name, each in played.items():
        rates = [
            rate(score(speech.text, text) for text, speech in zip(texts, speeches, strict=True)) or 0.0
            for texts in ([one.partial for one in each], [one.final for one in each])
        ]
        row(name, *(f"{rate:.3f}" for rate in rates))


def main() -> None:
    """Measure with windows frozen, then with none."""
    lengths = np.random.default_rng(7).uniform(10, 20, UTTERANCES)
    speeches = [random_speech(seconds, 700 + number) for number, seconds in enumerate(lengths)]
    long = [random_speech(seconds + 3, 900 + seconds).signal[: seconds * SAMPLE_RATE] for seconds in LENGTHS]
    work: dict[bool, list[Played]] = {}
    played: dict[str, list[Played]] = {}
    for freeze in (True, False):
        backend = engine(freeze=freeze)
        try:
            work[freeze] = [play(backend, audio, SAMPLE_RATE // 4) for audio in long]
            name = "windows frozen" if freeze else "whole clip"
            played[name] = [play(backend, speech.signal) for speech in speeches]
        finally:
            backend.close()
    cost_table(work[True], work[False])
    error_table(speeches, played)


if __name__ == "__main__":
    main()
