"""Live audio of other rates and codecs."""

from __future__ import annotations

from itertools import chain, pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import events
from protocol.dialect import Handshake, ServerInfo
from protocol.native import NativeDialect
from protocol.pcm import SAMPLE_RATE
from protocol.sample_codecs import PCM_CODECS
from protocol.stream_audio import StreamConverter, StreamFormat
from tests.stream_formats import codec_context, encoded

SECONDS = 0.5
FORMATS = [StreamFormat(rate, "pcm_s16le") for rate in (8_000, 11_025, 22_050, 24_000, 44_100, 48_000)]
FORMATS += [StreamFormat(SAMPLE_RATE, "pcm_f32le"), StreamFormat(48_000, "pcm_f32le")]
FORMATS += [StreamFormat(8_000, "mulaw"), StreamFormat(8_000, "alaw")]


def tone(rate: int) -> np.ndarray:
    """440 Hz for half a second, as float64."""
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * SECONDS)) / rate)


def encoded_tone(source: StreamFormat) -> bytes:
    """The tone in this format."""
    return encoded(tone(source.sample_rate), source)


def converted(source: StreamFormat, chunks: list[bytes]) -> bytes:
    """All of a stream that came in these messages."""
    converter = StreamConverter(source)
    return b"".join([*chain.from_iterable(map(converter.convert, chunks)), converter.flush()])


def opened(rate: int, codec: str = "pcm_s16le") -> NativeDialect:
    """A session of the native dialect, whose audio has this rate in Hz."""
    server = ServerInfo("mock", None, uses_hotwords=False, has_words=False, silence_ms=500, vad_threshold=300.0)
    dialect = NativeDialect(server)
    dialect.open(Handshake("/v1/stt/ws", f"call_id=a&sample_rate={rate}&codec={codec}", {}, "id"))
    return dialect


@pytest.mark.parametrize("source", FORMATS, ids=str)
def test_the_tone_comes_out_at_16_khz_at_its_own_time(source: StreamFormat) -> None:
    """As long as it was, and sample for sample what a tone of 16 kHz is, but for the edges."""
    samples = np.frombuffer(converted(source, [encoded_tone(source)]), "<i2")
    wanted = tone(SAMPLE_RATE) * 32767
    assert abs(len(samples) - len(wanted)) <= 1
    inner = slice(800, 7_000)
    error = samples[inner] - wanted[inner]
    coarse = source.codec in {"mulaw", "alaw"}
    assert np.sqrt(np.mean(error**2)) < (200 if coarse else 20)


@given(st.sampled_from(FORMATS), st.lists(st.integers(0, 8_000), max_size=12))
def test_how_the_bytes_are_cut_changes_nothing(source: StreamFormat, cuts: list[int]) -> None:
    """Samples cut in two by a message's end included."""
    whole = encoded_tone(source)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    assert converted(source, [whole[a:b] for a, b in pairwise(edges)]) == converted(source, [whole])


def test_every_g711_code_is_what_ffmpeg_decodes() -> None:
    """All 256 of mu-law and of A-law."""
    codes = bytes(range(256))
    for codec in ("mulaw", "alaw"):
        decoder = codec_context(f"pcm_{codec}", "r")
        decoder.sample_rate, decoder.layout = 8_000, "mono"
        (frame,) = decoder.decode(av.Packet(codes))
        ours = StreamConverter(StreamFormat(8_000, codec))
        ours._resampler = None  # noqa: SLF001 - the codes alone
        assert b"".join(ours.convert(codes)) == frame.to_ndarray().astype("<i2").tobytes()


def test_floats_that_are_no_numbers_are_silence_or_full_scale() -> None:
    """A client's fault must not reach the engine."""
    data = np.array([np.nan, np.inf, -np.inf, 2.0, 0.0], "<f4").tobytes()
    samples = np.frombuffer(converted(StreamFormat(SAMPLE_RATE, "pcm_f32le"), [data]), "<i2")
    assert samples.tolist() == [0, 32767, -32768, 32767, 0]


def test_a_commit_comes_behind_all_audio_before_it() -> None:
    """What the resampler holds back is given out first."""
    dialect = opened(48000)
    taken = [*dialect.take(encoded_tone(StreamFormat(48_000, "pcm_s16le"))), *dialect.take('{"type": "commit"}')]
    *audio, commit = taken
    assert isinstance(commit, events.Commit)
    assert sum(len(each.data) for each in audio if isinstance(each, events.Audio)) == SAMPLE_RATE * SECONDS * 2


def test_audio_of_the_servers_own_format_is_passed_on_as_it_came() -> None:
    """It is not even copied."""
    dialect = opened(16000)
    data = b"\x01\x02\x03"
    (audio,) = dialect.take(data)
    assert isinstance(audio, events.Audio)
    assert audio.data is data


def test_every_codec_is_tested() -> None:
    """A codec that is added needs a format above."""
    assert {each.codec for each in FORMATS} == set(PCM_CODECS)
