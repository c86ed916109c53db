"""What a final costs and how right it is: the server's recipe next to the plain 30-second decode.

    STT_MODEL_DIR=... taskset -c 0 python -m bench.whisper.recipes --folder ../shared/speech --model base

The recordings are cut by the server's own voice activity detection. One thread; CPU is that of the process. Word
errors after whisper-normalizer's rules (English or basic), characters for zh, ja and ko.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from backends.whisper.model import Model, Window, choose_hardware
from backends.whisper.transcription import Decoded, Request, decode_finals, decode_once
from bench.common.noisy_scenes import pink
from bench.common.offline_segmentation import segment
from bench.common.recordings import Recording as Clip
from bench.common.recordings import load
from bench.common.word_error_rate import edits
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import SAMPLE_RATE, Signal, to_signal

_BY_CHARACTER = frozenset({"zh", "ja", "ko"})
Recipe = Callable[[Model, Request], str]


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """One recording as the server cuts it."""

    clip: Clip
    utterances: list[Signal]


def _once(model: Model, request: Request, beams: int, window: Window) -> str:
    (decoded,) = decode_once(model, [request], beams, window)
    return _text(decoded)


def _text(decoded: Decoded) -> str:
    return decoded.text


RECIPES: dict[str, Recipe] = {
    "30 s window, beam 5": lambda model, request: _once(model, request, 5, Window.WHOLE),
    "30 s window, greedy": lambda model, request: _once(model, request, 1, Window.WHOLE),
    "spliced, greedy": lambda model, request: _once(model, request, 1, Window.SHORT),
    "spliced, beam 5": lambda model, request: _once(model, request, 5, Window.SHORT),
    "long window, beam 5": lambda model, request: _once(model, request, 5, Window.LONG),
    "the server's finals": lambda model, request: decode_finals(model, [request], 5)[0].text,
}


def main() -> None:
    """Run the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--folder", type=Path, required=True)
    made.add_argument("--model", default="base")
    made.add_argument("--languages", default="en", help="separated by commas")
    made.add_argument("--noise-db", type=float, help="speech over pink noise; without: as recorded")
    made.add_argument("--recipes", default=",".join(map(str, range(len(RECIPES)))), help="numbers, from 0")
    given = made.parse_args()
    model = Model(Path(os.environ["STT_MODEL_DIR"]) / given.model, choose_hardware("auto", "auto"), 1)
    languages = given.languages.split(",")
    clips = [each for each in load(given.folder, single=True) if each.text and each.language in languages]
    spoken = [_spoken(clip, given.noise_db) for clip in clips]
    seconds = sum(len(signal) for each in spoken for signal in each.utterances) / SAMPLE_RATE
    print(f"{given.model}, {len(clips)} recordings, {sum(len(each.utterances) for each in spoken)} utterances,")
    print(f"{seconds:.0f} s of speech, noise: {given.noise_db} dB")
    for number in map(int, given.recipes.split(",")):
        name = list(RECIPES)[number]
        began = time.process_time()
        texts = [_transcribe(model, each, RECIPES[name]) for each in spoken]
        cpu = (time.process_time() - began) / seconds
        for kind in (False, True):
            chosen = [(e, t) for e, t in zip(spoken, texts, strict=True) if (e.clip.language in _BY_CHARACTER) == kind]
            if chosen:
                _report(f"{name}{' (characters)' if kind else ''}", chosen, cpu)


def _report(name: str, chosen: Sequence[tuple[Spoken, str]], cpu: float) -> None:
    pairs = [
        (_units(each.clip.text or "", each.clip.language), _units(text, each.clip.language)) for each, text in chosen
    ]
    errors, total = sum(edits(*pair) for pair in pairs), sum(len(expected) for expected, _ in pairs)
    print(f"{name:34} errors {errors:3} of {total} = {errors / total:.3f}   CPU {cpu:.3f} s a second of speech")


def _spoken(clip: Clip, noise_db: float | None) -> Spoken:
    samples = np.frombuffer(clip.pcm + bytes(2 * SAMPLE_RATE), "<i2")
    signal = to_signal(samples)
    if noise_db is not None:
        noise = pink(len(signal), 0)
        level = np.sqrt(np.square(to_signal(np.frombuffer(clip.pcm, "<i2"))).mean())
        noise *= level / np.sqrt(np.square(noise).mean()) / 10 ** (noise_db / 20)
        noisy = (signal + noise).astype(np.float32)
    else:
        noisy = signal
    cuts = segment(samples, EnergyVad(VadOptions().threshold)).utterances
    return Spoken(clip, [noisy[each.start : each.end] for each in cuts])


def _transcribe(model: Model, spoken: Spoken, recipe: Recipe) -> str:
    language = spoken.clip.language if model.multilingual else None
    texts = (recipe(model, Request(signal, language)) for signal in spoken.utterances)
    return " ".join(text for text in texts if text)


def _units(text: str, language: str) -> list[str]:
    normal = EnglishTextNormalizer()(text) if language == "en" else BasicTextNormalizer()(text)
    return list(normal.replace(" ", "")) if language in _BY_CHARACTER else normal.split()


if __name__ == "__main__":
    main()
