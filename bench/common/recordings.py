"""Recordings of speech with their texts, and the playlists of simulated speakers.

Positions in a playlist are ms of the speaker's audio.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from websockets.frames import Opcode

from bench.common.websocket_client import client_frame
from protocol.pcm import BYTES_PER_SAMPLE, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, frame_rms, samples_of, to_signal

FRAME_BYTES = FRAME_SAMPLES * BYTES_PER_SAMPLE
FRAMES_PER_SECOND = 1000 // FRAME_MS
VOICED_RMS = 300  # RMS in 16-bit units: the default of STT_VAD_THRESHOLD
_MULTI_UTTERANCE_TAGS = frozenset({"long", "composed", "pauses"})  # tags of recordings of several utterances
GAP_MS = 1000  # silence after each recording of a playlist
_SILENT_FRAME = client_frame(Opcode.BINARY, bytes(FRAME_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording. Two recordings are equal only if they are the same object."""

    name: str
    pcm: bytes  # PCM16LE, 16 kHz, mono, padded with silence to whole frames of 20 ms
    text: str  # all words of the recording; empty if unknown
    language: str  # primary subtag, such as `en`
    single: bool = True  # whether it holds one utterance

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return len(self.pcm) // FRAME_BYTES / FRAMES_PER_SECOND

    def voiced_seconds(self) -> float:
        """Return the seconds from the first voiced frame to the last, pauses included; 0 without voice."""
        voiced = np.flatnonzero(frame_rms(to_signal(np.frombuffer(self.pcm, "<i2"))) >= VOICED_RMS)
        return (int(voiced[-1] - voiced[0]) + 1) / FRAMES_PER_SECOND if len(voiced) else 0.0


def load(folder: Path, languages: Iterable[str] = (), *, single: bool = False) -> list[Recording]:
    """Load a folder: the entries of its manifest.jsonl, or else each .wav with a .txt (one line per utterance).

    `languages` are primary subtags; without any, all recordings are loaded. `single` selects those of one utterance.

    Raises:
        SystemExit: the folder has no such recording.
    """
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        lines = manifest.read_text(encoding="utf-8").splitlines()
        recordings = [_from_manifest(folder, json.loads(line)) for line in lines if line.strip()]
    else:
        recordings = [_from_pair(path) for path in sorted(folder.glob("*.wav")) if path.with_suffix(".txt").exists()]
    languages = frozenset(languages) or {each.language for each in recordings}
    recordings = [each for each in recordings if each.language in languages and (each.single or not single)]
    if not recordings:
        raise SystemExit(f"{folder} holds no such recordings: a manifest.jsonl, or .wav with .txt, is needed")
    return recordings


def _from_manifest(folder: Path, entry: dict[str, Any]) -> Recording:
    return Recording(
        name=entry["file"],
        pcm=read_pcm(folder / entry["file"]),
        text=entry["text"] or "",
        language=entry["language"].split("-")[0].lower(),
        single=_MULTI_UTTERANCE_TAGS.isdisjoint(entry.get("tags") or ()),
    )


def _from_pair(path: Path) -> Recording:
    lines = [line for line in path.with_suffix(".txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return Recording(path.name, read_pcm(path), " ".join(lines), "en", single=len(lines) == 1)


def read_pcm(path: Path) -> bytes:
    """Return the PCM of a WAV file, padded with silence to whole frames.

    Raises:
        SystemExit: the file is not 16 kHz mono PCM16.
    """
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    if rate != SAMPLE_RATE or samples.shape[1] != 1:
        raise SystemExit(f"{path.name} is not 16 kHz mono PCM16")
    pcm: bytes = samples.astype("<i2").tobytes()
    return pcm + bytes(-len(pcm) % FRAME_BYTES)


def wav(pcm: bytes) -> bytes:
    """Return PCM16LE at 16 kHz as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), SAMPLE_RATE, format="WAV")
    return file.getvalue()


def concatenate(recordings: Sequence[Recording], seconds: float, gap_ms: int) -> bytes:
    """Return PCM of exactly `seconds`: the recordings, each followed by silence, repeated as often as needed."""
    gap, size = bytes(samples_of(gap_ms) * BYTES_PER_SAMPLE), round(seconds * SAMPLE_RATE) * BYTES_PER_SAMPLE
    sequence = b"".join(recording.pcm + gap for recording in recordings)
    return (sequence * (size // len(sequence) + 1))[:size]


@dataclass(frozen=True, slots=True)
class Part:
    """A recording and its position in a playlist."""

    recording: Recording
    start_ms: int  # position of its first sample
    end_ms: int  # end of the silence after it


@dataclass(frozen=True, slots=True)
class Playlist:
    """The messages of a speaker, and the positions of the complete recordings in them."""

    frames: Sequence[bytes]
    parts: Sequence[Part]


@cache
def _messages(recording: Recording) -> Sequence[bytes]:
    """Return the recording as WebSocket messages of 20 ms. They are cached, so that many speakers share the memory."""
    starts = range(0, len(recording.pcm), FRAME_BYTES)
    return [client_frame(Opcode.BINARY, recording.pcm[first : first + FRAME_BYTES]) for first in starts]


def ordered_playlist(recordings: Iterable[Recording]) -> Playlist:
    """Return a playlist of the recordings in this order, each followed by `GAP_MS` of silence."""
    frames, parts = list[bytes](), list[Part]()
    for recording in recordings:
        start = len(frames) * FRAME_MS
        frames += _messages(recording)
        frames += [_SILENT_FRAME] * (GAP_MS // FRAME_MS)
        parts.append(Part(recording, start, len(frames) * FRAME_MS))
    return Playlist(frames, parts)


def shuffled_playlist(recordings: Sequence[Recording], seconds: float, generator: random.Random) -> Playlist:
    """Return a playlist of `seconds` in random order, which begins at a random point of the first recording."""
    order = list[Recording]()
    while _seconds(order) < seconds + max(_seconds([each]) for each in recordings):
        order += generator.sample(recordings, len(recordings))
    playlist = ordered_playlist(order)
    skipped = generator.randrange(playlist.parts[0].end_ms // FRAME_MS)
    frames = playlist.frames[skipped : skipped + round(seconds * FRAMES_PER_SECOND)]
    shift = skipped * FRAME_MS
    parts = [Part(part.recording, part.start_ms - shift, part.end_ms - shift) for part in playlist.parts]
    complete = [part for part in parts if part.start_ms >= 0 and part.end_ms <= len(frames) * FRAME_MS]
    return Playlist(frames, complete)


def _seconds(recordings: Iterable[Recording]) -> float:
    """Return the length of the recordings, each with its silence."""
    return sum(each.seconds + GAP_MS / 1000 for each in recordings)
