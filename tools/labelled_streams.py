"""Recordings as clients send them: labelled rightly, and in each wrong way that the server looks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import soxr

from protocol.pcm import SAMPLE_RATE, Signal, to_pcm
from protocol.sample_codecs import PcmCodec, decode_samples

_TELEPHONE_HZ = (300, 3_400)
_CHILD = 1.4
_OCTAVE_DB = 20 * np.log10(2)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Audio of one channel, and the label that its sender gives it."""

    kind: str
    data: bytes
    codec: PcmCodec
    rate: int


def rightly(signal: Signal) -> Iterator[Labelled]:
    """Yield a recording of 16 kHz, float32 [n], in every codec, and with the faults that audio may have."""
    narrow = _resampled(signal, 8_000)
    yield Labelled("16 kHz", to_pcm(signal), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("8 kHz", to_pcm(narrow), "pcm_s16le", 8_000)
    yield Labelled("48 kHz float", _resampled(signal, 48_000).tobytes(), "pcm_f32le", 48_000)
    yield Labelled("mu-law", g711(narrow, "mulaw"), "mulaw", 8_000)
    yield Labelled("A-law", g711(narrow, "alaw"), "alaw", 8_000)
    yield Labelled("8 kHz, resampled to 16", to_pcm(_resampled(narrow, SAMPLE_RATE, 8_000)), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("telephone band at 16 kHz", to_pcm(telephone(signal)), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("clipped", to_pcm(signal * 12), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("quiet", to_pcm(signal * np.float32(1 / 16)), "pcm_s16le", SAMPLE_RATE)
    noise = np.random.default_rng(1).normal(0, signal.std() * 0.56, len(signal)).astype(np.float32)
    yield Labelled("in noise at 5 dB", to_pcm(signal + noise), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("6 dB an octave brighter", to_pcm(tilted(signal, 6)), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("like a child", to_pcm(childlike(signal)), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("15 % faster", to_pcm(_resampled(signal, 13_913)), "pcm_s16le", SAMPLE_RATE)


def wrongly(signal: Signal) -> Iterator[Labelled]:
    """Yield a recording of 16 kHz, float32 [n], with each wrong label."""
    pcm, narrow = to_pcm(signal), _resampled(signal, 8_000)
    narrow_pcm, half = to_pcm(narrow), len(signal) // 2
    yield Labelled("byte-swapped", np.frombuffer(pcm, "<i2").byteswap().tobytes(), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("off by one byte", pcm[1:-1], "pcm_s16le", SAMPLE_RATE)
    yield Labelled("float as s16", signal.tobytes(), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("s16 as float", pcm, "pcm_f32le", SAMPLE_RATE)
    yield Labelled("mu-law as s16", g711(narrow, "mulaw"), "pcm_s16le", 8_000)
    yield Labelled("A-law as s16", g711(narrow, "alaw"), "pcm_s16le", 8_000)
    yield Labelled("s16 as mu-law", narrow_pcm, "mulaw", 8_000)
    yield Labelled("mu-law as A-law", g711(narrow, "mulaw"), "alaw", 8_000)
    yield Labelled("A-law as mu-law", g711(narrow, "alaw"), "mulaw", 8_000)
    yield Labelled("8 kHz as 16 kHz", narrow_pcm, "pcm_s16le", SAMPLE_RATE)
    yield Labelled(
        "telephone of 8 kHz as 16 kHz", to_pcm(_resampled(telephone(signal), 8_000)), "pcm_s16le", SAMPLE_RATE
    )
    yield Labelled("two equal channels as one", _in_turn(signal, signal), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("two speakers' channels as one", _in_turn(signal, np.roll(signal, half)), "pcm_s16le", SAMPLE_RATE)
    yield Labelled("stereo of 48 kHz as mono", _in_turn(*[_resampled(signal, 48_000)] * 2), "pcm_s16le", 48_000)
    yield Labelled("random bytes", np.random.default_rng(1).bytes(len(pcm)), "pcm_s16le", SAMPLE_RATE)


def sounds(rate: int) -> Iterator[Labelled]:
    """Yield sounds without speech, at `rate` Hz: tones, noise, music, dialling, silence."""
    dice, time = np.random.default_rng(1), np.arange(4 * rate) / rate
    signals: dict[str, npt.NDArray[np.floating]] = {
        f"tone of {hertz} Hz": np.sin(2 * np.pi * hertz * time) / 4
        for hertz in (50, 440, 1_000, 3_400, 3_999, 4_000, 5_000, 7_000, 7_900)
        if hertz < rate / 2
    }
    signals |= {f"noise of {level}": dice.normal(0, level, len(time)) for level in (0.01, 0.1, 0.3)}
    signals |= {"silence": 0 * time, "lowest bits": dice.integers(-2, 3, len(time)) / 32768}
    signals["dialling"] = (np.sin(2 * np.pi * 770 * time) + np.sin(2 * np.pi * 1336 * time)) * (time % 0.2 < 0.1) / 8
    signals["ringing"] = (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 480 * time)) * (time % 3 < 1) / 6
    signals["square"] = np.sign(np.sin(2 * np.pi * 150 * time)) / 4
    signals["clicks"] = (np.arange(len(time)) % 800 == 0) * 0.6
    signals["sweep"] = np.sin(2 * np.pi * (100 * time + (rate / 2 - 200) / 8 * time**2)) / 4
    for beats in (1, 2, 4):
        signals[f"music, {beats} notes a second"] = _music(dice, time, beats)
    for kind, signal in signals.items():
        yield Labelled(kind, to_pcm(signal.astype(np.float32)), "pcm_s16le", rate)


def _music(dice: np.random.Generator, time: npt.NDArray[np.floating], beats: int) -> npt.NDArray[np.floating]:
    music = 0 * time
    for note in range(int(4 * beats)):
        pitch, since = 220 * 2 ** (dice.integers(24) / 12), time - note / beats
        envelope = np.exp(-since.clip(0) / 0.3) * (since >= 0)
        for partial in range(1, 5):
            music += np.sin(2 * np.pi * pitch * partial * time) * envelope / partial
    scaled: npt.NDArray[np.floating] = music / np.abs(music).max() / 2
    return scaled


def g711(signal: Signal, codec: PcmCodec) -> bytes:
    """Return the G.711 code of each sample, float32 [n]."""
    levels = decode_samples(bytes(range(256)), codec)
    order = np.argsort(levels, kind="stable")
    middles = (levels[order][1:] + levels[order][:-1]) / 2
    return order[np.searchsorted(middles, signal)].astype(np.uint8).tobytes()


def telephone(signal: Signal) -> Signal:
    """Return a recording of 16 kHz, float32 [n], with the bandwidth of a telephone."""
    hertz = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE).clip(1)
    low, high = _TELEPHONE_HZ
    gain = 1 / np.sqrt(1 + (low / hertz) ** 8) / np.sqrt(1 + (hertz / high) ** 24)
    return np.fft.irfft(np.fft.rfft(signal) * gain, len(signal)).astype(np.float32)


def tilted(signal: Signal, decibels: float) -> Signal:
    """Return a recording of 16 kHz, float32 [n], whose spectrum rises by `decibels` an octave. It is equally loud."""
    hertz = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE).clip(50)
    gain = (hertz / 1_000) ** (decibels / _OCTAVE_DB)
    changed = np.fft.irfft(np.fft.rfft(signal) * gain, len(signal))
    tilted_signal: Signal = (changed * signal.std() / changed.std()).astype(np.float32)
    return tilted_signal


def childlike(signal: Signal) -> Signal:
    """Return a recording of 16 kHz, float32 [n], with pitch and formants 40 % higher, at the same tempo."""
    raised = _resampled(signal, round(SAMPLE_RATE / _CHILD))
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=SAMPLE_RATE, layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    tempo, sink = graph.add("atempo", str(1 / _CHILD)), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(raised.reshape(1, -1), "flt", "mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    source.push(frame)
    source.push(None)
    return np.concatenate([piece.ravel() for piece in _pulled(sink)])


def _pulled(sink: av.filter.context.FilterContext) -> Iterator[npt.NDArray[np.float32]]:
    while True:
        try:
            frame = sink.pull()
        except (av.EOFError, av.BlockingIOError):
            return
        if isinstance(frame, av.AudioFrame):
            yield frame.to_ndarray().astype(np.float32)


def _resampled(signal: Signal, rate: int, source: int = SAMPLE_RATE) -> Signal:
    resampled: Signal = soxr.resample(signal, source, rate).astype(np.float32)
    return resampled


def _in_turn(left: Signal, right: Signal) -> bytes:
    return to_pcm(np.stack([left, right], axis=1).reshape(-1))
