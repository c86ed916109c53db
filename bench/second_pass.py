"""pocketsphinx's second pass and nothing else: the yardstick of `bench.accuracy` for the embedded engine.

A plain decoder over whole recordings, one after the other, in this process, with the settings that the engine uses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from backends.pocketsphinx.worker import SETTINGS

_PRONUNCIATION = re.compile(r"\(\d+\)")


def decode_alone(recordings: Iterable[bytes]) -> list[tuple[str, float]]:
    """Text and wall time in ms of each recording (PCM16LE, 16 kHz); the decoder is made and warmed before."""
    from pocketsphinx import Decoder  # noqa: PLC0415 - an extra, which other engines do not need

    decoder = Decoder(**SETTINGS)
    results = []
    for number, pcm in enumerate([bytes(32_000), *recordings]):
        began = time.perf_counter()
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(pcm, False, True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        passed = (time.perf_counter() - began) * 1000
        if number:
            results.append((_PRONUNCIATION.sub("", hypothesis.hypstr) if hypothesis else "", passed))
    return results
