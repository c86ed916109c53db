"""Sounds without words and short words, streamed at real time; the thresholds were set with another seed. Long."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from backends.whisper.model import Model, Window, choose_hardware
from backends.whisper.transcription import Request, decode_once
from backends.whisper.utterance_audio import UtteranceAudio
from bench.common.offline_segmentation import segment
from bench.common.recordings import read_pcm
from bench.common.word_error_rate import normalise
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import SAMPLE_RATE, Samples, to_signal
from tests.backends.wordless_sounds import KINDS, sounds
from tests.client import Message, session
from tests.programs import program
from tests.server import Server
from tests.weights import settings_of, weights

EACH = 25
SEED = 20_000
SPEAKERS = 6
VOICES = ("kal16", "awb", "rms", "slt")
WORDS = [
    *("yes", "no", "five", "go", "stop", "one", "two", "three", "four", "six", "seven", "eight", "nine", "ten"),
    *("hello", "thanks", "okay", "please", "left", "right", "up", "down", "wait", "help", "sure", "maybe", "never"),
]


pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
each_model = pytest.mark.parametrize("name", ["tiny.en", "base"])


@each_model
def test_sounds_have_no_text(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither partials nor finals, though most of the sounds count as speech."""
    made = [(kind, np.pad(samples, (0, SAMPLE_RATE))) for kind, samples in sounds(EACH, SEED)]
    results = list(zip(made, _streamed(name, tmp_path, [samples for _, samples in made]), strict=True))
    opened = Counter(kind for (kind, _), messages in results if _has_speech(messages))
    with capsys.disabled():
        print(f"\n{opened.total()} of {len(made)} sounds open the detector: {dict(opened)}")  # noqa: T201
    assert opened.total() >= EACH * len(KINDS) // 2
    assert [(kind, text) for (kind, _), messages in results for text in _texts(messages)] == []


@each_model
def test_short_words_are_not_lost(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is right without the guards has a text with them."""
    flite = program("flite", "apt-get install flite")
    spoken = [(word, _spoken(flite, word, voice, tmp_path)) for word in WORDS for voice in VOICES]
    finals = map(_final, _streamed(name, tmp_path, [samples for _, samples in spoken]))
    model = Model(weights(name), choose_hardware("cpu", "auto"), 1)
    both = zip(spoken, finals, strict=True)
    right = [(word, text) for (word, samples), text in both if _unguarded(model, samples) == _normalised(word)]
    with capsys.disabled():
        print(f"\n{len(right)} of {len(spoken)} words are right without the guards")  # noqa: T201
    assert len(right) >= len(spoken) // 2
    assert [word for word, text in right if not text] == []


def _spoken(flite: str, word: str, voice: str, folder: Path) -> Samples:
    """One word by flite, with 1 s of silence before it and 2 s behind it."""
    path = folder / f"{word}-{voice}.wav"
    subprocess.run([flite, "-voice", voice, "-t", word, "-o", path], check=True)
    return np.pad(np.frombuffer(read_pcm(path), "<i2"), (SAMPLE_RATE, 2 * SAMPLE_RATE))


def _streamed(name: str, folder: Path, streams: Sequence[Samples]) -> list[list[Message]]:
    """The messages of each stream, several at a time."""
    with Server(folder, settings_of(name)) as server, ThreadPoolExecutor(SPEAKERS) as speakers:
        return list(speakers.map(lambda samples: _heard(server, samples), streams))


def _heard(server: Server, samples: Samples) -> list[Message]:
    with session(server.ws(language="en", events="speech")) as client:
        client.speak(samples.astype("<i2").tobytes(), 3_200)
        client.command("finish")
        return client.until("finished")


def _has_speech(messages: list[Message]) -> bool:
    return any(each["type"] == "speech_started" for each in messages)


def _texts(messages: list[Message]) -> list[str]:
    """Partials and finals in which something is said."""
    return [each["text"] for each in messages if each["type"] in ("partial", "final") and each["text"]]


def _final(messages: list[Message]) -> str:
    return " ".join(each["text"] for each in messages if each["type"] == "final")


def _normalised(text: str) -> str:
    return " ".join(normalise(text))


def _unguarded(model: Model, samples: Samples) -> str:
    """The word as Whisper writes it, whatever the guards make of it."""
    utterances = segment(samples, EnergyVad(VadOptions().threshold)).utterances
    if not utterances:
        return ""
    recording = UtteranceAudio()
    recording.append(to_signal(samples)[utterances[0].start : utterances[0].end])
    (span,) = recording.spans(len(recording))
    (decoded,) = decode_once(model, [Request(recording.cut(*span), "en")], 5, Window.SHORT)
    return _normalised(decoded.text)
