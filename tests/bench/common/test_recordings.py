from __future__ import annotations

import json
import random
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from bench.common.recordings import FRAME_BYTES, Recording, concatenate, load, ordered_playlist, shuffled_playlist


def tone(frames: int, before: int = 0, after: int = 0) -> bytes:
    voice = np.full(frames * FRAME_BYTES // 2, 3000, "<i2").tobytes()
    return bytes(before * FRAME_BYTES) + voice + bytes(after * FRAME_BYTES)


def heard(messages: Sequence[bytes]) -> bytes:
    """The audio that a server hears in messages of 20 ms."""
    server = ServerProtocol(state=OPEN)
    server.receive_data(b"".join(messages))
    frames = [frame for frame in server.events_received() if isinstance(frame, Frame)]
    assert {len(frame.data) for frame in frames} == {FRAME_BYTES}
    return b"".join(bytes(frame.data) for frame in frames)


def recording(name: str, pcm: bytes) -> Recording:
    return Recording(name, pcm, name, "en")


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
    assert (first.text, first.single) == ("one two", False)
    assert (second.name, second.seconds, len(load(tmp_path, single=True))) == ("b.wav", 0.02, 1)


def test_manifest(tmp_path: Path) -> None:
    """A manifest names recordings, their languages and tags."""
    entries: list[dict[str, Any]] = [
        {"file": "a.wav", "text": "one", "language": "en", "tags": [], "note": None},
        {"file": "b.wav", "text": "un deux", "language": "fr", "tags": ["pauses"], "note": None},
    ]  # fmt: skip
    for entry in entries:
        write(tmp_path / entry["file"], tone(1))
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (french,) = load(tmp_path, ["fr"])
    assert (french.name, french.text, french.single) == ("b.wav", "un deux", False)
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
    one, two = recording("one", tone(3)), recording("two", tone(2))
    playlist = ordered_playlist([two, one])
    gap = bytes(32_000)
    assert heard(playlist.frames) == two.pcm + gap + one.pcm + gap
    parts = [(part.recording, part.start_ms, part.end_ms) for part in playlist.parts]
    assert parts == [(two, 0, 1040), (one, 1040, 2100)]


def test_shuffled() -> None:
    """A shuffled playlist has the length asked for, and its parts lie where their recordings' frames are."""
    recordings = [recording(str(frames), tone(frames)) for frames in (3, 4, 9)]
    for seed in range(20):
        playlist = shuffled_playlist(recordings, 20.0, random.Random(seed))
        assert len(playlist.frames) == 1000
        assert len(playlist.parts) > 8
        for part in playlist.parts:
            pcm = heard(playlist.frames)[part.start_ms * 32 :]
            assert pcm.startswith(part.recording.pcm)


def test_concatenate() -> None:
    """Recordings and silences follow one another for exactly the time asked for."""
    one, two = recording("one", tone(50)), recording("two", tone(25))
    pcm = concatenate([one, two], 6.0, 500)
    assert len(pcm) == 6 * 32_000
    assert pcm == ((one.pcm + bytes(16_000) + two.pcm + bytes(16_000)) * 3)[: len(pcm)]
