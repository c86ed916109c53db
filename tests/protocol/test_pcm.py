"""Bytes to samples, samples to signals, signals to loudness."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.pcm import FRAME_SAMPLES, PcmReader, Samples, frame_rms, ms, samples_of, to_pcm, to_signal

EVERY = np.arange(-32768, 32768).astype(np.int16)
"""Every sample there is."""


def read(messages: list[tuple[int, bytes]]) -> Samples:
    """All samples of messages at offsets, silence included."""
    reader = PcmReader()
    pieces = [np.zeros(0, np.int16)]
    for offset, data in messages:
        silence, samples = reader.read(offset, data)
        assert silence >= 0
        pieces += [np.zeros(silence, np.int16), *samples]
    return np.concatenate(pieces)


def cut(data: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    """Messages of these sizes with their offsets, the last taking the rest."""
    ends = [0, *(min(int(end), len(data)) for end in np.cumsum(sizes)), len(data)]
    return [(first, data[first:end]) for first, end in pairwise(ends)]


def test_signal_is_exact() -> None:
    """Every sample survives the way to float and back."""
    assert to_pcm(to_signal(EVERY)) == EVERY.astype("<i2").tobytes()


def test_signal_range() -> None:
    """A signal is float32 in [-1, 1)."""
    signal = to_signal(EVERY)
    assert signal.dtype == np.float32
    assert signal.min() == -1
    assert 0.9999 < signal.max() < 1


def test_clipping() -> None:
    """What a resampler shot beyond full scale is clipped, not wrapped."""
    assert (
        to_pcm(np.array([1.0, 1.5, -1.5, 0.99999], np.float32))
        == np.array([32767, 32767, -32768, 32767], "<i2").tobytes()
    )


@pytest.mark.parametrize("level", [0, 1, 300, 32767])
def test_loudness(level: int) -> None:
    """A square wave's amplitude is its RMS: a threshold means what it says."""
    wave = np.resize(np.array([level, -level], np.int16), 2 * FRAME_SAMPLES)
    assert frame_rms(to_signal(wave)) == pytest.approx([level, level], rel=1e-4)


@pytest.mark.parametrize("offset", [1000, 2000, 6000, -20_000])
def test_an_offset_is_no_loudness(offset: int) -> None:
    """A microphone's DC offset leaves speech as loud as it is, and silence silent."""
    wave = np.resize(np.array([1000, -1000], np.int16), 2 * FRAME_SAMPLES)
    assert frame_rms(to_signal(wave + np.int16(offset))) == pytest.approx(1000, rel=1e-3)
    assert frame_rms(to_signal(np.full(FRAME_SAMPLES, offset, np.int16))).max() < 1


@pytest.mark.parametrize("hertz", [1, 5, 10, 15, 19])
def test_drift_is_no_loudness(hertz: int) -> None:
    """Wind and handling, below 20 Hz, stay below the threshold even at ten times its amplitude."""
    time = np.arange(16_000) / 16_000
    assert frame_rms(to_signal((3000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16))).max() < 200


@pytest.mark.parametrize("hertz", [80, 100, 150, 300])
def test_a_low_voice_keeps_its_loudness(hertz: int) -> None:
    """The lowest notes of a voice lose less than 1 dB."""
    wave = 3000 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)
    assert np.sqrt(np.mean(frame_rms(to_signal(wave.astype(np.int16))) ** 2)) > 0.89 * 3000 / np.sqrt(2)


def test_loudness_of_whole_frames() -> None:
    """What is left over after the last whole frame is not judged."""
    assert frame_rms(np.ones(FRAME_SAMPLES - 1, np.float32)).shape == (0,)
    assert frame_rms(np.ones(2 * FRAME_SAMPLES + 1, np.float32)).shape == (2,)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 7))
def test_loudness_does_not_depend_on_company(seed: int, frames: int, lead: int) -> None:
    """A frame's loudness is bit for bit the same alone, among others, and wherever it lies in memory."""
    noise = np.random.default_rng(seed).integers(-500, 500, lead + frames * FRAME_SAMPLES).astype(np.int16)
    signal = to_signal(noise)[lead:]
    alone = [frame_rms(frame.copy()).item() for frame in signal.reshape(-1, FRAME_SAMPLES)]
    assert alone == frame_rms(signal).tolist()


@pytest.mark.parametrize(("samples", "milliseconds"), [(0, 0), (7, 0), (9, 1), (16, 1), (320, 20), (16_000, 1000)])
def test_ms(samples: int, milliseconds: int) -> None:
    """Samples become the nearest ms."""
    assert ms(samples) == milliseconds


def test_samples_of() -> None:
    """Ms become samples."""
    assert samples_of(20) == FRAME_SAMPLES


@given(st.binary(max_size=400), st.lists(st.integers(0, 50), max_size=30))
def test_any_chunking(data: bytes, sizes: list[int]) -> None:
    """However bytes are cut into messages, empty and odd ones included, the samples are the same."""
    whole = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    assert whole.tolist() == read(cut(data, sizes)).tolist()


@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=30))
def test_dropped(data: bytes, parts: list[tuple[int, bool]]) -> None:
    """Dropped messages, wherever they are, become silence, and every other sample keeps its place.

    Of a sample that was dropped by half, only the half that came can be told.
    """
    messages = cut(data, [size for size, _ in parts])
    dropped = [drop for _, drop in parts] + [False]
    survived = bytes(len(data))
    for (offset, piece), drop in zip(messages, dropped, strict=True):
        if not drop:
            survived = survived[:offset] + piece + survived[offset + len(piece) :]
    expected = np.frombuffer(survived[: len(data) // 2 * 2], "<i2").tolist()
    received = read([message for message, drop in zip(messages, dropped, strict=True) if not drop]).tolist()
    lost = {
        at // 2
        for (offset, piece), drop in zip(messages, dropped, strict=True)
        if drop
        for at in range(offset, offset + len(piece))
    }
    assert len(expected) == len(received)
    for number, (actual, sample) in enumerate(zip(received, expected, strict=True)):
        assert actual == sample or (number in lost and actual in (0, sample)), number


@pytest.mark.parametrize("size", [1, 2, 3, 640, 64_001])
def test_gap(size: int) -> None:
    """The samples between two messages are counted in the silence before the second."""
    reader = PcmReader()
    reader.read(0, b"\1\0\2\0")
    silence, samples = reader.read(4 + size, bytes(8 + size % 2))
    assert silence + samples.shape[1] == (4 + size + 8 + size % 2) // 2 - 2


def test_gap_to_an_odd_offset_and_nothing() -> None:
    """An empty message after a gap of odd length does not put what follows a byte off."""
    assert read([(3, b""), (3, b"\1\2\0")]).tolist() == [0, 256, 2]
