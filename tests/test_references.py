"""Every recording in references/ is what its README says, and the folder holds nothing else."""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest

from backends.mock import read_recording
from protocol.pcm import FRAME_MS, FRAME_SAMPLES, frame_rms

FOLDER = Path(__file__).resolve().parent.parent / "references"
WAVS = sorted(FOLDER.glob("*.wav"))
VOICED_RMS = 300
"""16-bit units."""

each = pytest.mark.parametrize("path", WAVS, ids=[path.stem for path in WAVS])


def pauses(path: Path) -> list[int]:
    """Unvoiced stretches in ms: before the speech, within it, and after it."""
    voiced = np.flatnonzero(frame_rms(read_recording(path)[0]) >= VOICED_RMS)
    frames = len(read_recording(path)[0]) // FRAME_SAMPLES
    edges = np.concatenate(([-1], voiced, [frames]))
    return [int(gap - 1) * FRAME_MS for gap in np.diff(edges)]


def test_folder_holds_only_pairs() -> None:
    """Beside README.md and what makes things there are only recordings, each with its text."""
    names = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"} - {"README.md"}
    stems = {Path(name).stem for name in names}
    assert names == {f"{stem}{ending}" for stem in stems for ending in (".wav", ".txt")}
    assert len(stems) >= 8
    assert any(stem.startswith("pauses_") for stem in stems)


def test_folder_is_small() -> None:
    """All recordings together are under 1.5 MB: they are in every clone."""
    assert sum(path.stat().st_size for path in WAVS) < 1_500_000


@each
def test_format(path: Path) -> None:
    """A recording is 16 kHz mono PCM16, 1.5 to 8 s long, its peak at -6 dBFS."""
    with wave.open(str(path), "rb") as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (16_000, 1, 2)
        assert 1.5 <= wav.getnframes() / 16_000 <= 8
    assert np.abs(read_recording(path)[0]).max() == pytest.approx(0.5, abs=0.01)


@each
def test_text(path: Path) -> None:
    """A text is lower-case words, one line per utterance, as a recogniser would print them."""
    text = path.with_suffix(".txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"(?:[a-z]+(?: [a-z]+)+\n)+", text)
    assert (text.count("\n") > 1) == path.stem.startswith("pauses_")


@each
def test_pauses(path: Path) -> None:
    """Nothing in an utterance ends it early: its pauses are far from 500 ms, and those between two far beyond."""
    first, *within, last = pauses(path)
    lines = len(read_recording(path)[1])
    assert first <= 200
    assert last <= 200
    assert sum(pause >= 800 for pause in within) == lines - 1
    assert all(pause <= 300 for pause in within if pause < 800)


@each
def test_quiet_is_not_digital_silence(path: Path) -> None:
    """The quietest frames are a quiet room's, about RMS 10."""
    assert 7 < frame_rms(read_recording(path)[0]).min() < 13
