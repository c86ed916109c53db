"""`mock`: says what the recordings say, word by word as it hears them, and something definite about all else."""

from __future__ import annotations

import shutil
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.base import ASRBackend, ASRResult, EngineError, StreamOptions
from backends.mock import MockBackend, read_recording
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, frame_rms

REFERENCES = Path(__file__).resolve().parents[2] / "references"
RECORDINGS = {path.stem: read_recording(path) for path in sorted(REFERENCES.glob("*.wav"))}
SINGLE = {name: (audio, lines[0]) for name, (audio, lines) in RECORDINGS.items() if len(lines) == 1}
FIRST = RECORDINGS["hello"][1][0].split()
"""What `mock` says, over and over, for audio that it does not know."""

NOISE = np.random.default_rng(1).normal(0, 12 / 32768, 20 * SAMPLE_RATE).astype(np.float32)
"""A quiet room: float32, 20 s, RMS 12 in 16-bit units."""

backend = MockBackend(REFERENCES)
backend.start()  # cheap, and the property tests below cannot take a fixture


def finished(audio: Signal, samples: int | None = None, options: StreamOptions | None = None) -> ASRResult:
    stream = backend.stream(options or StreamOptions())
    stream.push(audio)
    return stream.finish(len(audio) if samples is None else samples).result(0)


def final(audio: Signal, samples: int | None = None) -> str:
    return finished(audio, samples).text


def partials(audio: Signal, size: int = FRAME_SAMPLES) -> list[str]:
    stream = backend.stream(StreamOptions())
    texts = []
    for start in range(0, len(audio), size):
        stream.push(audio[start : start + size])
        if (result := stream.partial()) is not None:
            texts.append(result.text)
    return texts


def tone(milliseconds: int) -> Signal:
    """A loud tone, which no recording is."""
    angle = np.arange(SAMPLE_RATE * milliseconds // 1000, dtype=np.float32) * np.float32(0.25)
    swing: Signal = np.sin(angle)
    return swing * np.float32(0.3)


def silence(milliseconds: int) -> Signal:
    return np.zeros(SAMPLE_RATE * milliseconds // 1000, np.float32)


def in_a_room(audio: Signal, before: int) -> Signal:
    """`audio` after `before` samples of a quiet room, whose noise goes on through it."""
    recording = np.concatenate((np.zeros(before, np.float32), audio))
    return recording + NOISE[: len(recording)]


# the recordings

each = pytest.mark.parametrize("name", SINGLE)


@each
def test_says_the_recording(name: str) -> None:
    """A recording is recognised as exactly its .txt."""
    audio, text = SINGLE[name]
    assert final(audio) == text


@each
def test_says_the_recording_in_any_alignment(name: str) -> None:
    """Also where the server's frames begin elsewhere in it, with 300 ms of a room before it and noise on it."""
    audio, text = SINGLE[name]
    for lag in range(FRAME_SAMPLES):
        assert final(in_a_room(audio, 4800 + lag)) == text, lag
        assert final(audio[lag:]) == text, lag


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(SINGLE)), st.integers(0, 5119), st.floats(-1, 1))
def test_says_the_recording_as_heard(name: str, before: int, gain: float) -> None:
    """With any pre-roll up to 320 ms and a gain of up to 1 dB either way."""
    audio, text = SINGLE[name]
    assert final(in_a_room(audio * np.float32(10 ** (gain / 20)), before)) == text


@each
@pytest.mark.parametrize("frames", [1, 2])
def test_says_the_recording_without_its_first_sound(name: str, frames: int) -> None:
    """An utterance that began up to 40 ms late, or 40 ms early with a click, is still the recording."""
    audio, text = SINGLE[name]
    first = int(np.flatnonzero(frame_rms(audio) >= 300)[0]) * FRAME_SAMPLES
    assert final(audio[first + frames * FRAME_SAMPLES :]) == text
    assert final(np.concatenate((tone(20 * frames), audio[first:]))) == text


@each
def test_a_click_after_the_recording_is_no_word(name: str) -> None:
    """A sound too short for a word adds none."""
    audio, text = SINGLE[name]
    assert final(np.concatenate((audio, tone(100), silence(200)))) == text


@pytest.mark.parametrize("name", sorted(RECORDINGS.keys() - SINGLE.keys()))
def test_pauses_part_utterances(name: str) -> None:
    """Each line of a `pauses_` recording is an utterance of its own; unparted they are all its lines."""
    audio, lines = RECORDINGS[name]
    voiced = np.flatnonzero(frame_rms(audio) >= 300)
    ends = [int(frame) for frame in voiced[:-1][np.diff(voiced) > 25]] + [int(voiced[-1])]
    start, said = 0, []
    for end in ends:
        cut = (end + 10) * FRAME_SAMPLES
        said.append(final(audio[start:cut]))
        start = cut
    assert said == lines
    assert final(audio) == " ".join(lines)


def test_recordings_without_a_pause_between() -> None:
    """Two recordings in one utterance say both texts."""
    (one, hello), (other, train) = SINGLE["hello"], SINGLE["train"]
    assert final(np.concatenate((one, other))) == f"{hello} {train}"


# text that grows


@each
def test_text_grows(name: str) -> None:
    """Partials of a recording only ever add its next words, begin within a second, and come before the end."""
    audio, text = SINGLE[name]
    seen = partials(in_a_room(audio, 4801))
    assert len(seen) >= 3
    for earlier, later in zip(seen, [*seen[1:], text], strict=True):
        assert later.startswith(earlier)
    assert partials(in_a_room(audio, 0)[:SAMPLE_RATE])


@each
def test_words_follow_the_audio(name: str) -> None:
    """Stopped in the middle, a speaker said the words heard: word k of n by k/n of the speech, and none before."""
    audio, text = SINGLE[name]
    words = text.split()
    voiced = np.flatnonzero(frame_rms(audio) >= 300)
    first, span = int(voiced[0]), int(voiced[-1] - voiced[0]) + 1
    for part in (0.35, 0.5, 0.65, 0.8):
        said = final(audio, (first + round(part * span)) * FRAME_SAMPLES).split()
        assert said == words[: len(said)]
        # a pause in the speech at this point delays a word
        assert part * len(words) - 1.5 <= len(said) <= part * len(words) + 0.5


def test_final_is_whole_before_the_last_breath() -> None:
    """A recording cut within its last 60 ms, as an endpoint may cut it, still says all its words."""
    audio, text = SINGLE["weather"]
    last = int(np.flatnonzero(frame_rms(audio) >= 300)[-1])
    assert final(audio, (last - 2) * FRAME_SAMPLES) == text


def test_partial_says_only_news() -> None:
    """A partial is given once, and none where the text did not change."""
    audio = SINGLE["wind"][0]
    seen = partials(audio)
    assert all(text for text in seen)
    assert all(earlier != later for earlier, later in pairwise(seen))
    stream = backend.stream(StreamOptions())
    stream.push(audio)
    assert stream.partial() is not None
    assert stream.partial() is None
    stream.push(silence(1000))
    assert stream.partial() is None


# other audio


@pytest.mark.parametrize("milliseconds", [20, 100, 299, 300, 500, 600, 899, 900, 1500, 3000, 10_000])
def test_other_audio_says_the_first_words(milliseconds: int) -> None:
    """Audio of no recording says the first recording's words in a circle, one per 300 ms, and at least one."""
    count = max(1, milliseconds // 300)
    assert final(tone(milliseconds)).split() == (FIRST * 5)[:count]


def test_only_speech_counts() -> None:
    """Silence around and within other audio makes no words."""
    audio = np.concatenate((silence(300), tone(600), silence(240), tone(600), silence(200)))
    assert final(audio).split() == FIRST[:4]


def test_partials_of_other_audio_grow() -> None:
    """Other audio is given word by word, too."""
    seen = partials(tone(1500))
    assert seen == [" ".join(FIRST[:count]) for count in (2, 3, 4, 5)]


@pytest.mark.parametrize("milliseconds", [0, 10, 1000])
def test_silence_says_nothing(milliseconds: int) -> None:
    """A room in which nobody speaks has no text and no partial."""
    room = NOISE[: SAMPLE_RATE * milliseconds // 1000]
    assert final(room) == ""
    assert partials(room) == []


# a function of the samples

SPEECH = np.concatenate((SINGLE["hello"][0], tone(700), silence(300)))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9000), max_size=40), st.lists(st.booleans(), max_size=40), st.data())
def test_final_is_a_function_of_the_samples(sizes: list[int], polls: list[bool], data: st.DataObject) -> None:
    """Chunks, polls and pauses in any order give the final of the samples alone."""
    stream = backend.stream(StreamOptions())
    pushed = 0
    for number, size in enumerate(sizes):
        stream.push(SPEECH[pushed : pushed + size])
        pushed = min(pushed + size, len(SPEECH))
        if number < len(polls):
            stream.partial() if polls[number] else stream.pause()
    samples = data.draw(st.integers(0, pushed), label="samples")
    assert stream.finish(samples).result(0).text == final(SPEECH[:samples])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 0.9))
def test_any_noise_has_a_text(seed: int, frames: int, loudness: float) -> None:
    """No audio is an error, and any loud frame is at least a word."""
    noise = np.random.default_rng(seed).uniform(-loudness, loudness, frames * FRAME_SAMPLES).astype(np.float32)
    assert bool(final(noise)) == bool((frame_rms(noise) >= 300).any())


# results and ends


def test_language() -> None:
    """The language is the one asked for, else English."""
    assert finished(tone(300)).language == "en"
    assert finished(tone(300), options=StreamOptions(language="de")).language == "de"


def test_no_word_times() -> None:
    """It has no word times and claims none."""
    assert finished(SINGLE["hello"][0]).words is None


def test_final_is_there_at_once() -> None:
    """`finish` returns a future already done: the mock never keeps anyone waiting."""
    stream = backend.stream(StreamOptions())
    stream.push(tone(300))
    assert stream.finish(4800).done()


# starting and closing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good recording."""
    for ending in (".wav", ".txt"):
        shutil.copy(REFERENCES / f"train{ending}", tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(EngineError) as caught:
        MockBackend(folder).start()
    return str(caught.value)


@pytest.mark.parametrize("made", [True, False])
def test_no_recordings(tmp_path: Path, made: bool) -> None:
    """An empty or missing folder is refused with its name."""
    path = tmp_path / "references"
    if made:
        path.mkdir()
    assert refusal(path) == f"STT_BACKEND=mock needs recordings of speech, and {path} holds none"


def test_any_folder(folder: Path) -> None:
    """Another folder's first recording is what other audio says."""
    other = MockBackend(folder)
    other.start()
    stream = other.stream(StreamOptions())
    stream.push(tone(600))
    assert stream.finish(9600).result(0).text == "we took"


def test_recording_without_text(folder: Path) -> None:
    """A recording without its .txt is refused with its name."""
    (folder / "train.txt").unlink()
    assert refusal(folder).startswith(f"{folder / 'train.wav'} or its .txt cannot be read")


def test_lines_that_do_not_fit(folder: Path) -> None:
    """As many lines as utterances, or it is refused."""
    (folder / "train.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert refusal(folder) == f"{folder / 'train.wav'} has 1 utterances but 2 lines of text"


def test_not_a_recording(folder: Path) -> None:
    """A file that is no .wav is refused with its name."""
    (folder / "train.wav").write_bytes(b"RIFF")
    assert refusal(folder).startswith(f"{folder / 'train.wav'} or its .txt cannot be read")


def test_other_format(folder: Path) -> None:
    """A recording at another rate is refused, not misheard."""
    with wave.open(str(folder / "train.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(bytes(16_000))
    assert refusal(folder) == f"{folder / 'train.wav'} is not 16 kHz mono PCM16"


def test_closed_while_starting() -> None:
    """A close that came before the end of `start` wins."""
    closed = MockBackend(REFERENCES)
    closed.close()
    with pytest.raises(EngineError, match="closed while it started"):
        closed.start()
    assert not closed.healthy()


@pytest.mark.parametrize("was_started", [True, False])
def test_no_stream_without_recordings(was_started: bool) -> None:
    """Before start and after close nothing can be opened."""
    idle: ASRBackend = MockBackend(REFERENCES)
    if was_started:
        idle.start()
        idle.close()
    with pytest.raises(EngineError, match="not running"):
        idle.stream(StreamOptions())


def test_an_open_utterance_outlives_close() -> None:
    """A speaker in mid-utterance at the close still gets the final."""
    closing = MockBackend(REFERENCES)
    closing.start()
    stream = closing.stream(StreamOptions())
    closing.close()
    audio, text = SINGLE["hello"]
    stream.push(audio)
    assert stream.finish(len(audio)).result(0).text == text
