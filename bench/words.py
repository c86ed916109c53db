"""What pocketsphinx makes of recordings: where their words lie, and what it reads in an utterance.

In this process and on one core: nothing that a server started at the same time could be confused with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backends.pocketsphinx.hypothesis import FRAME_MS, is_word
from backends.pocketsphinx.worker import SETTINGS
from bench.audio import Clip
from bench.wer import normalise
from protocol.pcm import samples_of

_SAMPLES = samples_of(FRAME_MS)
"""Of one of its frames."""

Words = Mapping[str, Sequence[tuple[int, int]]]
"""First sample and end of each word, by recording."""


def aligned(clips: Iterable[Clip]) -> Words:
    """Words of the English recordings with a text that it can align; the others are left out."""
    from pocketsphinx import Decoder  # noqa: PLC0415 - an extra, which the table can do without

    decoder = Decoder(**SETTINGS)
    found: dict[str, Sequence[tuple[int, int]]] = {}
    for clip in clips:
        words = normalise(clip.text, clip.language) if clip.text and clip.language == "en" else []
        if not words or not all(decoder.lookup_word(word) for word in words):
            continue
        decoder.set_align_text(" ".join(words))
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(clip.pcm, False, True)
        decoder.end_utt()
        spans = [
            (each.start_frame * _SAMPLES, (each.end_frame + 1) * _SAMPLES)
            for each in decoder.seg() or ()
            if is_word(each.word)
        ]
        if len(spans) == len(words):
            found[clip.name] = spans
    return found
