"""Draws what the energy detector sees: a waveform, its energy, the noise floor, the threshold, and the utterances.

The scene: a recording of references/ in a quiet room, a fan that is switched on, and another recording over the fan.
Writes docs/endpoints.svg; `python -m bench.picture --out FILE` writes elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.audio import read_pcm
from bench.ears import Heard, hear
from bench.room import ROOM_RMS, pink
from bench.server import ROOT
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Samples, samples_of, to_signal

FAN_RMS = 500.0
"""16-bit units: well over the threshold, and 12 dB below the voice."""
FAN_AT_MS = 8_000
SCENE_MS = 24_000
SAID = ((800, "pauses_hotel"), (15_000, "pauses_meeting"))
"""When each recording starts, in ms."""

WIDTH, LEFT, RIGHT = 1000, 46, 10
WAVE_TOP, WAVE_HEIGHT = 40, 110
ENERGY_TOP, ENERGY_HEIGHT = 170, 190
HEIGHT = 410
_FONT = 'font-family="sans-serif" font-size="12" fill="#333"'
LOWEST_DB, HIGHEST_DB = 10.0, 84.0
"""Of the energy's axis, dB above one 16-bit unit."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the detector made of the scene, frame by frame; RMS in 16-bit units."""

    samples: Samples
    loudness: Sequence[float]
    floor: Sequence[float]
    onset: Sequence[float]
    heard: Heard


def scene() -> Samples:
    """Int16 audio, shape [n]."""
    length = samples_of(SCENE_MS)
    audio = np.random.default_rng(1).standard_normal(length) * ROOM_RMS
    fan = pink(length, 1) * FAN_RMS
    audio[samples_of(FAN_AT_MS) :] += fan[samples_of(FAN_AT_MS) :]
    for start_ms, name in SAID:
        speech = np.frombuffer(read_pcm(ROOT / "references" / f"{name}.wav"), "<i2")
        audio[samples_of(start_ms) :][: len(speech)] += speech
    samples: Samples = np.clip(np.rint(audio), -32768, 32767).astype(np.int16)
    return samples


def watch(samples: Samples) -> Seen:
    """Run the detector, and look at its floor after every frame."""
    vad, signal = EnergyVad(VadOptions().threshold), to_signal(samples)
    loudness, floor, onset = list[float](), list[float](), list[float]()
    for first in range(0, len(signal) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        loudness += vad.frames(signal[first : first + FRAME_SAMPLES])[0]
        floor.append(vad.floor)
        onset.append(vad.onset)
    return Seen(samples, loudness, floor, onset, hear(samples, EnergyVad(VadOptions().threshold)))


def draw(seen: Seen) -> str:
    """The picture as SVG."""
    frames = len(seen.loudness)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {_FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *(_utterance(seen, each.start, each.end, "#dceafc") for each in seen.heard.utterances),
        *(_utterance(seen, each.voiced_start, each.voiced_end, "#b5d3f7") for each in seen.heard.utterances),
        f'<path d="{_wave(seen.samples)}" stroke="#555" fill="none"/>',
        *_axes(len(seen.samples)),
        _line("#777", "1", (LEFT + (i + 0.5) * _span() / frames for i in range(frames)), seen.loudness),
        _line("#c0392b", "2", (LEFT + (i + 1) * _span() / frames for i in range(frames)), seen.floor),
        _line("#e08e0b", "2", (LEFT + (i + 1) * _span() / frames for i in range(frames)), seen.onset),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _span() -> int:
    return WIDTH - LEFT - RIGHT


def _x(sample: int, samples: int) -> float:
    return LEFT + sample * _span() / samples


def _y(rms: float) -> float:
    decibels = 20 * np.log10(max(rms, 1.0))
    part = (min(max(decibels, LOWEST_DB), HIGHEST_DB) - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB)
    return float(ENERGY_TOP + ENERGY_HEIGHT * (1 - part))


def _utterance(seen: Seen, start: int, end: int, colour: str) -> str:
    left, right = (_x(each, len(seen.samples)) for each in (start, end))
    height = ENERGY_TOP + ENERGY_HEIGHT - WAVE_TOP
    return f'<rect x="{left:.1f}" y="{WAVE_TOP}" width="{right - left:.1f}" height="{height}" fill="{colour}"/>'


def _wave(samples: Samples) -> str:
    """Least and largest sample of every pixel."""
    middle, scale = WAVE_TOP + WAVE_HEIGHT / 2, WAVE_HEIGHT / 2 / 20_000
    strokes = []
    for pixel, part in enumerate(np.array_split(samples, _span())):
        top, bottom = middle - part.max() * scale, middle - part.min() * scale
        strokes.append(f"M{LEFT + pixel} {top:.1f}V{bottom + 0.5:.1f}")
    return "".join(strokes)


def _line(colour: str, width: str, xs: Iterable[float], levels: Sequence[float]) -> str:
    points = " ".join(f"{x:.1f},{_y(level):.1f}" for x, level in zip(xs, levels, strict=True))
    return f'<polyline points="{points}" stroke="{colour}" stroke-width="{width}" fill="none"/>'


def _axes(samples: int) -> list[str]:
    bottom = ENERGY_TOP + ENERGY_HEIGHT
    lines = [_text(LEFT - 6, _y(10 ** (level / 20)) + 4, f"{level} dB", "end") for level in (20, 40, 60, 80)]
    for second in range(0, samples // SAMPLE_RATE + 1, 2):
        x = _x(second * SAMPLE_RATE, samples)
        lines.append(f'<path d="M{x:.1f} {bottom}v5" stroke="#999"/>')
        lines.append(_text(x, bottom + 18, f"{second} s", "middle"))
    fan = _x(samples_of(FAN_AT_MS), samples)
    lines.append(f'<path d="M{fan:.1f} {WAVE_TOP}V{bottom}" stroke="#2e7d32" stroke-dasharray="5 4"/>')
    lines.append(_text(fan + 5, WAVE_TOP + 12, "a fan is switched on", "start"))
    return lines


def _legend() -> list[str]:
    names = (
        ("#777", "RMS of 20 ms"),
        ("#c0392b", "noise floor"),
        ("#e08e0b", "voice begins here"),
        ("#b5d3f7", "voice of an utterance"),
        ("#dceafc", "its audio"),
    )
    lines = []
    for place, (colour, name) in enumerate(names):
        x = LEFT + 190 * place
        lines.append(f'<rect x="{x}" y="14" width="14" height="8" fill="{colour}"/>')
        lines.append(_text(x + 20, 22, name, "start"))
    return lines


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def main() -> None:
    """Run the command."""
    made = argparse.ArgumentParser(
        prog="python -m bench.picture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, default=ROOT / "docs" / "endpoints.svg", help="(docs/endpoints.svg)")
    given = made.parse_args()
    given.out.write_text(draw(watch(scene())), encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    main()
