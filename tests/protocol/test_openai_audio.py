"""OpenAI's audio formats."""

from __future__ import annotations

import base64
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.openai_audio import AudioDecoder, NotBase64


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(decoder: AudioDecoder, *messages: bytes) -> bytes:
    return b"".join(b"".join(decoder.decode(_text(each))) for each in messages) + decoder.flush()


def _tone(rate: int, seconds: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return (np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 440 / rate) * 8000).astype(np.int16)


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
def test_any_rate_becomes_16_khz(rate: int) -> None:
    """A tone keeps its length, pitch and loudness."""
    samples = np.frombuffer(_decoded(AudioDecoder("audio/pcm", rate), _tone(rate).tobytes()), "<i2")
    expected = _tone(16_000)

    assert abs(len(samples) - 16_000) <= 1
    assert np.abs(samples[200:15_800].astype(float) - expected[200:15_800]).max() < 100


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=8))
def test_messages_may_be_cut_anywhere(sizes: list[int]) -> None:
    """Even in the middle of a sample, the audio is the same."""
    pcm = _tone(24_000, sum(sizes) / 48_000 + 1).tobytes()
    edges = [0, *np.cumsum(sizes).tolist(), len(pcm)]
    parts = [pcm[first:last] for first, last in pairwise(edges)]
    whole = np.frombuffer(_decoded(AudioDecoder("audio/pcm", 24_000), pcm), "<i2").astype(int)
    cut = np.frombuffer(_decoded(AudioDecoder("audio/pcm", 24_000), *parts), "<i2").astype(int)

    assert len(whole) == len(cut)
    assert np.abs(whole - cut).max(initial=0) <= 2  # of 65536: the resampler dithers


@pytest.mark.parametrize(
    ("mime", "codes", "expected"),
    [
        # ITU-T G.711, tables 1a and 2a: decoder output values, in 16 bits
        ("audio/pcmu", [0xFF, 0x7F, 0x80, 0x00, 0xEF], [0, 0, 32_124, -32_124, 132]),
        ("audio/pcma", [0xD5, 0x55, 0xAA, 0x2A, 0xC5], [8, -8, 32_256, -32_256, 264]),
    ],
)
def test_g711(mime: str, codes: list[int], expected: list[int]) -> None:
    """Every tenth of a second of one code is its sample's value."""
    for code, value in zip(codes, expected, strict=True):
        samples = np.frombuffer(_decoded(AudioDecoder(mime, 8_000), bytes([code]) * 800), "<i2")
        assert abs(len(samples) - 1_600) <= 1
        assert np.abs(samples[400:1_200].astype(int) - value).max() <= 2


def test_16_khz_is_left_as_it_is() -> None:
    """Bit by bit."""
    pcm = _tone(16_000).tobytes()
    assert _decoded(AudioDecoder("audio/pcm", 16_000), pcm[:1001], pcm[1001:]) == pcm


@pytest.mark.parametrize("text", ["?", "QUJD?", "data:audio/wav;base64,QUJD", "QUI"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    """And lines, as in MIME, are not."""
    with pytest.raises(NotBase64):
        AudioDecoder("audio/pcm", 16_000).decode(text)
    assert b"".join(AudioDecoder("audio/pcm", 16_000).decode("QUJD\nREVG\n")) == b"ABCDEF"
