from __future__ import annotations

import json
import random
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.audio import FRAME_BYTES, Clip, Disc, Loop, cut, load
from bench.frames import Opcode, client_frame

SILENT = client_frame(Opcode.BINARY, bytes(FRAME_BYTES))


def tone(frames: int, before: int = 0, after: int = 0) -> bytes:
    voice = np.full(frames * FRAME_BYTES // 2, 3000, "<i2").tobytes()
    return bytes(before * FRAME_BYTES) + voice + bytes(after * FRAME_BYTES)


def clip(name: str, pcm: bytes) -> Clip:
    return Clip(name, pcm, name, "en", 1)


def write(path: Path, pcm: bytes, rate: int = 16_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)


def test_pairs(tmp_path: Path) -> None:
    """A folder without manifest is its pairs of .wav and .txt; texts of several lines are not single."""
    write(tmp_path / "b.wav", bytes(2 * 100))
    (tmp_path / "b.txt").write_text("one two\n")
    write(tmp_path / "a.wav", tone(2))
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    write(tmp_path / "c.wav", tone(2))
    first, second = load(tmp_path)
    assert (first.text, first.utterances, first.single) == ("one two", 2, False)
    assert (second.name, second.frames, len(load(tmp_path, single=True))) == ("b.wav", 1, 1)


def test_manifest(tmp_path: Path) -> None:
    """A manifest names recordings, their languages and tags, and where the utterances of composed ones lie."""
    entries: list[dict[str, Any]] = [
        {"file": "a.wav", "text": "one", "language": "en", "tags": [], "note": None},
        {"file": "b.wav", "text": "un deux", "language": "fr", "tags": ["pauses"],
         "note": "segments=[[0.1, 1.0], [1.5, 2.25]]"},
    ]  # fmt: skip
    for entry in entries:
        write(tmp_path / entry["file"], tone(1))
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (french,) = load(tmp_path, "fr")
    assert (french.segments, french.utterances, french.single) == (((100, 1000), (1500, 2250)), 2, False)
    assert [each.name for each in load(tmp_path, single=True)] == ["a.wav"]


def test_wrong_folder(tmp_path: Path) -> None:
    """A folder without recordings, or with one of another rate, is refused by name."""
    with pytest.raises(SystemExit, match="holds no such recordings"):
        load(tmp_path)
    write(tmp_path / "a.wav", tone(1), rate=8000)
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(SystemExit, match=r"a\.wav is not 16 kHz"):
        load(tmp_path)


def test_playlist() -> None:
    """Recordings follow one another with their silences, and lie where their parts say."""
    one, two = clip("one", tone(3)), clip("two", tone(2))
    playlist = Disc([one, two]).play([two, one], silence_ms=40, lead_ms=20)
    assert list(playlist.frames) == [SILENT, *two.wire(), SILENT, SILENT, *one.wire(), SILENT, SILENT]
    assert [(part.clip, part.start_ms, part.end_ms) for part in playlist.parts] == [(two, 20, 100), (one, 100, 200)]
    assert [part.clip for part in playlist.take(9).parts] == [two]


def test_endless() -> None:
    """An endless playlist has the length asked for, and its parts lie where their recordings' frames are."""
    clips = [clip(str(frames), tone(frames)) for frames in (3, 4, 9)]
    for seed in range(20):
        playlist = Disc(clips).endless(2.0, 40, random.Random(seed))
        assert len(playlist.frames) == 100
        assert len(playlist.parts) > 8
        for part in playlist.parts:
            first = part.start_ms // 20
            assert playlist.frames[first : first + part.clip.frames] == part.clip.wire()


def test_loop() -> None:
    """A loop's speech takes the part of the time asked for, pauses at the recordings' ends counted as silence."""
    loop = Loop.of([clip("a", tone(90, 5, 5)), clip("b", tone(150, 2))], 0.75, 200)
    assert loop.speech == pytest.approx(0.75)
    assert len(loop.frames) == 320
    circle = loop.from_offset(319)
    assert [next(circle) for _ in range(3)] == [loop.frames[319], loop.frames[0], loop.frames[1]]
    assert Loop.of([clip("a", tone(10))], 0.75, 600).speech == 0.25


def test_open_audio() -> None:
    """An utterance that fills the loop holds half of its own length on average."""
    assert Loop.of([clip("a", tone(100))], 1.0, 0).open_bytes(0, 0) == 50 * FRAME_BYTES


def test_cut() -> None:
    """A cut ends where the recording does, on both sides."""
    pcm = bytes(range(200)) * 16
    assert cut(pcm, -50, 10) == pcm[:320]
    assert cut(pcm, 90, 5000) == pcm[2880:]
