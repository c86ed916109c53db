"""WAV headers in front of live audio, and labels that are wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import wave
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import av
import numpy as np
import pytest

from bench.common.recordings import load
from protocol import events
from protocol.pcm import SAMPLE_RATE, Signal
from protocol.stream_audio import StreamFormat
from protocol.stream_beginning import StreamBeginning
from protocol.wav_header import MAX_HEADER_BYTES
from protocol.wrong_label import CHECKED_SECONDS
from tests.audio import REFERENCES, reference
from tests.protocol.test_stream_audio import opened
from tests.server import ROOT
from tools.labelled_streams import Labelled, rightly, sounds, wrongly
from tools.wrong_labels import fault, repeated

NATIVE = StreamFormat(SAMPLE_RATE, "pcm_s16le")
SHARED = ROOT.parent / "shared" / "speech"
LEAST_NOTICED = {"s16 as mu-law": 0.75}
"""Share of the recordings in which a fault is noticed, where that is less than nine of ten."""


def wav(rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    """A WAV file of references/hello.wav, as its header says or not."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(reference("hello"))
    return file.getvalue()


def taken(messages: Sequence[bytes], source: StreamFormat = NATIVE) -> tuple[bytes, str | None]:
    """The audio in the messages, and the fault that was found."""
    beginning = StreamBeginning(source)
    audio = b"".join(map(beginning.take, messages))
    beginning.finish()
    return audio, beginning.fault


@pytest.mark.parametrize("step", [1, 7, 43, 44, 45, 640, 100_000])
def test_a_wav_header_is_skipped(step: int) -> None:
    """However it is cut; one that agrees with the query is no fault."""
    file = wav()
    messages = [file[first : first + step] for first in range(0, len(file), step)]
    assert taken(messages) == (reference("hello"), None)


def test_a_wav_header_with_other_chunks_is_skipped() -> None:
    """FFmpeg writes titles in front of the samples."""
    file = io.BytesIO()
    with av.open(file, "w", "wav") as output:
        output.metadata["title"] = "t" * 500
        stream = output.add_stream("pcm_s16le", SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(reference("hello"), "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux([*stream.encode(frame), *stream.encode(None)])
    assert taken([file.getvalue()])[0][: len(reference("hello"))] == reference("hello")


def test_a_header_that_disagrees_with_the_query_is_the_warning() -> None:
    """The audio is still taken as the query says."""
    audio, found = taken([wav(44_100, 2)])
    assert audio == reference("hello")
    assert found == (
        "the WAV header in front says pcm_s16le, 44100 Hz, channels: 2, not pcm_s16le, 16000 Hz, channels: 1"
    )


@pytest.mark.parametrize(
    "begin", [b"RIFF", b"RIFF\0\0\0\0WAV", b"RIFX" + bytes(8), b"RIFF\0\0\0\0WAVELIST" + b"\xff" * 4]
)
def test_audio_that_begins_like_a_header_is_audio(begin: bytes) -> None:
    """As soon as it shows; no more than 64 KiB are held until then."""
    sound = begin + reference("hello")[:1_000] * 100
    beginning = StreamBeginning(NATIVE)
    audio, held = b"", 0
    for first in range(0, len(sound), 640):
        audio += beginning.take(sound[first : first + 640])
        held = max(held, first + 640 - len(audio))
    assert audio == sound
    assert held <= MAX_HEADER_BYTES + 640


@pytest.mark.parametrize(
    ("begin", "name"), [(b"OggS", "an Ogg file"), (b"fLaC", "a FLAC file"), (b"\0\0\0 ftypM4A ", "an MP4 file")]
)
def test_a_file_sent_as_samples_is_named(begin: bytes, name: str) -> None:
    """Byte by byte too; nothing of it is dropped."""
    data = begin + bytes(20)
    audio, found = taken([data[:1], data[1:3], data[3:]])
    assert audio == data
    assert found == f"the audio begins like {name}, not like pcm_s16le"


def test_opus_may_begin_like_its_containers_only() -> None:
    """A WAV file is none of them."""
    opus = StreamFormat(48_000, "opus")
    assert taken([b"OggS1234"], opus)[1] is None
    assert taken([wav()], opus)[1] == "the audio begins like a WAV file, not like opus"


def _recordings() -> list[Signal]:
    return [repeated(recording.pcm) for recording in load(SHARED if SHARED.exists() else REFERENCES)]


def _blamed(streams: Sequence[Labelled]) -> list[tuple[str, str]]:
    return [(stream.kind, found) for stream in streams if (found := fault(stream)) is not None]


@pytest.mark.slow
def test_wrong_labels_are_noticed_and_right_ones_are_not_blamed() -> None:
    """Of all recordings, in every codec, clipped, quiet, in noise; docs/notes/wrong-labels.md has the counts."""
    recordings = _recordings()
    assert _blamed([stream for signal in recordings for stream in rightly(signal)]) == []
    noticed = Counter(kind for signal in recordings for kind, _ in _blamed(list(wrongly(signal))))
    for stream in wrongly(recordings[0]):
        assert noticed[stream.kind] >= LEAST_NOTICED.get(stream.kind, 0.9) * len(recordings), (stream.kind, noticed)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_what_is_no_speech_is_not_blamed(rate: int) -> None:
    """Tones, noise, music, dialling, silence."""
    assert _blamed(list(sounds(rate))) == []


def test_a_fault_is_named() -> None:
    """In one recording, each in its own words."""
    named = dict(_blamed(list(wrongly(repeated(reference("wind"))))))
    assert named["byte-swapped"] == "the samples look big-endian, not like pcm_s16le"
    assert named["off by one byte"].startswith("the samples look shifted by one byte")
    assert named["float as s16"] == "the samples look like pcm_f32le, not like pcm_s16le"
    assert named["mu-law as s16"] == "the samples look like mulaw, not like pcm_s16le"
    assert named["two speakers' channels as one"] == "the audio looks like two interleaved channels, not like one"
    assert named["random bytes"] == "the bytes look compressed or encrypted, not like pcm_s16le"


@pytest.mark.parametrize("step", [640, 32_001])
def test_a_session_warns_once_and_drops_nothing(step: int) -> None:
    """Behind silence of any length; the commands of the audio are what they were."""
    dialect = opened(16_000)
    swapped = np.frombuffer(reference("wind") * 2, "<i2").byteswap().tobytes()
    data = bytes(320_000) + swapped
    commands = [command for first in range(0, len(data), step) for command in dialect.take(data[first : first + step])]
    commands += dialect.take('{"type": "commit"}')
    assert b"".join(each.data for each in commands if isinstance(each, events.Audio)) == data
    codes = [each.code for each in commands if isinstance(each, events.Reject)]
    assert codes == [events.WarningCode.WRONG_LABEL]


def test_one_of_two_channels_is_enough() -> None:
    """The other is silent."""
    right = np.frombuffer(reference("wind"), "<i2").byteswap()
    both = np.stack([np.zeros_like(right), right], axis=1).tobytes()
    assert (
        taken([both], StreamFormat(SAMPLE_RATE, "pcm_s16le", 2))[1] == "the samples look big-endian, not like pcm_s16le"
    )


def test_a_wrong_format_of_any_channel_comes_before_a_wrong_rate() -> None:
    """Samples read in a wrong way show no speed."""
    fast = next(stream for stream in wrongly(repeated(reference("wind"))) if stream.kind == "8 kHz as 16 kHz")
    left = np.frombuffer(fast.data, "<i2")
    assert str(fault(fast)).startswith("the speech is much too fast")
    both = np.stack([left, left.byteswap()], axis=1).tobytes()
    assert (
        taken([both], StreamFormat(SAMPLE_RATE, "pcm_s16le", 2))[1] == "the samples look big-endian, not like pcm_s16le"
    )


def test_the_checks_import_nothing() -> None:
    """They run on the event loop, where a module that numpy imports at first use would block every connection."""
    code = (
        "import sys; from protocol import speech_speed, stream_beginning as beginning, stream_audio;"
        "data = 4 * sys.stdin.buffer.read(); scores = []; measured = speech_speed.double_speed_score;"
        "speech_speed.double_speed_score = lambda *given: scores.append(measured(*given)) or scores[-1];"
        "checked = beginning.StreamBeginning(stream_audio.StreamFormat(16_000, 'pcm_s16le'));"
        "before = set(sys.modules); checked.take(data); checked.finish();"
        "print(len(scores), scores[0] > -100, checked.fault, sorted(set(sys.modules) - before))"
    )
    sound = reference("weather")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=sound, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["1", "True", "None", "[]"]


def test_a_message_waits_for_one_check_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first seconds show is looked for in the messages behind them, or at once when the utterance ends."""
    begun: list[int] = []

    def check(number: int) -> str | None:
        begun.append(number)
        return "a fault" if number == 2 else None

    def checks(*_: object, **__: object) -> Sequence[Callable[[], str | None]]:
        return [partial(check, number) for number in range(3)]

    monkeypatch.setattr("protocol.stream_beginning.checks", checks)
    sound = reference("weather")
    beginning, counts = StreamBeginning(NATIVE), list[int]()
    for first in range(0, 2 * len(sound), 640):
        before = len(begun)
        beginning.take((2 * sound)[first : first + 640])
        counts.append(len(begun) - before)
    assert (beginning.fault, beginning.is_over, max(counts), sum(counts)) == ("a fault", True, 1, 3)

    begun.clear()
    beginning = StreamBeginning(NATIVE)
    beginning.take(sound)
    assert (begun, beginning.fault) == ([], None)
    beginning.finish()
    assert (begun, beginning.fault) == ([0, 1, 2], "a fault")


def test_a_check_waits_until_it_may_run() -> None:
    """While it may not run nothing is checked and all audio passes; an end is checked at once."""
    sound = np.frombuffer(reference("weather"), "<i2").byteswap().tobytes()
    allowed = False
    beginning = StreamBeginning(NATIVE, lambda: allowed)
    passed = b"".join(beginning.take((2 * sound)[first : first + 640]) for first in range(0, 2 * len(sound), 640))
    assert (passed, beginning.fault) == (2 * sound, None)
    allowed = True
    for first in range(0, 3200, 640):
        beginning.take(sound[first : first + 640])
    assert beginning.fault == "the samples look big-endian, not like pcm_s16le"

    ended = StreamBeginning(NATIVE, lambda: False)
    ended.take(2 * sound)
    ended.finish()
    assert ended.fault == beginning.fault


def test_a_check_that_waits_holds_the_bytes_only() -> None:
    """Many streams that begin together wait for their checks, and nothing is decoded for them meanwhile."""
    sound = (2 * reference("weather"))[: int(2 * CHECKED_SECONDS * SAMPLE_RATE) + 640]
    beginning = StreamBeginning(NATIVE, lambda: False)
    tracemalloc.start()
    for first in range(0, len(sound), 640):
        beginning.take(sound[first : first + 640])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * len(sound) < held < 1.1 * len(sound)
