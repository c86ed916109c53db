"""Uploaded audio files as 16 kHz mono blocks."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tempfile
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr  # publishes no type information
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import audio
from protocol.audio import AudioRejected, AudioTooLong, decode
from protocol.pcm import SAMPLE_RATE, Signal, to_signal

LIMIT = 7200.0
"""s"""

SUBTYPES = {
    ("WAV", "PCM_U8"): 0.01,
    ("WAV", "PCM_16"): 1e-3,
    ("WAV", "PCM_24"): 1e-3,
    ("WAV", "PCM_32"): 1e-3,
    ("WAV", "FLOAT"): 1e-3,
    ("WAV", "DOUBLE"): 1e-3,
    ("WAVEX", "PCM_16"): 1e-3,
    ("RF64", "PCM_16"): 1e-3,
    ("W64", "PCM_16"): 1e-3,
    ("FLAC", "PCM_S8"): 0.01,
    ("FLAC", "PCM_16"): 1e-3,
    ("FLAC", "PCM_24"): 1e-3,
    ("OGG", "VORBIS"): 0.02,
    ("OGG", "OPUS"): 0.02,
    ("MP3", "MPEG_LAYER_III"): 0.02,
}
"""(format, subtype) -> tolerance of a sine's level."""

NOT_AUDIO = r"is not audio in a format this server reads \(WAV, FLAC, OGG, MP3\)"


def sine(seconds: float, rate: int, channels: int = 1, hertz: float = 440, level: float = 0.5) -> Signal:
    t = np.arange(round(seconds * rate)) / rate
    return np.repeat((level * np.sin(2 * np.pi * hertz * t))[:, None], channels, axis=1).astype(np.float32)


def encoded(
    signal: npt.NDArray[Any],
    rate: int,
    kind: str = "WAV",
    subtype: str = "PCM_16",
    **options: str | float,
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=kind, subtype=subtype, **options)
    return file.getvalue()


def decoded(data: bytes, max_seconds: float = LIMIT) -> Signal:
    blocks = list(decode(io.BytesIO(data), max_seconds=max_seconds))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def blocks_before(data: bytes, error: type[Exception], match: str) -> Signal:
    """The audio that comes before the iteration, not the call, raises."""
    blocks: list[Signal] = []
    iterator = decode(io.BytesIO(data), max_seconds=LIMIT)
    with pytest.raises(error, match=match):
        blocks.extend(iterator)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def tone(signal: Signal) -> tuple[float, float]:
    """Frequency in Hz and level of the strongest sine in the middle of the signal."""
    middle = signal[len(signal) // 4 : len(signal) * 3 // 4]
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window))
    return float(spectrum.argmax() * SAMPLE_RATE / len(middle)), float(np.sqrt(2 * np.mean(middle**2)))


def supported(kind: str, subtype: str, rate: int, channels: int) -> bool:
    """OPUS has five rates of its own; an MP3 has two channels at most."""
    return (subtype != "OPUS" or rate in (8000, 16000, 48000)) and (kind != "MP3" or channels <= 2)


CASES = [
    (kind, subtype, rate, channels)
    for kind, subtype in SUBTYPES
    for rate in (8000, 11025, 16000, 44100, 48000)
    for channels in (1, 2, 6)
    if supported(kind, subtype, rate, channels)
]


class TestFormats:
    @pytest.mark.parametrize(("kind", "subtype", "rate", "channels"), CASES)
    def test_sine_keeps_length_frequency_and_level(self, kind: str, subtype: str, rate: int, channels: int) -> None:
        """Every subtype, rate and channel count gives the same sine at 16 kHz."""
        signal = sine(1.337, rate, channels)
        # In the OGG codecs' 5.1 the sixth channel is for bass alone; at low rates Vorbis has no such mode.
        bass = channels == 6 and (subtype == "OPUS" or (subtype == "VORBIS" and rate >= 44100))
        share = 5 / 6 if bass else 1

        result = decoded(encoded(signal, rate, kind, subtype))
        hertz, level = tone(result)

        assert result.dtype == np.float32
        assert abs(len(result) - len(signal) * SAMPLE_RATE / rate) <= 1
        assert abs(hertz - 440) < 2
        assert level / share == pytest.approx(0.5, abs=SUBTYPES[kind, subtype])

    def test_16_khz_mono_pcm16_is_exact(self) -> None:
        """Every 16-bit value passes through as `to_signal` scales it."""
        pcm = np.arange(-32768, 32768).astype(np.int16)

        assert np.array_equal(to_signal(pcm), decoded(encoded(pcm, SAMPLE_RATE)))

    def test_big_endian_wav(self) -> None:
        """RIFX is read too."""
        pcm = np.arange(-500, 500).astype(np.int16)
        data = encoded(pcm, SAMPLE_RATE, endian="BIG")

        assert data[:4] == b"RIFX"
        assert np.array_equal(to_signal(pcm), decoded(data))
        with pytest.raises(AudioRejected, match="truncated"):
            decoded(data[:-2])

    def test_id3_tag_is_skipped(self) -> None:
        """A tag before the audio, with its size in seven-bit bytes, changes nothing."""
        tag = b"ID3\x04\x00\x00\x00\x00\x02\x2c" + bytes(300)
        for kind, subtype in (("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16"), ("WAV", "PCM_16")):
            data = encoded(sine(1, 44100), 44100, kind, subtype)

            assert np.array_equal(decoded(data), decoded(tag + data))

    def test_channels_are_averaged(self) -> None:
        """Each of n channels counts 1/n, and opposite channels cancel."""
        steps = np.array([[0.6, 0.0, 0.3], [0.5, -0.5, 0.0]], np.float32)

        assert decoded(encoded(steps, SAMPLE_RATE, "WAV", "FLOAT")) == pytest.approx([0.3, 0.0])

    def test_floats_beyond_one_are_clipped(self) -> None:
        """Floats outside [-1, 1] are clipped, at any size, and so is what resampling overshoots."""
        loud = np.array([3e38, -2.0, 1.0, 0.5], np.float32)
        square = np.sign(sine(0.5, 44100, hertz=300)[:, 0])

        assert decoded(encoded(loud, SAMPLE_RATE, "WAV", "FLOAT")) == pytest.approx([1, -1, 1, 0.5])
        assert np.abs(decoded(encoded(square, 44100, "WAV", "FLOAT"))).max() == 1

    @pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
    def test_block_boundaries_leave_no_trace(self, rate: int) -> None:
        """Blockwise resampling equals resampling the whole file at once."""
        noise = np.random.default_rng(rate).uniform(-0.5, 0.5, round(rate * 7.3)).astype(np.float32)
        blocks = list(decode(io.BytesIO(encoded(noise, rate, "WAV", "FLOAT")), max_seconds=LIMIT))

        whole = soxr.resample(noise, rate, SAMPLE_RATE)

        assert len(blocks) > 3
        assert np.concatenate(blocks) == pytest.approx(whole, abs=1e-4)

    def test_blocks_are_bounded(self) -> None:
        """No block is longer than about two seconds, however few the file's channels."""
        data = encoded(sine(10, 48000, 2), 48000)
        blocks = list(decode(io.BytesIO(data), max_seconds=LIMIT))

        assert max(map(len, blocks)) <= 2.1 * SAMPLE_RATE
        assert sum(map(len, blocks)) == 10 * SAMPLE_RATE

    @pytest.mark.parametrize("frames", [0, 1, 7])
    @pytest.mark.parametrize("rate", [8000, 16000, 44100])
    def test_shortest_files(self, frames: int, rate: int) -> None:
        """No sample in, no block out; a few samples are not lost in the resampler's delay."""
        blocks = list(decode(io.BytesIO(encoded(np.ones(frames, np.float32), rate)), max_seconds=LIMIT))

        assert abs(sum(map(len, blocks)) - frames * SAMPLE_RATE / rate) <= 1
        assert all(map(len, blocks))
        assert frames or not blocks

    def test_spooled_file(self) -> None:
        """The upload may be a spooled file, in memory or on disk, at any position, and stays open."""
        data = encoded(sine(3, 44100), 44100, "FLAC")
        for size in (0, 1000):
            with tempfile.SpooledTemporaryFile(max_size=size) as file:
                file.write(data)
                blocks = list(decode(cast("BinaryIO", file), max_seconds=LIMIT))

                assert np.array_equal(np.concatenate(blocks), decoded(data))
                assert not file.closed


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """The data with values packed over it at `at`."""
    raw = struct.pack(form, *values)
    return data[:at] + raw + data[at + len(raw) :]


class TestPiped:
    PCM = (np.arange(5000) % 999).astype(np.int16)

    @pytest.mark.parametrize("riff", [0, 36, 0x7FFFF024, 0xFFFFFFFF])
    @pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
    def test_wav_without_a_size_is_read_to_its_end(self, riff: int, size: int) -> None:
        """The sizes that gstreamer, sox, arecord and ffmpeg leave in a pipe are no truncation."""
        data = patched(patched(encoded(self.PCM, SAMPLE_RATE), 4, "<I", riff), 40, "<I", size)

        assert np.array_equal(to_signal(self.PCM), decoded(data))

    @pytest.mark.parametrize("size", [0, (1 << 63) - 1, (1 << 64) - 1])
    @pytest.mark.parametrize("kind", ["W64", "RF64"])
    def test_64_bit_wav_without_a_size(self, kind: str, size: int) -> None:
        """Likewise with 64-bit sizes."""
        data = encoded(self.PCM, SAMPLE_RATE, kind)
        at = 28 if kind == "RF64" else data.index(b"data") + 16
        if kind == "RF64":
            data = patched(data, data.index(b"data") + 4, "<I", 0xFFFFFFFF)

        assert np.array_equal(to_signal(self.PCM), decoded(patched(data, at, "<Q", size)))

    def test_empty_wav_with_a_chunk_after_its_data(self) -> None:
        """A data chunk of no bytes in a closed file is empty, whatever follows."""
        data = encoded(self.PCM[:0], SAMPLE_RATE) + b"LIST\x04\x00\x00\x00INFO"

        assert len(decoded(patched(data, 4, "<I", len(data) - 8))) == 0

    def test_flac_without_a_frame_count(self) -> None:
        """A FLAC from a pipe has 0 for its 36-bit number of frames."""
        data = encoded(self.PCM, SAMPLE_RATE, "FLAC")
        rate_to_frames = int.from_bytes(data[18:26], "big")

        assert np.array_equal(to_signal(self.PCM), decoded(patched(data, 18, ">Q", rate_to_frames >> 36 << 36)))


def mp3(seconds: float = 10, rate: int = 44100, channels: int = 2, mode: str = "VARIABLE") -> bytes:
    """Noise, then silence: the first frame has a far higher bit rate than the mean."""
    noise = np.random.default_rng(1).normal(0, 0.3, (round(seconds * rate), channels))
    noise[len(noise) // 2 :] = 0
    return encoded(noise, rate, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)


def untagged(data: bytes) -> bytes:
    """The MP3 without its first frame, the one with the tag."""
    second = data.find(data[:2], 64)
    while data[second + 1] != data[1] or (data[second + 2] ^ data[2]) & 0x0C:
        second = data.find(data[:2], second + 1)
    return data[second:]


class TestMp3:
    @pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
    @pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (32000, 1), (22050, 2), (16000, 1), (8000, 1)])
    def test_without_a_tag_nothing_is_lost(
        self, mode: str, rate: int, channels: int, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An MP3 without a frame count is decoded to its end, whatever the first frame's bit rate."""
        data = mp3(6, rate, channels, mode)

        tagged, stripped = decoded(data), decoded(untagged(data))

        assert len(tagged) == 6 * SAMPLE_RATE
        # Without the tag the encoder's delay and padding are heard: two frames and the delay of 1105 samples.
        assert 0 <= len(stripped) - len(tagged) <= 3 * 1152 * SAMPLE_RATE / rate
        assert capfd.readouterr() == ("", "")

    def test_without_a_tag_the_limit_holds(self) -> None:
        """Where the header has no length, the decoded samples are counted."""
        data = untagged(mp3())

        assert len(decoded(data, 10.1)) < 10.1 * SAMPLE_RATE
        iterator = decode(io.BytesIO(data), max_seconds=5)
        with pytest.raises(AudioTooLong, match="is longer than 5 s"):
            list(iterator)

    def test_id3v1_at_the_end(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The old tag at the end is no audio, and no reason for a note on stderr."""
        data = mp3(1)

        assert np.array_equal(decoded(data), decoded(data + b"TAG" + bytes(125)))
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    def test_truncated(self, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Fewer frames than the tag counts are a truncation, told after the frames there are."""
        data = mp3(mode=mode)

        heard = blocks_before(data[: len(data) * 2 // 3], AudioRejected, "truncated")

        assert 3 * SAMPLE_RATE < len(heard) < 10 * SAMPLE_RATE
        assert "Xing" not in capfd.readouterr().err


class TestTruncated:
    @pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
    @pytest.mark.parametrize(
        ("kind", "subtype"),
        [("WAV", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")],
    )
    def test_told_at_once(self, kind: str, subtype: str, share: float) -> None:
        """A cut that the headers show is rejected before any audio comes."""
        data = encoded(sine(3, 48000, 2), 48000, kind, subtype)

        with pytest.raises(AudioRejected, match=r"^is truncated$"):
            decode(io.BytesIO(data[: int(len(data) * share)]), max_seconds=LIMIT)

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
    def test_flac(self, share: float) -> None:
        """A FLAC that breaks off is rejected after what could be decoded."""
        data = encoded(sine(9, 44100), 44100, "FLAC")

        assert len(blocks_before(data[: int(len(data) * share)], AudioRejected, "truncated")) < 9 * SAMPLE_RATE

    def test_flac_with_fewer_frames_than_its_header(self) -> None:
        """A FLAC cut between two frames is known by its frame count."""
        data = encoded(sine(1, 44100), 44100, "FLAC")
        counted = int.from_bytes(data[18:26], "big") + 1

        blocks_before(patched(data, 18, ">Q", counted), AudioRejected, "^is truncated or damaged$")

    @pytest.mark.parametrize("kind", ["WAV", "RF64", "W64"])
    def test_wav_without_data(self, kind: str) -> None:
        """A WAV that ends before its samples, at whatever byte, is not read as empty."""
        data = encoded(sine(1, 16000), 16000, kind)
        for length in range(16, data.index(b"data")):
            with pytest.raises(AudioRejected, match="truncated"):
                decode(io.BytesIO(data[:length]), max_seconds=LIMIT)

    def test_ogg_without_its_last_page(self) -> None:
        """An OGG that ends with a whole page is cut if that page is not marked as the last."""
        data = encoded(sine(3, 48000), 48000, "OGG", "VORBIS")

        with pytest.raises(AudioRejected, match=r"^is truncated$"):
            decoded(data[: data.rindex(b"OggS")])

    def test_what_follows_an_ogg_is_ignored(self) -> None:
        """A longer tail than a page, without one, is not taken for a truncation."""
        data = encoded(sine(1, 48000), 48000, "OGG", "VORBIS")

        assert len(decoded(data + bytes(100_000))) == SAMPLE_RATE

    def test_missing_pad_byte(self) -> None:
        """An odd data chunk without its pad byte lost no sample."""
        data = encoded(np.zeros(7, np.int16), SAMPLE_RATE, "WAV", "PCM_U8")

        assert len(decoded(data.removesuffix(b"\0"))) == 7


class TestLimits:
    @pytest.mark.parametrize(
        ("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
    )
    def test_header_tells(self, kind: str, subtype: str) -> None:
        """A header's length over the limit is refused before anything is decoded; the limit itself is not."""
        data = encoded(sine(2, 48000), 48000, kind, subtype)

        assert len(decoded(data, 2)) == 2 * SAMPLE_RATE
        with pytest.raises(AudioTooLong, match=r"^is longer than 1.99 s$"):
            decode(io.BytesIO(data), max_seconds=1.99)

    def test_header_is_not_believed(self) -> None:
        """A FLAC that does not say its length is cut off at the limit."""
        data = encoded(sine(20, 8000), 8000, "FLAC")
        data = patched(data, 18, ">Q", int.from_bytes(data[18:26], "big") >> 36 << 36)
        heard: list[Signal] = []

        iterator = decode(io.BytesIO(data), max_seconds=10)
        with pytest.raises(AudioTooLong):
            heard.extend(iterator)

        assert sum(map(len, heard)) <= 10 * SAMPLE_RATE + 1

    @pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 0x7FFFFFFF, 0xFFFFFFFF])
    def test_absurd_rate(self, rate: int) -> None:
        """A sample rate that no recording has is rejected."""
        with pytest.raises(AudioRejected):
            decode(io.BytesIO(patched(encoded(sine(1, 16000), 16000), 24, "<I", rate)), max_seconds=LIMIT)

    def test_rates_at_the_limits(self) -> None:
        """The lowest and the highest rate accepted are resampled."""
        for rate in (audio.MIN_RATE, audio.MAX_RATE):
            assert len(decoded(encoded(sine(1, rate), rate))) == SAMPLE_RATE

    def test_channels(self) -> None:
        """64 channels are averaged, 65 are rejected."""
        assert len(decoded(encoded(np.zeros((800, 64), np.int16), 8000))) == 1600
        with pytest.raises(AudioRejected, match=r"^declares 65 channels, not 1 to 64$"):
            decoded(encoded(np.zeros((800, 65), np.int16), 8000))

    @pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_not_numbers(self, value: float, subtype: str, channels: int) -> None:
        """One NaN or infinity in a float file is enough to reject it."""
        signal = sine(1, 44100, channels)
        signal[5000, 0] = value
        signal[5000, -1] = -value

        with pytest.raises(AudioRejected, match=r"^holds values that are not numbers$"):
            decoded(encoded(signal, 44100, "WAV", subtype))

    def test_wav_of_empty_chunks(self) -> None:
        """A header that is all chunks is given up, not walked to its end."""
        with pytest.raises(AudioRejected, match=NOT_AUDIO):
            decoded(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 2000)


class TestNotAudio:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"R",
            b"the quick brown fox jumps over the lazy dog\n" * 100,
            b'{"audio": "UklGRg=="}',
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100),
            b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(100),
            b"RIFF\x24\0\0\0AVI LIST" + bytes(100),
            b"\xff\xf1\x50\x80\x03\xdf\xfc" + bytes(100),
            b"\x1aE\xdf\xa3" + bytes(100),
            b"fLaC" + bytes(100),
            b"OggS\0\x06" + bytes(100),
            b"\xff\xfb\x90\x64",
            bytes(1000),
        ],
        ids=["empty", "byte", "text", "json", "png", "m4a", "avi", "aac", "webm", "flac", "ogg", "mp3", "zeros"],
    )
    def test_rejected(self, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        """Anything else is rejected, in words for the peer, and nothing is printed."""
        with pytest.raises(AudioRejected, match=NOT_AUDIO):
            decoded(data)

        assert capfd.readouterr() == ("", "")

    def test_other_formats_of_libsndfile(self) -> None:
        """What libsndfile reads beyond the four formats never reaches it."""
        for kind in ("AIFF", "AU", "CAF", "VOC"):
            with pytest.raises(AudioRejected, match=NOT_AUDIO):
                decoded(encoded(np.zeros(800, np.int16), 8000, kind))

    def test_cause_is_chained(self) -> None:
        """libsndfile's reason is kept for the log."""
        with pytest.raises(AudioRejected) as caught:
            decoded(b"fLaC" + bytes(100))

        assert isinstance(caught.value.__cause__, soundfile.LibsndfileError)


class FailingFile(io.BytesIO):
    """A file whose disk fails at the read numbered `fails_at`."""

    reads = 0
    fails_at = -1

    def read(self, count: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads == self.fails_at:
            raise OSError("disk")
        return super().read(count)


class TestFile:
    @pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
    def test_failing_file_is_not_the_peers_fault(
        self, kind: str, subtype: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An OSError comes out as itself, whichever read raises it, and is not printed by a callback."""
        data = encoded(np.random.default_rng(0).uniform(-1, 1, 200_000), 16000, kind, subtype)
        healthy = FailingFile(data)
        list(decode(healthy, max_seconds=LIMIT))

        for turn in range(healthy.reads):
            file = FailingFile(data)
            file.fails_at = turn + 1
            with pytest.raises(OSError, match=r"^disk$"):
                list(decode(file, max_seconds=LIMIT))

        assert healthy.reads > 5
        assert capfd.readouterr() == ("", "")

    def test_closed_file(self) -> None:
        """A file closed under the iteration ends it with the file's own error."""
        file = io.BytesIO(encoded(sine(10, 16000), 16000))
        iterator = decode(file, max_seconds=LIMIT)
        next(iterator)
        file.close()

        with pytest.raises(ValueError, match="closed"):
            list(iterator)

    def test_abandoned(self) -> None:
        """An iteration that is never begun, or is closed, leaves nothing behind; the file is the caller's."""
        file = io.BytesIO(encoded(sine(10, 16000), 16000))
        decode(file, max_seconds=LIMIT)
        iterator = decode(file, max_seconds=LIMIT)
        next(iterator)
        iterator.close()

        assert not file.closed


def outcome(file: BinaryIO) -> None:
    """Decode, and check that what comes out is what the docstring allows."""

    total = 0
    with contextlib.suppress(AudioRejected, AudioTooLong):
        for block in decode(file, max_seconds=30):
            assert block.dtype == np.float32
            assert block.ndim == 1
            assert len(block) > 0
            assert np.abs(block).max() <= 1
            total += len(block)
    assert total <= 30 * SAMPLE_RATE + 1


FUZZED = [
    encoded(sine(1, 16000), 16000, kind, subtype)
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_24"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    )
]


class TestFuzz:
    @pytest.mark.parametrize("data", FUZZED, ids=range(len(FUZZED)))
    def test_flipped_and_cut(self, data: bytes) -> None:
        """300 damaged copies of each file: blocks or one of the two exceptions, never anything else."""
        chance = random.Random(len(data))
        for turn in range(300):
            copy = bytearray(data)
            for _ in range(chance.randint(0, 8)):
                copy[chance.randrange(len(copy) if turn % 2 else 120)] ^= 1 << chance.randrange(8)
            outcome(io.BytesIO(copy[: chance.randrange(len(copy) + 1) if turn % 3 else None]))

    @settings(max_examples=150, deadline=2000)
    @given(
        data=st.sampled_from(FUZZED),
        cut=st.integers(0, 40_000),
        at=st.integers(0, 200),
        junk=st.binary(max_size=32),
    )
    def test_overwritten(self, data: bytes, cut: int, at: int, junk: bytes) -> None:
        """Headers overwritten with anything, likewise."""
        outcome(io.BytesIO((data[:at] + junk + data[at + len(junk) :])[:cut]))

    @settings(max_examples=100, deadline=2000)
    @given(
        magic=st.sampled_from([b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3\4", b"\xff\xfb\x90\x64"]),
        rest=st.binary(max_size=300),
    )
    def test_magic_and_noise(self, magic: bytes, rest: bytes) -> None:
        """Noise after a magic number, likewise."""
        outcome(io.BytesIO(magic + rest))
