"""CPU and word error rate of finals: the way in which the server decodes them, and other ways.

    STT_MODEL_DIR=... taskset -c 0 python -m bench.engine.whisper_recipes --folder ../shared/speech --model base

The server's voice activity detection cuts the recordings into utterances. One thread decodes them.

cpu     CPU seconds of the process for one second of speech
wer     word error rate; in Chinese, Japanese and Korean of characters; ci95: bootstrap over recordings
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from backends.whisper.model import Model, Window, choose_hardware
from backends.whisper.transcription import Request, decode_finals, decode_once
from bench.common.noisy_scenes import pink
from bench.common.offline_segmentation import segment
from bench.common.recordings import Recording, load
from bench.common.report import Row, argument_parser, print_progress, print_report, run_conditions, words
from bench.common.word_error_rate import describe, score
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import SAMPLE_RATE, Signal, to_signal

Recipe = Callable[[Model, Request], str]


def _once(beams: int, window: Window) -> Recipe:
    return lambda model, request: decode_once(model, [request], beams, window)[0].text


RECIPES: dict[str, Recipe] = {
    "30 s window, beam 5": _once(5, Window.WHOLE),
    "30 s window, greedy": _once(1, Window.WHOLE),
    "spliced, greedy": _once(1, Window.SHORT),
    "spliced, beam 5": _once(5, Window.SHORT),
    "long window, beam 5": _once(5, Window.LONG),
    "the server's finals": lambda model, request: decode_finals(model, [request], 5)[0].text,
}


def main() -> None:
    """Run the command."""
    parser = argument_parser("engine.whisper_recipes", __doc__)
    parser.add_argument("--folder", type=Path, required=True, help="recordings")
    parser.add_argument("--model", default="base", help="name of the model (base)")
    parser.add_argument("--languages", type=words, default=["en"], metavar="L,L", help="languages (en)")
    parser.add_argument("--noise-db", type=float, help="SNR with added pink noise (no noise)")
    args = parser.parse_args()
    model = Model(Path(os.environ["STT_MODEL_DIR"]) / args.model, choose_hardware("auto", "auto"), 1)
    recordings = [each for each in load(args.folder, args.languages, single=True) if each.text]
    utterances = {recording: _utterances(recording, args.noise_db) for recording in recordings}
    seconds = sum(len(signal) for each in utterances.values() for signal in each) / SAMPLE_RATE
    print(f"{args.model}, {sum(map(len, utterances.values()))} utterances, {seconds:.0f} s of speech")
    conditions = run_conditions("engine.whisper_recipes", {"model": args.model, "noise_db": str(args.noise_db)})
    rows = list[Row]()
    for name, recipe in RECIPES.items():
        print_progress(name)
        start = time.process_time()
        texts = {each: _transcribe(model, recipe, each, signals) for each, signals in utterances.items()}
        cpu = (time.process_time() - start) / seconds
        scores = [score(each.text, text, each.language) for each, text in texts.items()]
        rows.append({"decode": name, "cpu": round(cpu, 3), **describe(scores)})
    print_report(args, conditions, rows)


def _utterances(recording: Recording, noise_db: float | None) -> list[Signal]:
    """Return the utterances that the server finds in the clean recording, with the noise added."""
    samples = np.frombuffer(recording.pcm + bytes(2 * SAMPLE_RATE), "<i2")
    signal = to_signal(samples)
    if noise_db is not None:
        level = np.sqrt(np.square(to_signal(np.frombuffer(recording.pcm, "<i2"))).mean())
        signal = (signal + pink(len(signal), 0) * level / 10 ** (noise_db / 20)).astype(np.float32)
    utterances = segment(samples, EnergyVad(VadOptions().threshold)).utterances
    return [signal[each.start : each.end] for each in utterances]


def _transcribe(model: Model, recipe: Recipe, recording: Recording, signals: list[Signal]) -> str:
    language = recording.language if model.multilingual else None
    texts = (recipe(model, Request(signal, language)) for signal in signals)
    return " ".join(text for text in texts if text)


if __name__ == "__main__":
    main()
