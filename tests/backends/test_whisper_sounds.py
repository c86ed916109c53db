"""Sounds without words, on seeds that the thresholds were not set with: long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from backends.whisper.model import Model, choose_hardware
from backends.whisper.scheduler import FIRST_PARTIAL_SECONDS, PARTIAL_SECONDS
from backends.whisper.transcription import Request, decode_finals, decode_partials
from bench.common.offline_segmentation import segment
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import SAMPLE_RATE, Signal, to_signal
from tests.backends.wordless_sounds import KINDS, sounds
from tests.whisper import model_folder

EACH = 25
SEED = 20_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_sounds_without_words_have_no_text(name: str, record_property: Callable[[str, object], None]) -> None:
    """200 sounds of eight kinds, of which 100 or more open the detector, have neither a final nor a partial."""
    model = Model(model_folder(name), choose_hardware("cpu", "auto"), 1)
    opened: Counter[str] = Counter()
    shown: list[tuple[str, str]] = []
    for kind, samples in sounds(EACH, SEED):
        padded = np.pad(samples, SAMPLE_RATE)
        utterances = segment(padded, EnergyVad(VadOptions().threshold)).utterances
        opened[kind] += bool(utterances)
        signal = to_signal(padded)
        shown += [(kind, text) for each in utterances for text in texts(model, signal[each.start : each.end]) if text]
    record_property("opened", dict(opened))
    assert opened.total() >= EACH * len(KINDS) // 2
    assert shown == []


def texts(model: Model, signal: Signal) -> list[str]:
    """The final's, and those of the partials in their cadence."""
    first, step = (round(seconds * SAMPLE_RATE) for seconds in (FIRST_PARTIAL_SECONDS, PARTIAL_SECONDS))
    beginnings = [Request(signal[:end], "en") for end in range(first, len(signal), step)]
    partials = [decode_partials(model, [each])[0].text for each in beginnings]
    return [decode_finals(model, [Request(signal, "en")], 5)[0].text, *partials]
