"""Opus as packets, Ogg and WebM, whole and damaged."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import events
from protocol.opus_ogg import OggReader
from protocol.opus_packets import MAX_PACKET_BYTES, MAX_PACKET_SAMPLES, OPUS_RATE, OpusPacket
from protocol.opus_stream import OpusStream
from protocol.opus_webm import WebmReader
from protocol.stream_audio import StreamConverter, StreamFormat
from tests.protocol.test_stream_audio import opened
from tests.stream_formats import opus_file, opus_packets

Container = Literal["ogg", "webm"]
CONTAINERS: list[Container] = ["ogg", "webm"]
DELAY = 312
"""Samples that libopus's encoder adds in front."""


def sound(seconds: float) -> np.ndarray:
    """A tone that changes all the time, as int16 of 48 kHz."""
    time = np.arange(int(OPUS_RATE * seconds)) / OPUS_RATE
    return (8_000 * np.sin(2 * np.pi * (300 * time + 200 * time**2))).astype(np.int16)


SOUND = sound(1.5)
FILES = {container: opus_file(SOUND, container) for container in CONTAINERS}


def decoded(messages: list[bytes], channels: int = 1) -> tuple[np.ndarray, list[str]]:
    """All samples of 48 kHz in 16-bit units, shape [n, channels], and the faults."""
    stream = OpusStream(channels)
    blocks = [block for message in messages for block in stream.decode(message)]
    return np.concatenate([np.zeros((0, channels)), *blocks]) * 32768, stream.faults


def error(samples: np.ndarray, wanted: np.ndarray) -> float:
    """RMS of the difference, by that of what was wanted."""
    difference = samples[: len(wanted)] - wanted[: len(samples)]
    return float(np.sqrt(np.mean(difference**2) / np.mean(wanted.astype(float) ** 2)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_containers_audio_has_its_length_and_its_times(container: Container) -> None:
    """To the sample: what the encoder added at the beginning and at the end is left out."""
    samples, faults = decoded([FILES[container]])
    assert (len(samples), faults) == (len(SOUND), [])
    errors = {shift: error(np.roll(samples[:, 0], shift)[2_000:-2_000], SOUND[2_000:-2_000]) for shift in range(-5, 6)}
    assert min(errors, key=lambda shift: errors[shift]) == 0
    assert errors[0] < 0.05


@settings(max_examples=30)
@given(st.sampled_from(CONTAINERS), st.lists(st.integers(0, 20_000), max_size=12))
def test_how_a_container_is_cut_changes_nothing(container: Container, cuts: list[int]) -> None:
    """Pages, clusters, blocks and the first bytes may be cut anywhere; messages may be empty."""
    whole = FILES[container]
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    source = StreamFormat(OPUS_RATE, "opus")
    expected, cut = StreamConverter(source), StreamConverter(source)
    at_once = b"".join(expected.convert(whole)) + expected.flush()
    assert b"".join(pcm for a, b in pairwise(edges) for pcm in cut.convert(whole[a:b])) + cut.flush() == at_once
    assert len(at_once) == 2 * len(SOUND) // 3
    assert not cut.faults


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_stream_may_come_byte_by_byte_and_be_followed_by_another(container: Container) -> None:
    """A recorder that is started again begins its container again."""
    samples, faults = decoded([bytes([byte]) for byte in FILES[container] * 2])
    assert not faults
    assert np.array_equal(samples, np.concatenate([decoded([FILES[container]])[0]] * 2))


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_packets_come_one_a_message(frame_ms: int) -> None:
    """Of any length; without a container nobody says which samples the encoder added."""
    samples, faults = decoded(opus_packets(SOUND, frame_ms=frame_ms))
    assert not faults
    assert error(samples[DELAY:, 0], SOUND) < 0.1


def test_a_first_message_of_one_byte_is_not_lost() -> None:
    """`O` may be the beginning of an Ogg page, and is a packet that says nothing."""
    samples, faults = decoded([b"O", *opus_packets(SOUND)])
    assert faults == ["a packet cannot be decoded"]
    assert np.array_equal(samples, decoded(opus_packets(SOUND))[0])


def test_stereo_is_mixed_unless_two_channels_are_asked_for() -> None:
    """Each channel has its own sound."""
    stereo = np.stack([SOUND, SOUND[::-1]], axis=1)
    packets = opus_packets(stereo, channels=2)
    both, _ = decoded(packets, channels=2)
    mono, _ = decoded(packets)
    assert error(both[DELAY:], stereo) < 0.2
    assert error(mono[DELAY:, 0], stereo.mean(axis=1)) < 0.2


def test_a_packet_that_cannot_be_decoded_is_silence() -> None:
    """The packets behind it keep their times."""
    packets = opus_packets(SOUND)
    spoilt = [*packets[:20], packets[20][:1] + b"\xff" * 1400, *packets[21:]]
    samples, faults = decoded(spoilt)
    assert faults == ["a packet cannot be decoded"]
    assert len(samples) == len(decoded(packets)[0])


def test_a_message_longer_than_any_packet_is_none() -> None:
    """Nobody decodes it."""
    assert decoded([bytes(MAX_PACKET_BYTES + 1), *opus_packets(SOUND)])[1] == [
        "a message is longer than the longest Opus packet, 61440 bytes"
    ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_bytes_that_are_lost_cost_what_is_near_them(container: Container) -> None:
    """And a warning; the audio behind them is decoded."""
    whole = opus_file(
        sound(6), container, **({"page_duration": "200000"} if container == "ogg" else {"cluster_time_limit": "200"})
    )
    middle = len(whole) // 2
    for damaged in (whole[:middle] + whole[middle + 100 :], whole[:middle] + b"garbage" * 30 + whole[middle:]):
        samples, faults = decoded([damaged])
        assert faults
        assert 5 * OPUS_RATE < len(samples) <= 6 * OPUS_RATE + 2 * MAX_PACKET_SAMPLES


def test_a_page_whose_checksum_is_wrong_is_read_if_another_follows_it() -> None:
    """Some writers leave it out."""
    pages = FILES["ogg"].split(b"OggS")[1:]
    spoilt = b"".join(b"OggS" + page[:18] + bytes(4) + page[22:] for page in pages)
    samples, faults = decoded([spoilt + b"OggS"])
    assert np.array_equal(samples, decoded([FILES["ogg"]])[0])
    assert not faults


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_stream_without_opus_says_so(container: Container) -> None:
    """Its audio is of another codec."""
    renamed = FILES[container].replace(b"OpusHead", b"SpeexHed").replace(b"A_OPUS", b"A_PCMX")
    samples, faults = decoded([_with_checksums(renamed) if container == "ogg" else renamed])
    assert len(samples) == 0
    assert len(faults) == 1
    assert "no Opus" in faults[0]


@given(st.randoms(use_true_random=False), st.sampled_from([b"OggS", b"\x1a\x45\xdf\xa3", b"", *FILES.values()]))
def test_garbage_is_survived_in_bounded_memory(dice: random.Random, begin: bytes) -> None:
    """Whatever comes; a reader keeps no more than its longest element, and no byte gives more than 120 ms."""
    spoilt = bytearray(begin + dice.randbytes(500))
    for _ in range(dice.randrange(20)):
        spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
    for reader in (OggReader(), WebmReader()):
        packets = [item for item in reader.read(bytes(spoilt)) if isinstance(item, OpusPacket)]
        assert sum(packet.samples for packet in packets) <= MAX_PACKET_SAMPLES * len(spoilt)
        assert len(reader._buffer) <= 1 << 17  # noqa: SLF001 - what it holds
    decoded([bytes(spoilt[:700]), bytes(spoilt[700:])])


def test_an_endless_element_or_packet_is_not_kept() -> None:
    """Neither reader grows with the stream."""
    ogg, webm = OggReader(), WebmReader()
    endless_packet = b"OggS" + bytes(22) + b"\xff" * 256
    for number in range(200):
        page = bytearray(endless_packet + bytes(255 * 255))
        page[5], page[18] = 1, number
        list(ogg.read(_with_checksums(bytes(page))))
        list(webm.read(b"\xa3\x01\x00\x00\x00\x00\x00\x00\x00" + bytes(60_000)))
    assert len(ogg._buffer) + len(ogg._begun) + len(webm._buffer) < 200_000  # noqa: SLF001 - what they hold


def test_a_long_message_is_decoded_as_it_is_taken() -> None:
    """One of 256 KiB may hold 40 minutes: what is not taken is not decoded."""
    page = bytes([0x48] * 255)  # packets of one byte: 10 ms each
    header = b"OggS" + bytes([0, 0]) + bytes(20) + bytes([255]) + bytes([1] * 255)
    message = b"".join(_with_checksums(header[:18] + bytes([n, 0, 0, 0]) + header[22:] + page) for n in range(250))
    blocks = StreamConverter(StreamFormat(OPUS_RATE, "opus")).convert(message)
    assert 0 < len(next(blocks)) < 16_000


def test_only_the_first_fault_is_reported() -> None:
    """By one warning of the session."""
    dialect = opened(48_000, codec="opus")
    commands = [command for _ in range(3) for command in dialect.take(bytes(MAX_PACKET_BYTES + 1))]
    assert [command.code for command in commands if isinstance(command, events.Reject)] == [events.WarningCode.DAMAGED]


def _with_checksums(pages: bytes) -> bytes:
    """The Ogg pages with the checksums of their content."""
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    result = b""
    for page in pages.split(b"OggS")[1:]:
        whole = b"OggS" + page[:18] + bytes(4) + page[22:]
        value = zlib.crc32(whole.translate(mirrored), 0xFFFFFFFF) ^ 0xFFFFFFFF
        result += whole[:22] + value.to_bytes(4, "big").translate(mirrored) + whole[26:]
    return result
