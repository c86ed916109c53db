"""Whisper's real weights: encoded silence, batches, words, hints, and what is no speech."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backends.base import StreamOptions
from backends.whisper.backend import WhisperBackend
from backends.whisper.model import Model, Window, choose_hardware, encoded_frames
from backends.whisper.options import WhisperOptions
from backends.whisper.transcription import Request, decode_finals, decode_partials
from bench.common.word_error_rate import score
from protocol.pcm import SAMPLE_RATE, Signal, to_signal
from tests.audio import signal_of
from tests.backends.conformance import decode
from tests.weights import weights

SHARED = Path(__file__).resolve().parents[3] / "shared" / "speech"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(weights("tiny.en"), choose_hardware("cpu", "auto"), 1)


@pytest.fixture(scope="module")
def base() -> Iterator[WhisperBackend]:
    backend = WhisperBackend(WhisperOptions(weights("base"), device="cpu"))
    backend.start()
    yield backend
    backend.close()


def spoken(name: str) -> tuple[Signal, str]:
    """A shared recording and its text."""
    if not SHARED.exists():
        pytest.skip("shared speech is not here")
    with wave.open(str(SHARED / f"{name}.wav")) as file:
        signal = to_signal(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    entries = (json.loads(line) for line in (SHARED / "manifest.jsonl").read_text().splitlines())
    return signal, next(entry["text"] for entry in entries if entry["file"] == f"{name}.wav")


@pytest.mark.parametrize(("frames", "encoded"), [(2, 500), (400, 500), (401, 600), (1101, 1300), (2950, 3000)])
def test_what_was_said_is_encoded_and_a_second_more(frames: int, encoded: int) -> None:
    """The encoder is fed whole seconds, at least five of them, and never more than its window."""
    assert encoded_frames(frames, Window.SHORT) == encoded


def test_a_replica_encodes_the_same(model: Model) -> None:
    """It has the same weights, and shares the model's states of silence, which take long to encode."""
    spectrum = model.features(signal_of("weather"))
    replica = model.replica(niceness=10)
    try:
        assert np.array_equal(model.encode([spectrum], Window.SHORT), replica.encode([spectrum], Window.SHORT))
        assert replica._silence is model._silence  # noqa: SLF001 - its values alone would not show who encoded it
    finally:
        replica.unload()


def test_states_of_silence_complete_the_window(model: Model) -> None:
    """Behind what was said lie the states that the whole window has there when it is silent."""
    spectrum = model.features(signal_of("weather"))
    (spliced,) = model.encode([spectrum], Window.LONG)
    (silent,) = model.encode([model.features(np.zeros(30 * SAMPLE_RATE, np.float32))], Window.WHOLE)
    encoded = encoded_frames(spectrum.shape[1], Window.LONG) // 2
    assert spliced.shape == silent.shape
    assert np.array_equal(spliced[:, encoded:], silent[:, encoded:])
    assert not np.array_equal(spliced[:, :encoded], silent[:, :encoded])


def test_a_batch_changes_no_text(model: Model) -> None:
    """Utterances of several lengths, with and without hints, have the same text and scores alone and together."""
    requests = [
        Request(signal_of("weather"), "en"),
        Request(signal_of("train"), "en", hotwords=("Lisbon",)),
        Request(signal_of("keys"), "en"),
        Request(signal_of("weather")[: 2 * SAMPLE_RATE], "en"),
    ]
    assert decode_finals(model, requests, 5) == [decode_finals(model, [each], 5)[0] for each in requests]
    assert decode_partials(model, requests) == [decode_partials(model, [each])[0] for each in requests]


@pytest.mark.parametrize("rms", [300, 3000])
def test_noise_has_no_text(model: Model, rms: int) -> None:
    """White noise and a hum are neither a final nor a partial."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for sound in (np.random.default_rng(0).standard_normal(len(time)), np.sin(2 * np.pi * 50 * time)):
        signal = (sound * rms / 32768 / np.sqrt(np.square(sound).mean())).astype(np.float32)
        assert decode_finals(model, [Request(signal, "en")], 5)[0].text == ""
        assert decode_partials(model, [Request(signal, "en")])[0].text == ""


def test_words_come_only_where_they_were_asked_for(base: WhisperBackend) -> None:
    """A final has no words unless its stream asked."""
    assert decode(base, signal_of("weather")).words is None


def test_samples_that_are_no_numbers_have_no_text(base: WhisperBackend) -> None:
    """An utterance of NaN is empty, not an exclamation."""
    assert decode(base, np.full(SAMPLE_RATE, np.nan, np.float32)).text == ""


def test_a_second_language_is_detected_and_reported(base: WhisperBackend) -> None:
    """French, without saying so, comes back with `fr`; of 13 words two may be wrong: processors round int8 apart."""
    signal, text = spoken("fr_leopard")
    result = decode(base, signal)
    assert result.language == "fr"
    assert score(text, result.text, "fr").errors <= 2, result.text


def test_a_second_language_is_translated(base: WhisperBackend) -> None:
    """The same speech, translated, is English."""
    signal, _ = spoken("de_leopard")
    said = decode(base, signal, StreamOptions(language="de", task="translate")).text
    assert base.translates
    assert " the " in f" {said.casefold()} "


def test_a_famous_sentence(base: WhisperBackend) -> None:
    """JFK's sentence comes back word for word, with words that are timed in order."""
    signal, text = spoken("en_jfk")
    result = decode(base, signal, StreamOptions(words=True))
    assert "".join(each for each in result.text.casefold() if each.isalnum() or each == " ") == text
    assert result.words is not None
    assert len(result.words) == len(text.split())


def test_an_utterance_longer_than_the_window(base: WhisperBackend) -> None:
    """44 s in one utterance have the text of all their parts."""
    signal, _ = spoken("en_two_cities")
    said = decode(base, signal).text.casefold()
    assert "best of times" in said
    assert len(said.split()) > 80


def test_an_english_model_has_one_language(model: Model) -> None:
    """Other languages can be refused by name, and a translation is not offered."""
    assert model.languages == {"en"}
    assert not model.translates


def test_a_multilingual_model_tells_its_languages(base: WhisperBackend) -> None:
    """Codes are primary subtags of BCP 47, also where Whisper has its own."""
    assert base.languages is not None
    assert {"en", "de", "zh", "jv"} <= base.languages
    assert "jw" not in base.languages
