"""Sounds without words give no text, and short words are not lost: what the thresholds in hallucination.py do.

    STT_MODEL_DIR=... python -m bench.whisper.guards --model base --words FOLDER

200 sounds of eight kinds go through the server's voice activity detection; what opens it is decoded as a final, and
each beginning of it, second by second, as a partial. FOLDER holds WAV files of single words, named WORD-VOICE.wav
(16 kHz mono). A word is lost if the unguarded decode is right and the guarded one is empty. --list shows what came.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from backends.whisper.model import Model, Window, choose_hardware
from backends.whisper.scheduler import FIRST_PARTIAL_SECONDS
from backends.whisper.transcription import Request, decode_finals, decode_once, decode_partials
from bench.common.offline_segmentation import segment
from bench.common.recordings import read_pcm
from bench.common.word_error_rate import normalise
from bench.whisper.sounds import sounds
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import SAMPLE_RATE, Samples, Signal, to_signal


@dataclass(frozen=True, slots=True)
class DecodeRecord:
    """One decode of one utterance."""

    kind: str
    way: str
    """`final`, `partial`, or `window`: the final's second decode, on the long window."""
    seconds: float
    said: str
    """Unguarded."""
    shown: str
    """Guarded."""
    no_speech_prob: float
    mean_log_prob: float
    expected: str | None = None
    """The word; None: there is none."""


def main() -> None:
    """Run the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="base")
    made.add_argument("--each", type=int, default=25, help="sounds of each kind (25)")
    made.add_argument("--seed", type=int, default=0, help="of the sounds; the thresholds were set with 0")
    made.add_argument("--words", type=Path)
    made.add_argument("--windows", action="store_true", help="decode all finals on the long window too")
    made.add_argument("--list", action="store_true")
    made.add_argument("--json", type=Path)
    given = made.parse_args()
    model = Model(Path(os.environ["STT_MODEL_DIR"]) / given.model, choose_hardware("auto", "auto"), 1)
    found = list(_sounds(model, given.each, given.seed, windows=given.windows))
    if given.words:
        found += list(_words(model, given.words, windows=given.windows))
    _report(found, listed=given.list)
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in found]))


def _sounds(model: Model, each: int, seed: int, *, windows: bool) -> Iterator[DecodeRecord]:
    opened: Counter[str] = Counter()
    for kind, samples in sounds(each, seed):
        utterances = _utterances(samples)
        opened[kind] += bool(utterances)
        for signal in utterances:
            yield from _final(model, kind, signal, None, windows=windows)
            for end in range(round(FIRST_PARTIAL_SECONDS * SAMPLE_RATE), len(signal), SAMPLE_RATE):
                yield _partial(model, kind, signal[:end])
    print(f"sounds that open the detector, of {each} each: {dict(opened)}, together {opened.total()}")


def _words(model: Model, folder: Path, *, windows: bool) -> Iterator[DecodeRecord]:
    for path in sorted(folder.glob("*.wav")):
        word = path.stem.rsplit("-", 1)[0]
        for signal in _utterances(np.frombuffer(read_pcm(path), "<i2"))[:1]:
            yield from _final(model, "word", signal, word, windows=windows)


def _utterances(samples: Samples) -> list[Signal]:
    silence = np.zeros(SAMPLE_RATE, np.int16)
    padded = np.concatenate((silence, samples, silence))
    signal = to_signal(padded)
    return [signal[each.start : each.end] for each in segment(padded, EnergyVad(VadOptions().threshold)).utterances]


def _final(model: Model, kind: str, signal: Signal, word: str | None, *, windows: bool) -> Iterator[DecodeRecord]:
    request, seconds = Request(signal, "en"), len(signal) / SAMPLE_RATE
    (once,) = decode_once(model, [request], 5, Window.SHORT)
    (final,) = decode_finals(model, [request], 5)
    hypothesis = once.hypothesis
    yield DecodeRecord(
        kind, "final", seconds, once.text, final.text, hypothesis.no_speech_prob, hypothesis.mean_log_prob, word
    )
    if windows:
        (whole,) = decode_once(model, [request], 5, Window.LONG)
        shown = "" if whole.hallucination else whole.text
        hypothesis = whole.hypothesis
        prob, log_prob = hypothesis.no_speech_prob, hypothesis.mean_log_prob
        yield DecodeRecord(kind, "window", seconds, whole.text, shown, prob, log_prob, word)


def _partial(model: Model, kind: str, signal: Signal) -> DecodeRecord:
    request = Request(signal, "en")
    (once,) = decode_once(model, [request], 1, Window.SHORT)
    (partial,) = decode_partials(model, [request])
    prob, log_prob = once.hypothesis.no_speech_prob, once.hypothesis.mean_log_prob
    return DecodeRecord(kind, "partial", len(signal) / SAMPLE_RATE, once.text, partial.text, prob, log_prob)


def _report(found: list[DecodeRecord], *, listed: bool) -> None:
    for way in ("final", "partial", "window"):
        chosen = [each for each in found if each.way == way and each.expected is None]
        if chosen:
            shown = Counter(each.kind for each in chosen if each.shown)
            said = sum(bool(each.said) for each in chosen)
            print(f"{way}: {len(chosen)} decodes of sounds, {said} with text, {shown.total()} shown {dict(shown)}")
    words = [each for each in found if each.way == "final" and each.expected is not None]
    right = [each for each in words if _is(each.said, each.expected)]
    lost = [each for each in right if not _is(each.shown, each.expected)]
    print(f"words: {len(words)}, right unguarded {len(right)}, lost {[each.expected for each in lost]}")
    if listed:
        for each in found:
            if each.expected is None and each.shown:
                print(each)


def _is(text: str, word: str | None) -> bool:
    return normalise(text) == normalise(word or "")


if __name__ == "__main__":
    main()
