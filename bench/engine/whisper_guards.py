"""Sounds without words give no text, and short words are not lost: what the thresholds in hallucination.py do.

    STT_MODEL_DIR=... python -m bench.engine.whisper_guards --model base --words FOLDER

200 sounds of eight kinds go through the server's voice activity detection; what opens it is decoded as a final, and
each beginning of it, second by second, as a partial. FOLDER holds WAV files of single words, named WORD-VOICE.wav
(16 kHz mono). A word is lost if the unguarded decode is right and the guarded one is empty. --list shows what came.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from backends.whisper.model import Model, Window, choose_hardware
from backends.whisper.scheduler import FIRST_PARTIAL_SECONDS
from backends.whisper.transcription import Request, decode_finals, decode_once, decode_partials
from bench.common.offline_segmentation import utterances
from bench.common.recordings import read_pcm
from bench.common.report import Row, conditions, parser, print_report
from bench.common.word_error_rate import normalise
from protocol.pcm import SAMPLE_RATE, Samples, Signal
from tests.backends.wordless_sounds import sounds


@dataclass(frozen=True, slots=True)
class DecodeRecord:
    """One decode of one utterance."""

    kind: str  # of the sound; the word itself, for a word
    way: str  # `final` or `partial` of a sound, or `word`
    seconds: float
    said: str  # unguarded
    shown: str  # guarded
    no_speech_prob: float
    mean_log_prob: float


def main() -> None:
    """Run the command."""
    made = parser("engine.whisper_guards", __doc__)
    made.set_defaults(seed=0)  # the thresholds were set with 0
    made.add_argument("--model", default="base")
    made.add_argument("--each", type=int, default=25, help="sounds of each kind (25)")
    made.add_argument("--words", type=Path)
    made.add_argument("--list", action="store_true")
    given = made.parse_args()
    model = Model(Path(os.environ["STT_MODEL_DIR"]) / given.model, choose_hardware("auto", "auto"), 1)
    ran = conditions("engine.whisper_guards", {"model": given.model})
    found = list(_sounds(model, given.each, given.seed))
    for path in sorted(given.words.glob("*.wav")) if given.words else ():
        first = _padded_utterances(np.frombuffer(read_pcm(path), "<i2"))[:1]
        found += [_decode(model, path.stem.rsplit("-", 1)[0], "word", signal) for signal in first]
    listed = [str(each) for each in found if given.list and each.way != "word" and each.shown]
    print_report(given, ran, _rows(found), listed, decodes=[asdict(each) for each in found])


def _sounds(model: Model, each: int, seed: int) -> Iterator[DecodeRecord]:
    opened: Counter[str] = Counter()
    for kind, samples in sounds(each, seed):
        cuts = _padded_utterances(samples)
        opened[kind] += bool(cuts)
        for signal in cuts:
            yield _decode(model, kind, "final", signal)
            for end in range(round(FIRST_PARTIAL_SECONDS * SAMPLE_RATE), len(signal), SAMPLE_RATE):
                yield _decode(model, kind, "partial", signal[:end])
    print(f"sounds that open the detector, of {each} each: {dict(opened)}, together {opened.total()}")


def _padded_utterances(samples: Samples) -> list[Signal]:
    return utterances(np.pad(samples, SAMPLE_RATE))


def _decode(model: Model, kind: str, way: str, signal: Signal) -> DecodeRecord:
    request, partial = Request(signal, "en"), way == "partial"
    (once,) = decode_once(model, [request], 1 if partial else 5, Window.SHORT)
    (shown,) = decode_partials(model, [request]) if partial else decode_finals(model, [request], 5)
    prob, log_prob = once.hypothesis.no_speech_prob, once.hypothesis.mean_log_prob
    return DecodeRecord(kind, way, len(signal) / SAMPLE_RATE, once.text, shown.text, prob, log_prob)


def _rows(found: Sequence[DecodeRecord]) -> list[Row]:
    """Decodes with text, unguarded and guarded; for words, those with the right text."""
    rows = list[Row]()
    for way in dict.fromkeys(each.way for each in found):
        mine = [each for each in found if each.way == way]
        said = [each for each in mine if (_is(each.said, each.kind) if way == "word" else each.said)]
        shown = Counter(each.kind for each in mine if (_is(each.shown, each.kind) if way == "word" else each.shown))
        lost = [each.kind for each in said if not _is(each.shown, each.kind)] if way == "word" else None
        told = {"unguarded": len(said), "guarded": shown.total(), "lost": lost}
        rows.append({"decodes of": way, "all": len(mine), **told, "kinds": None if way == "word" else dict(shown)})
    return rows


def _is(text: str, word: str) -> bool:
    return normalise(text) == normalise(word)


if __name__ == "__main__":
    main()
