"""How often a stream that is labelled wrongly is noticed, and how often one that is labelled rightly is blamed.

    python -m tools.wrong_labels --folder DIR

Each recording is one stream in every kind; short ones are repeated up to 20 s, so that there is enough speech.

warned   streams that got a warning, of how many; ms: median CPU of the checks, once in a connection

--fit fits the weights of `protocol.speech_speed` anew, to the recordings at 0.87 to 1.15 times their speed, and at
twice that; it prints how many it notices with the weights of the other speakers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from bench.common.noisy_scenes import speaker
from bench.common.recordings import Recording, load
from bench.common.report import Row, table
from bench.common.stats import median
from protocol import speech_speed
from protocol.pcm import SAMPLE_RATE, Signal, to_signal
from protocol.stream_audio import StreamFormat
from protocol.stream_beginning import StreamBeginning
from tools.labelled_streams import Labelled, rightly, sounds, telephone, tilted, wrongly

_SECONDS = 20
_PIECE = 4 * SAMPLE_RATE
_SPEEDS = (0.87, 1.0, 1.15)
_RIDGE = 0.1
_THRESHOLDS = (0.75, 1.0, 1.25, 1.5)


def fault(stream: Labelled) -> str | None:
    """Return the fault that the server finds in a stream; None without one."""
    beginning = StreamBeginning(StreamFormat(stream.rate, stream.codec))
    beginning.take(stream.data)
    beginning.finish()
    return beginning.fault


def repeated(pcm: bytes) -> Signal:
    """Return 20 s of a recording, from its first sound on."""
    samples = np.frombuffer(pcm, "<i2")
    return to_signal(np.resize(samples[np.argmax(np.abs(samples) > 300) :], _SECONDS * SAMPLE_RATE))


def measure(label: str, streams: Sequence[Labelled]) -> Row:
    """Return a row of the table."""
    times, warned = [], 0
    for stream in streams:
        start = time.process_time()
        warned += fault(stream) is not None
        times.append(time.process_time() - start)
    return {
        "label": label,
        "kind": streams[0].kind,
        "warned": f"{warned} of {len(streams)}",
        "ms": 1000 * (median(times) or 0),
    }


def _speeds(signal: Signal) -> Iterator[tuple[bool, npt.NDArray[np.floating] | None]]:
    """Yield whether a piece of 4 s is twice as fast, and its features: at several speeds and qualities."""
    noise = np.random.default_rng(1).normal(0, signal.std() * 0.2, len(signal)).astype(np.float32)
    for heard in (signal, telephone(signal), tilted(signal, -6), tilted(signal, 6), signal + noise):
        for speed in _SPEEDS:
            for factor in (1, 2):
                played = soxr.resample(heard, SAMPLE_RATE, round(SAMPLE_RATE / speed / factor))
                for first in (0, _PIECE):
                    yield factor == 2, speech_speed.features(played[first : first + _PIECE], SAMPLE_RATE)


def _discriminant(features: npt.NDArray[np.floating], fast: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Return the weights and the offset of Fisher's linear discriminant, regularised."""
    scale = features.std(axis=0)
    scaled = features / scale
    slow_mean, fast_mean = scaled[~fast].mean(axis=0), scaled[fast].mean(axis=0)
    spread = np.cov(scaled[~fast].T) + np.cov(scaled[fast].T) + _RIDGE * np.eye(len(scale))
    weights: npt.NDArray[np.floating] = np.linalg.solve(spread, fast_mean - slow_mean)
    return np.append(weights / scale, -weights @ (slow_mean + fast_mean) / 2)


def fit(recordings: Sequence[Recording]) -> None:
    """Print the weights, and the scores of speakers that the weights were not fitted to."""
    rows = [(speaker(each.name), *row) for each in recordings for row in _speeds(repeated(each.pcm))]
    kept = [(name, fast, features) for name, fast, features in rows if features is not None]
    names, fast = np.array([row[0] for row in kept]), np.array([row[1] for row in kept])
    features = np.array([row[2] for row in kept])
    scores = np.zeros(len(kept))
    for name in set(names):
        others = names != name
        weights = _discriminant(features[others], fast[others])
        scores[~others] = features[~others] @ weights[:-1] + weights[-1]
    print("weights and offset:", _discriminant(features, fast).round(3).tolist())
    print(f"highest of {sum(~fast)} at their own speed: {scores[~fast].max():.2f}")
    for threshold in _THRESHOLDS:
        slow, quick = (scores[~fast] > threshold).sum(), (scores[fast] > threshold).mean()
        print(f"above {threshold}: {quick:.2f} of the fast ones, {slow} of the others")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="recordings and a manifest.jsonl")
    parser.add_argument("--fit", action="store_true", help="fit the weights of protocol.speech_speed")
    args = parser.parse_args()
    recordings = load(args.folder)
    if args.fit:
        fit(recordings)
        return
    signals = [repeated(recording.pcm) for recording in recordings]
    rows = [measure("right", kind) for kind in zip(*map(list, map(rightly, signals)), strict=True)]
    rows += [measure("right", [sound]) for rate in (8_000, 16_000, 48_000) for sound in sounds(rate)]
    rows += [measure("wrong", kind) for kind in zip(*map(list, map(wrongly, signals)), strict=True)]
    print(table(rows))


if __name__ == "__main__":
    main()
