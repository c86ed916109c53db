"""Draws docs/endpoints.svg, `python docs/endpoints.py`: what the energy detector does with a waveform.

It shows the RMS, the noise floor, the threshold and the utterances.

The audio: a recording of references/ in a quiet room, a fan that is switched on, and another recording with the fan.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.common.noisy_scenes import ROOM_RMS, pink  # noqa: E402
from bench.common.offline_segmentation import segment  # noqa: E402
from bench.common.recordings import VOICED_RMS, read_pcm  # noqa: E402
from inference.vad import EnergyVad  # noqa: E402
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Samples, samples_of, to_signal  # noqa: E402

FAN_RMS = 500.0  # 16-bit units: above the threshold, and 12 dB below the voice
FAN_AT_MS = 8_000
LENGTH_MS = 24_000
RECORDINGS = ((800, "pauses_hotel"), (15_000, "pauses_meeting"))  # start in ms, and name
WIDTH, HEIGHT, LEFT, RIGHT = 1000, 410, 46, 10
WAVE_TOP, WAVE_HEIGHT = 40, 110
ENERGY_TOP, ENERGY_HEIGHT = 170, 190
LOWEST_DB, HIGHEST_DB = 10.0, 84.0  # range of the axis, in dB above one 16-bit unit
COLOURS = ("#777", "#c0392b", "#e08e0b", "#b5d3f7", "#dceafc")
LEGEND = ("RMS of 20 ms", "noise floor", "threshold of voice", "voice of an utterance", "its audio")
FONT = 'font-family="sans-serif" font-size="12" fill="#333"'
_SPAN = WIDTH - LEFT - RIGHT
_BOTTOM = ENERGY_TOP + ENERGY_HEIGHT


def audio() -> Samples:
    """The audio, int16, shape [n]."""
    length, fan_at = samples_of(LENGTH_MS), samples_of(FAN_AT_MS)
    mixed = np.random.default_rng(1).standard_normal(length) * ROOM_RMS
    mixed[fan_at:] += pink(length, 1)[fan_at:] * FAN_RMS
    for start_ms, name in RECORDINGS:
        speech = np.frombuffer(read_pcm(ROOT / "references" / f"{name}.wav"), "<i2")
        mixed[samples_of(start_ms) :][: len(speech)] += speech
    samples: Samples = np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)
    return samples


def trace(samples: Samples) -> tuple[list[float], list[float], list[float]]:
    """RMS, noise floor and threshold of the energy detector after each frame, in 16-bit units."""
    vad, signal = EnergyVad(VOICED_RMS), to_signal(samples)
    rms, floor, onset = list[float](), list[float](), list[float]()
    for first in range(0, len(signal) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        rms += vad.frames(signal[first : first + FRAME_SAMPLES])[0]
        floor.append(vad.floor)
        onset.append(vad.onset)
    return rms, floor, onset


def draw(samples: Samples) -> str:
    """The picture as SVG."""
    rms, floor, onset = trace(samples)
    utterances = segment(samples, EnergyVad(VOICED_RMS)).utterances
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *(_span(each.start, each.end, COLOURS[4]) for each in utterances),
        *(_span(each.voiced_start, each.voiced_end, COLOURS[3]) for each in utterances),
        f'<path d="{_waveform(samples)}" stroke="#555" fill="none"/>',
        *_axes(),
        *(_line(colour, values) for colour, values in zip(COLOURS, (rms, floor, onset), strict=False)),
        *_legend(),
        "</svg>\n",
    ]
    return "\n".join(lines)


def _x(sample: int) -> float:
    return LEFT + sample * _SPAN / samples_of(LENGTH_MS)


def _y(rms: float) -> float:
    decibels = float(np.clip(20 * np.log10(max(rms, 1.0)), LOWEST_DB, HIGHEST_DB))
    return _BOTTOM - ENERGY_HEIGHT * (decibels - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB)


def _span(start: int, end: int, colour: str) -> str:
    size = f'width="{_x(end) - _x(start):.1f}" height="{_BOTTOM - WAVE_TOP}"'
    return f'<rect x="{_x(start):.1f}" y="{WAVE_TOP}" {size} fill="{colour}"/>'


def _waveform(samples: Samples) -> str:
    """A vertical line from the smallest to the largest sample of each pixel."""
    middle, scale = WAVE_TOP + WAVE_HEIGHT / 2, WAVE_HEIGHT / 2 / 20_000
    return "".join(
        f"M{LEFT + pixel} {middle - part.max() * scale:.1f}V{middle - part.min() * scale + 0.5:.1f}"
        for pixel, part in enumerate(np.array_split(samples, _SPAN))
    )


def _line(colour: str, values: Sequence[float]) -> str:
    points = " ".join(f"{LEFT + i * _SPAN / len(values):.1f},{_y(value):.1f}" for i, value in enumerate(values, 1))
    return f'<polyline points="{points}" stroke="{colour}" stroke-width="1.5" fill="none"/>'


def _axes() -> Iterator[str]:
    for level in (20, 40, 60, 80):
        yield _text(LEFT - 6, _y(10 ** (level / 20)) + 4, f"{level} dB", "end")
    for second in range(0, LENGTH_MS // 1000 + 1, 2):
        x = _x(second * SAMPLE_RATE)
        yield f'<path d="M{x:.1f} {_BOTTOM}v5" stroke="#999"/>'
        yield _text(x, _BOTTOM + 18, f"{second} s", "middle")
    fan = _x(samples_of(FAN_AT_MS))
    yield f'<path d="M{fan:.1f} {WAVE_TOP}V{_BOTTOM}" stroke="#2e7d32" stroke-dasharray="5 4"/>'
    yield _text(fan + 5, WAVE_TOP + 12, "a fan is switched on")


def _legend() -> Iterator[str]:
    for place, (colour, name) in enumerate(zip(COLOURS, LEGEND, strict=True)):
        x = LEFT + 190 * place
        yield f'<rect x="{x}" y="14" width="14" height="8" fill="{colour}"/>'
        yield _text(x + 20, 22, name)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    (ROOT / "docs" / "endpoints.svg").write_text(draw(audio()), encoding="utf-8")
