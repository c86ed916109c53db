"""Detects, in the first seconds of a stream, that its audio is not what the query says. Pure numpy.

Samples that are decoded right are smooth: each is near the one before. Decoded wrong they resemble white noise. So a
mistake is reported only if the samples are rough as labelled, and smooth in another format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.fft import rfft

from protocol import speech_speed
from protocol.pcm import Signal, to_signal
from protocol.sample_codecs import PCM_CODECS, SAMPLE_BYTES, PcmCodec, decode_samples

CHECKED_SECONDS = 4.0
"""Seconds of audio that are checked, from the first sound on."""
QUIET = 0.01
"""Level, as a share of full scale, up to which audio is too quiet to check."""

_Interpretation = Literal[PcmCodec, "big-endian", "shifted"]
"""A format in which bytes may be read; the last two are mistakes with `pcm_s16le`."""
_S16_INTERPRETATIONS: Sequence[_Interpretation] = ("big-endian", "shifted", *PCM_CODECS)
_DESCRIPTIONS: Mapping[_Interpretation, str] = MappingProxyType(
    {"big-endian": "big-endian", "shifted": "shifted by one byte (one is missing, or one is too many)"}
)
_G711: Sequence[PcmCodec] = ("mulaw", "alaw")
_INVALID_ROUGHNESS = 9.0
"""Roughness that is assumed for floats that cannot be samples."""
_ROUGH, _ROUGHEST, _SMOOTH, _SMOOTHER = 0.5, 1.4, 0.3, 3.0
"""Roughness of samples decoded wrong: least and largest value; of samples decoded right: largest value; least ratio of
the two. Only a high tone is rougher."""
_LOUD = 0.1
"""Least level of random bits, as a share of full scale."""
_ROUGH_G711, _SMOOTHER_G711 = 0.9, 1.15
"""Least roughness, and least ratio, for mu-law decoded as A-law or the reverse, which is less rough."""
_EQUAL = 0.25
"""Difference of two histograms of bytes, at most 2, up to which they are alike."""
_CODEC_BYTES = 64_000
"""Bytes that are checked for a wrong codec."""
_MIRROR_SAMPLES = 64_000
"""Samples whose spectrum is checked for two interleaved channels."""
_MIRROR_FRAMES = 64
"""Frames of that spectrum, or fewer of a short signal."""
_RANDOM_BITS = 7.9
"""Least bits of information in a byte of compressed audio. The loudest Gaussian noise has about 7.4."""
_SMALL_FLOAT, _LARGE_FLOAT = 1e-9, 8.0
"""Range of the absolute values of float samples. At most `_SMALL_SHARE` of real samples are outside."""
_PAIR_RATIO = 0.15
"""Ratio of the difference within pairs of samples to that between pairs, up to which both channels are alike."""
_MIRROR_RATIO = 8.0
"""Least ratio of the energy at both ends of the spectrum to that in the middle, in two interleaved channels."""
_MIN_CORRELATION = 0.7
"""Least correlation of the levels of both ends."""
_FRAME = 512
_MIN_SAMPLES = 4_000
_MIN_RANDOM_BYTES = 20_000
_SMALL_SHARE = 0.02
_TOO_FAST = 1.25
"""From `speech_speed.double_speed_score`."""


def checks(data: bytes, codec: PcmCodec, rate: int, *, channels: int = 1) -> Sequence[Callable[[], str | None]]:
    """Checks that return the likely mistake, in words; None: none. The longest takes about 3 ms, at 44.1 kHz 6 ms.

    Each decodes the audio itself, so that checks that wait hold only its bytes.

    `data` are the first seconds of sound, beginning with a whole sample, labelled with `codec`, `rate` in Hz and
    `channels`.
    """
    parts = [partial(_channel, data, codec, channels, index) for index in range(channels)]
    formats = [partial(_wrong_format, part, codec, channels) for part in parts]
    return (*formats, *(partial(_wrong_rate, part, codec, rate) for part in parts))


def _channel(data: bytes, codec: PcmCodec, channels: int, index: int) -> bytes:
    """The bytes of one of the interleaved channels."""
    width = SAMPLE_BYTES[codec]
    whole = np.frombuffer(data[: len(data) // (width * channels) * width * channels], np.uint8)
    return whole.reshape(-1, channels, width)[:, index].tobytes()


def _sound(data: bytes, codec: PcmCodec) -> Signal | None:
    """The bytes decoded as labelled; None: they are too short or too quiet."""
    signal = decode_samples(data, codec).clip(-1, 1)
    return signal if _is_sound(signal) else None


def _wrong_format(channel: Callable[[], bytes], codec: PcmCodec, channels: int) -> str | None:
    data = channel()
    signal = _sound(data, codec)
    if signal is None:
        return None
    return _misread(data[:_CODEC_BYTES], codec) or (_interleaved(signal) if channels == 1 else None)


def _wrong_rate(channel: Callable[[], bytes], codec: PcmCodec, rate: int) -> str | None:
    signal = _sound(channel(), codec)
    if signal is not None and speech_speed.double_speed_score(signal, rate) > _TOO_FAST:
        return f"the speech is much too fast: its sample_rate is probably lower than {rate} Hz"
    return None


def _is_sound(signal: Signal) -> bool:
    return len(signal) >= _MIN_SAMPLES and float(np.abs(signal).max()) > QUIET


def _misread(data: bytes, codec: PcmCodec) -> str | None:
    """Describe what the bytes are if they are not `codec`; None: they may be."""
    rough = _roughness_as(codec, data)
    if rough is None and codec != "pcm_f32le":
        return None  # too quiet
    return next(filter(None, _mistakes(data, codec, _INVALID_ROUGHNESS if rough is None else rough)), None)


def _mistakes(data: bytes, codec: PcmCodec, rough: float) -> Iterator[str | None]:
    """Look for each mistake in turn, if `rough`, the roughness as labelled, leaves it possible."""
    if codec in _G711 and rough < _ROUGH_G711:
        yield _smoother(_G711, data, codec, rough / _SMOOTHER_G711)
    if _looks_compressed(data):
        yield f"the bytes look compressed or encrypted, not like {codec}"
    if codec == "pcm_s16le" and _has_equal_halves(data):
        yield _smoother(_G711, data, codec, rough)
    is_noise = _ROUGH < rough < _ROUGHEST and _level(decode_samples(data, codec)) > _LOUD
    if is_noise or rough == _INVALID_ROUGHNESS:
        interpretations = _S16_INTERPRETATIONS if codec == "pcm_s16le" else PCM_CODECS
        yield _smoother(interpretations, data, codec, min(_SMOOTH, rough / _SMOOTHER))


def _smoother(interpretations: Sequence[_Interpretation], data: bytes, codec: PcmCodec, limit: float) -> str | None:
    """Describe the format in which the bytes are smoothest, if their roughness in it is less than `limit`."""
    roughness = {each: _roughness_as(each, data) for each in interpretations}
    smooth = {each: rough for each, rough in roughness.items() if rough is not None and rough < limit}
    if not smooth:
        return None
    interpretation = min(smooth, key=lambda each: smooth[each])
    return f"the samples look {_DESCRIPTIONS.get(interpretation, f'like {interpretation}')}, not like {codec}"


def _roughness_as(interpretation: _Interpretation, data: bytes) -> float | None:
    """Roughness of the bytes in a format; None: they are no sound in it."""
    signal = _read_as(interpretation, data[: len(data) // 4 * 4])
    return _roughness(signal) if signal is not None and _is_sound(signal) else None


def _read_as(interpretation: _Interpretation, data: bytes) -> Signal | None:
    match interpretation:
        case "big-endian":
            return to_signal(np.frombuffer(data, ">i2"))
        case "shifted":
            return decode_samples(data[1:-1], "pcm_s16le")
        case "pcm_f32le":
            signal = decode_samples(data, interpretation)
            return signal if _are_real_floats(signal) else None
        case _:
            return decode_samples(data, interpretation)


def _are_real_floats(signal: Signal) -> bool:
    sizes = np.abs(signal)
    return bool(np.mean((sizes > _LARGE_FLOAT) | ((sizes < _SMALL_FLOAT) & (sizes > 0))) < _SMALL_SHARE)


def _level(signal: Signal) -> float:
    return float(np.sqrt(np.mean(np.square(np.clip(signal, -1, 1)))))


def _roughness(signal: Signal) -> float:
    """1 for white noise, near 0 for smooth samples, 2 if the sign changes with each sample."""
    clipped = np.clip(signal, -1, 1)
    variance = float(clipped.var())
    return float(np.mean(np.diff(clipped) ** 2)) / (2 * variance) if variance > 0 else 0.0


def _shares(data: bytes) -> npt.NDArray[np.floating]:
    """Histogram of the bytes, as shares."""
    shares: npt.NDArray[np.floating] = np.bincount(np.frombuffer(data, np.uint8), minlength=256) / len(data)
    return shares


def _looks_compressed(data: bytes) -> bool:
    shares = _shares(data)
    bits = -float(np.sum(shares * np.log2(np.maximum(shares, 1 / len(data)))))
    return len(data) >= _MIN_RANDOM_BYTES and bits > _RANDOM_BITS


def _has_equal_halves(data: bytes) -> bool:
    """Whether even and odd bytes are distributed alike, unlike the low and high bytes of samples; false for silence."""
    even, odd = _shares(data[::2]), _shares(data[1::2])
    return (even[0] + odd[0]) / 2 < _SMALL_SHARE and float(np.abs(even - odd).sum()) < _EQUAL


def _interleaved(signal: Signal) -> str | None:
    """Describe the mistake if two channels were labelled as one."""
    squares = np.square(np.diff(signal))
    within, between = float(squares[::2].mean()), float(squares[1::2].mean())
    if within >= _PAIR_RATIO * between and not _is_mirrored(signal[:_MIRROR_SAMPLES]):
        return None
    is_smooth = min(_roughness(signal[::2]), _roughness(signal[1::2])) <= _SMOOTH
    return "the audio looks like two interleaved channels, not like one" if is_smooth else None


def _is_mirrored(signal: Signal) -> bool:
    """Whether the upper half of the spectrum mirrors the lower half, as with two interleaved channels."""
    hop = max(_FRAME // 2, len(signal) // _MIRROR_FRAMES)
    frames = np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::hop]
    power = np.abs(rfft(frames * np.hanning(_FRAME).astype(np.float32), axis=1)) ** 2 + _SMALL_SHARE * _SMALL_SHARE
    eighth = _FRAME // 16
    low, high = power[:, 1:eighth].sum(axis=1), power[:, -eighth:].sum(axis=1)
    middle = power[:, 3 * eighth : 5 * eighth].sum(axis=1) / 2
    if min(low.sum(), high.sum()) < _MIRROR_RATIO * middle.sum():
        return False
    levels = np.log(low), np.log(high)
    return min(each.std() for each in levels) > 0 and float(np.corrcoef(*levels)[0, 1]) > _MIN_CORRELATION
