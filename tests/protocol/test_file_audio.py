"""Uploaded files, decoded: what devices really send is read whole, and what is missing is said."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest

from protocol.channels import ChannelMode
from protocol.events import WarningCode
from protocol.file_audio import AudioRejected, AudioTooLong, AudioWarning, decode
from protocol.pcm import SAMPLE_RATE, Samples, Signal, to_signal
from tests.audio import REFERENCES
from tests.protocol.audio_files import FORMATS, Format, encoded, film, ogg_pages, wav, without_end_of_stream

with wave.open(str(REFERENCES / "weather.wav")) as _reference:
    SPEECH: Samples = np.frombuffer(_reference.readframes(_reference.getnframes()), "<i2")
STEREO = np.stack((SPEECH, SPEECH))
SECONDS = len(SPEECH) / SAMPLE_RATE
VORBIS = {"strict": "experimental"}
ID3V2 = b"ID3\4\0\0\0\0\1\0" + bytes(128)
OGG = {
    "vorbis": encoded(STEREO, "ogg", "vorbis", options=VORBIS),
    "opus": encoded(SPEECH, "ogg", "libopus"),
    "flac": encoded(SPEECH, "ogg", "flac"),
}
MP3 = encoded(SPEECH, "mp3", "libmp3lame", 44_100)
FLAC = encoded(SPEECH, "flac", "flac")


def read(data: bytes, mode: ChannelMode = ChannelMode.MIX, name: str = "") -> tuple[Signal, list[AudioWarning]]:
    decoded = decode(io.BytesIO(data), max_seconds=60, channel_mode=mode, name=name)
    signal: Signal = np.concatenate(list(decoded), axis=1)
    return signal, decoded.warnings


def likeness(signal: Signal, samples: Samples = SPEECH) -> float:
    """Largest correlation of the two in any of 4000 shifts."""
    wanted = to_signal(samples)
    size = 1 << (len(signal) + len(wanted)).bit_length()
    product = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(wanted, size)))
    nearest = np.concatenate((product[:2000], product[-2000:]))
    return float(nearest.max() / (np.linalg.norm(signal) * np.linalg.norm(wanted)))


def assert_whole(data: bytes, seconds: float = SECONDS, name: str = "") -> None:
    signal, warnings = read(data, name=name)
    assert signal.shape[1] / SAMPLE_RATE == pytest.approx(seconds, abs=0.16)
    assert warnings == []
    if seconds == SECONDS:
        assert likeness(signal[0]) > 0.6  # AMR is not more like it


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_every_container_and_codec(form: Format) -> None:
    """The same recording in another format is the same sound, as long, and without a warning."""
    assert_whole(form.encoded(SPEECH), name=form.file_name)


@pytest.mark.parametrize("codec", OGG)
def test_every_ogg(codec: str) -> None:
    """OGG with Vorbis, Opus and FLAC."""
    assert_whole(OGG[codec])


def test_16_bit_pcm_is_exact() -> None:
    """16 kHz 16-bit PCM comes out as it went in, also from two equal channels."""
    for data in (wav(SPEECH), wav(STEREO), FLAC):
        assert np.array_equal(read(data)[0][0], to_signal(SPEECH))


@pytest.mark.parametrize("extra", [2, 36, 44, 2_000_000_000, 0xFFFF_FFFF - 2 * len(SPEECH) - 36])
def test_wav_with_a_wrong_size(extra: int) -> None:
    """A data chunk that declares a little too much, or what cannot be meant, is read to the end without a word."""
    assert_whole(wav(SPEECH, data_bytes=min(2 * len(SPEECH) + extra, 0xFFFF_FFFF - 36)))


def test_wav_with_a_size_that_leaves_samples_out() -> None:
    """Samples behind what the data chunk declares are not read, and a warning says so; chunks and tags are none."""
    _, warnings = read(wav(SPEECH, data_bytes=len(SPEECH)))
    assert [each.code for each in warnings] == [WarningCode.TRUNCATED]
    for tail in (b"LIST" + (8_000).to_bytes(4, "little") + bytes(8_000), b"ID3\x03" + bytes(8_000)):
        assert_whole(wav(SPEECH) + tail)


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"anything" * 20])
def test_flac_with_trailing_bytes(tail: bytes) -> None:
    """FLAC before ID3v1 or anything else loses nothing."""
    signal, warnings = read(FLAC + tail)
    assert np.array_equal(signal[0], to_signal(SPEECH))
    assert warnings == []


@pytest.mark.parametrize("data", [MP3, FLAC, OGG["opus"]], ids=["mp3", "flac", "opus"])
def test_two_id3_tags(data: bytes) -> None:
    """Files behind two ID3v2 tags."""
    assert_whole(ID3V2 + ID3V2 + data)


@pytest.mark.parametrize("zeros", [417, 5_000, 20_000])
def test_mp3_behind_zeros(zeros: int) -> None:
    """Zero bytes in front are skipped."""
    assert_whole(bytes(zeros) + MP3)


@pytest.mark.parametrize("length", range(16_000, 16_576, 64))
def test_an_encoder_s_padding_is_not_missing(length: int) -> None:
    """An MP3 of 16 kHz declares up to 0.14 s of delay and padding, which nobody hears."""
    noise = np.random.default_rng(0).normal(0, 2_000, length).astype(np.int16)
    signal, warnings = read(encoded(noise, "mp3", "libmp3lame"))
    assert (signal.shape[1], warnings) == (length, [])


def test_mp3_from_mid_frame() -> None:
    """An MP3 that was cut somewhere begins with the next frame."""
    assert_whole(MP3[1_500:], SECONDS - 0.1)


@pytest.mark.parametrize("codec", OGG)
def test_ogg_without_end_of_stream(codec: str) -> None:
    """A last page without its flag, as Android writes it, is an end like another."""
    assert_whole(without_end_of_stream(OGG[codec]))


@pytest.mark.parametrize("codec", OGG)
def test_ogg_that_ends_in_its_last_page(codec: str) -> None:
    """Of a page that is cut the rest of the file is read."""
    data = b"".join(ogg_pages(OGG[codec])[:-1])
    signal, _ = read(OGG[codec][:-12])
    assert signal.shape[1] >= read(data)[0].shape[1] > SAMPLE_RATE


@pytest.mark.parametrize("codec", OGG)
@pytest.mark.parametrize("fault", ["lost", "checksum"])
def test_ogg_with_a_damaged_page(codec: str, fault: str) -> None:
    """What a page held is missing and said; the rest is heard."""
    pages = ogg_pages(OGG[codec])
    middle = len(pages) // 2
    page = pages[middle]
    pages[middle] = b"" if fault == "lost" else page[:22] + bytes([page[22] ^ 1]) + page[23:]
    signal, (warning,) = read(b"".join(pages))
    assert signal.shape[1] / SAMPLE_RATE > SECONDS - 1.2
    assert warning.code is WarningCode.TRUNCATED
    assert "is damaged" in warning.message


@pytest.mark.parametrize(
    "data",
    [
        MP3 + MP3,
        MP3 + encoded(SPEECH, "mp3", "libmp3lame", 16_000),
        MP3 + encoded(STEREO, "mp3", "libmp3lame", 44_100),
        OGG["opus"] * 2,
        OGG["vorbis"] * 2,
        OGG["flac"] * 2,
        OGG["vorbis"] + encoded(STEREO, "ogg", "vorbis", 44_100, VORBIS),
        OGG["opus"] + encoded(STEREO, "ogg", "libopus"),
        OGG["opus"] + OGG["vorbis"],
        wav(SPEECH) * 2,
        wav(SPEECH, data_bytes=0xFFFF_FF00) + wav(STEREO),
        wav(SPEECH) + encoded(SPEECH, "wav", "pcm_s24le", 44_100),
    ],
    ids=range(12),
)
def test_files_one_after_another(data: bytes) -> None:
    """Joined MP3s, chained OGG and several WAVs are read whole, also where rate, channels or codec change."""
    signal, warnings = read(data)
    assert signal.shape[1] / SAMPLE_RATE == pytest.approx(2 * SECONDS, abs=0.25)
    half = signal.shape[1] // 2
    assert likeness(signal[0, :half]) > 0.8
    assert likeness(signal[0, half:]) > 0.8
    assert warnings == []


def test_a_joined_file_that_is_no_audio_is_named() -> None:
    """A part of an upload that cannot be read is a warning."""
    (warning,) = read(wav(SPEECH) + b"RIFF\0\0\0\0WAVE" + bytes(100))[1]
    assert (warning.code, "part 2 of 2" in warning.message) == (WarningCode.INCOMPLETE, True)


@pytest.mark.parametrize(
    "data", [wav(SPEECH), MP3, FLAC, encoded(SPEECH, "aiff", "pcm_s16be"), encoded(SPEECH, "caf", "pcm_s16le")]
)
def test_what_is_missing_is_said(data: bytes) -> None:
    """Half a file is half its sound and a warning with both lengths."""
    signal, (warning,) = read(data[: len(data) // 2])
    held = signal.shape[1] / SAMPLE_RATE
    assert SECONDS / 3 < held < SECONDS * 0.6
    assert warning.code is WarningCode.TRUNCATED
    assert warning.message.startswith(f"the file ends early: {held:.2f} of 3.")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"hello, this is text",
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"data:audio/wav;base64,UklGRg==",
    ],
)
@pytest.mark.parametrize("name", ["", "a.m3u8", "a.ffconcat", "http://localhost/a.wav"])
def test_what_is_no_audio(data: bytes, name: str) -> None:
    """Text, playlists and references are rejected whatever they are called."""
    with pytest.raises(AudioRejected, match="is not audio"):
        read(data, name=name)


def test_of_a_video_the_sound_is_read() -> None:
    """Pictures are ignored."""
    assert_whole(film(SPEECH))


def test_of_several_audio_streams_the_first_is_read() -> None:
    """A film in two languages is transcribed in one, and a warning says that this is not all of it."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as muxer:
        streams = [muxer.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono") for _ in range(2)]
        for stream, samples in zip(streams, (SPEECH, SPEECH[::-1].copy()), strict=True):
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            muxer.mux(stream.encode(frame))
    signal, (warning,) = read(out.getvalue())
    assert np.array_equal(signal[0], to_signal(SPEECH))
    assert warning.code is WarningCode.INCOMPLETE
    assert "several audio streams" in warning.message


def test_a_film_without_sound() -> None:
    """Pictures alone are no audio."""
    with pytest.raises(AudioRejected, match="is not audio"):
        read(film(SPEECH[:0]))


def test_a_file_without_samples() -> None:
    """A header alone gives no audio."""
    with pytest.raises(AudioRejected, match="holds no audio"):
        read(wav(SPEECH[:0]))


def test_too_long() -> None:
    """A file beyond the limit is refused, and never decoded to its end."""
    blocks = iter(decode(io.BytesIO(wav(np.tile(SPEECH, 10))), max_seconds=2))
    taken: list[int] = []
    with pytest.raises(AudioTooLong, match="longer than 2 s"):
        taken.extend(block.shape[1] for block in blocks)
    assert sum(taken) <= 2 * SAMPLE_RATE


def test_opposite_phase() -> None:
    """Channels of opposite phase do not cancel."""
    signal, _ = read(wav(np.stack((SPEECH, -SPEECH))))
    assert np.abs(signal[0]).max() == pytest.approx(np.abs(to_signal(SPEECH)).max(), rel=0.01)


def test_one_speaker_among_twelve_channels() -> None:
    """Eleven silent channels do not make the twelfth quiet."""
    channels = np.zeros((12, len(SPEECH)), np.int16)
    channels[7] = SPEECH
    signal, _ = read(wav(channels))
    assert np.linalg.norm(signal[0]) == pytest.approx(np.linalg.norm(to_signal(SPEECH)), rel=0.01)


def test_channel_modes() -> None:
    """`left`, `right` and `split` give the channels themselves."""
    data = wav(np.stack((SPEECH, SPEECH[::-1])))
    left, right, both = (read(data, mode)[0] for mode in (ChannelMode.LEFT, ChannelMode.RIGHT, ChannelMode.SPLIT))
    assert np.array_equal(left[0], to_signal(SPEECH))
    assert np.array_equal(right[0], to_signal(SPEECH[::-1]))
    assert np.array_equal(both, np.concatenate((left, right)))
    with pytest.raises(AudioRejected, match="no right one"):
        read(wav(SPEECH), ChannelMode.RIGHT)


@pytest.mark.parametrize("order", [1, -1])
def test_split_keeps_parts_with_other_channels(order: int) -> None:
    """Where the number of channels changes in mid-file, `split` loses no part."""
    signal, _ = read(b"".join([wav(SPEECH), wav(STEREO)][::order]), ChannelMode.SPLIT)
    assert signal.shape[1] == 2 * len(SPEECH)
    assert likeness(signal[0, : len(SPEECH)]) > 0.9
    assert likeness(signal[0, len(SPEECH) :]) > 0.9


def test_floats_beyond_full_scale() -> None:
    """Float WAV in 16-bit units is scaled by its peak, and says so."""
    signal, (warning,) = read(wav(SPEECH.astype(np.float32), kind=3))
    assert likeness(signal[0]) > 0.99
    assert np.abs(signal).max() == pytest.approx(1)
    assert warning.code is WarningCode.SCALED


def test_not_a_number() -> None:
    """NaN is no sound."""
    with pytest.raises(AudioRejected, match="not numbers"):
        read(wav(np.full(16_000, np.nan, np.float32), kind=3))
