"""Recordings with their texts, and what a speaker plays of them. Positions are ms of the speaker's audio."""

from __future__ import annotations

import io
import json
import random
import re
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.frames import Opcode, client_frame
from protocol.pcm import BYTES_PER_SAMPLE, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, frame_rms, samples_of, to_signal

FRAME_BYTES = FRAME_SAMPLES * BYTES_PER_SAMPLE
FRAMES_PER_SECOND = 1000 // FRAME_MS
VOICED_RMS = 300
"""16-bit units: the server's default threshold of voice."""
NOT_SINGLE = frozenset({"long", "composed", "pauses"})
_SEGMENTS = re.compile(r"segments=(\[\[.*?\]\])")
_SILENT_FRAME = client_frame(Opcode.BINARY, bytes(FRAME_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A recording; compared by identity."""

    name: str
    pcm: bytes
    """PCM16LE, 16 kHz, mono, filled with silence to whole frames."""
    text: str | None
    """All its words; None: unknown."""
    language: str
    """Primary subtag."""
    utterances: int | None
    """How many the text says there are; None: it does not say."""
    segments: tuple[tuple[int, int], ...] = ()
    """Start and end of each in ms, where known."""
    single: bool = True
    """Neither long, nor composed, nor about pauses."""

    @property
    def frames(self) -> int:
        """Length in frames of 20 ms."""
        return len(self.pcm) // FRAME_BYTES

    @property
    def seconds(self) -> float:
        """Length."""
        return self.frames / FRAMES_PER_SECOND

    def wire(self) -> list[bytes]:
        """A WebSocket message for each 20 ms."""
        starts = range(0, len(self.pcm), FRAME_BYTES)
        return [client_frame(Opcode.BINARY, self.pcm[first : first + FRAME_BYTES]) for first in starts]

    def voiced_span(self) -> int:
        """Frames from the first voiced to the last, pauses within included; 0 without voice."""
        signal = to_signal(np.frombuffer(self.pcm, "<i2"))
        voiced = np.flatnonzero(frame_rms(signal) >= VOICED_RMS)
        return int(voiced[-1] - voiced[0]) + 1 if len(voiced) else 0


def load(folder: Path, language: str | None = None, *, single: bool = False) -> list[Clip]:
    """Recordings of a folder: those its manifest.jsonl names, else every .wav with a .txt (a line an utterance).

    Args:
        folder: where they are.
        language: primary subtag; None: all.
        single: leave out long, composed and paused ones (tags; in a folder of pairs, texts of several lines).

    Raises:
        SystemExit: there is none.
    """
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        lines = manifest.read_text(encoding="utf-8").splitlines()
        clips = [_from_manifest(folder, json.loads(line)) for line in lines if line.strip()]
    else:
        clips = [_from_pair(path) for path in sorted(folder.glob("*.wav")) if path.with_suffix(".txt").exists()]
    chosen = [clip for clip in clips if (language in (None, clip.language)) and (clip.single or not single)]
    if not chosen:
        raise SystemExit(f"{folder} holds no such recordings: a manifest.jsonl, or .wav with .txt, is needed")
    return chosen


def _from_manifest(folder: Path, entry: dict[str, Any]) -> Clip:
    found = _SEGMENTS.search(entry.get("note") or "")
    seconds: list[tuple[float, float]] = json.loads(found[1]) if found else []
    return Clip(
        name=entry["file"],
        pcm=read_pcm(folder / entry["file"]),
        text=entry["text"],
        language=entry["language"].split("-")[0].lower(),
        utterances=len(seconds) or None,
        segments=tuple((round(start * 1000), round(end * 1000)) for start, end in seconds),
        single=NOT_SINGLE.isdisjoint(entry.get("tags") or ()),
    )


def _from_pair(path: Path) -> Clip:
    lines = [line for line in path.with_suffix(".txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return Clip(path.name, read_pcm(path), " ".join(lines), "en", len(lines), single=len(lines) == 1)


def read_pcm(path: Path) -> bytes:
    """PCM of a WAV file, filled with silence to whole frames.

    Raises:
        SystemExit: it is not 16 kHz mono PCM16.
    """
    with wave.open(str(path), "rb") as recording:
        if (recording.getframerate(), recording.getnchannels(), recording.getsampwidth()) != (SAMPLE_RATE, 1, 2):
            raise SystemExit(f"{path.name} is not 16 kHz mono PCM16")
        pcm: bytes = recording.readframes(recording.getnframes())
    return pcm + bytes(-len(pcm) % FRAME_BYTES)


def wav(pcm: bytes) -> bytes:
    """PCM16LE at 16 kHz as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(BYTES_PER_SAMPLE)
        recording.setframerate(SAMPLE_RATE)
        recording.writeframes(pcm)
    return file.getvalue()


def compose(clips: Sequence[Clip], seconds: float, gap_ms: int) -> bytes:
    """PCM of recordings, each followed by silence, again and again, for exactly so long."""
    pcm, gap = bytearray(), bytes(samples_of(gap_ms) * BYTES_PER_SAMPLE)
    size = round(seconds * SAMPLE_RATE) * BYTES_PER_SAMPLE
    for clip in cycle(clips):
        pcm += clip.pcm + gap
        if len(pcm) >= size:
            break
    return bytes(pcm[:size])


@dataclass(frozen=True, slots=True)
class Part:
    """A recording where a speaker plays it."""

    clip: Clip
    start_ms: int
    """First sample, in ms of the speaker's audio."""
    end_ms: int
    """End of the silence after it."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """What one speaker plays: WebSocket messages of 20 ms, and where the whole recordings lie in them."""

    frames: Sequence[bytes]
    parts: Sequence[Part]

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.frames) / FRAMES_PER_SECOND

    def take(self, count: int) -> Playlist:
        """Its first `count` frames, and the parts that end within them."""
        return Playlist(self.frames[:count], [part for part in self.parts if part.end_ms <= count * FRAME_MS])


class Disc:
    """The recordings as WebSocket messages, built once and shared by all speakers."""

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._wire = {clip: clip.wire() for clip in clips}

    @property
    def clips(self) -> list[Clip]:
        """What is on it."""
        return list(self._wire)

    def play(self, clips: Iterable[Clip], silence_ms: int, lead_ms: int = 0) -> Playlist:
        """The recordings one after the other, each followed by `silence_ms`, after `lead_ms` of silence."""
        frames: list[bytes] = [_SILENT_FRAME] * (lead_ms // FRAME_MS)
        parts: list[Part] = []
        for clip in clips:
            start = len(frames) * FRAME_MS
            frames += self._wire[clip]
            frames += [_SILENT_FRAME] * (silence_ms // FRAME_MS)
            parts.append(Part(clip, start, len(frames) * FRAME_MS))
        return Playlist(frames, parts)

    def endless(self, seconds: float, silence_ms: int, dice: random.Random) -> Playlist:
        """At least `seconds` of the recordings in random orders, started at a random point of the first."""
        clips = self.clips
        order: list[Clip] = []
        length = 0.0
        while length < seconds + max(clip.seconds for clip in clips) + silence_ms / 1000:
            dice.shuffle(clips)
            order += clips
            length += sum(clip.seconds + silence_ms / 1000 for clip in clips)
        whole = self.play(order, silence_ms)
        skipped = dice.randrange(whole.parts[0].end_ms // FRAME_MS)
        parts = [
            Part(part.clip, part.start_ms - skipped * FRAME_MS, part.end_ms - skipped * FRAME_MS)
            for part in whole.parts
            if part.start_ms >= skipped * FRAME_MS
        ]
        return Playlist(whole.frames[skipped:], parts).take(round(seconds * FRAMES_PER_SECOND))


@dataclass(frozen=True, slots=True)
class Loop:
    """Recordings with silences between them such that speech takes a fixed part of the time, played in a circle."""

    frames: Sequence[bytes]
    spans: Sequence[int]
    """Frames of speech, pauses within included, of each recording."""

    @classmethod
    def of(cls, clips: Sequence[Clip], speech: float, least_silence_ms: int) -> Loop:
        """Speech for the part `speech` (0 to 1) of the time; at least `least_silence_ms` of silence in each gap."""
        frames: list[bytes] = []
        spans = [clip.voiced_span() for clip in clips]
        for clip, span in zip(clips, spans, strict=True):
            silence = max(round(span / speech) - span, least_silence_ms // FRAME_MS)
            frames += clip.wire()
            frames += [_SILENT_FRAME] * max(0, silence - (clip.frames - span))
        return cls(frames, spans)

    @property
    def speech(self) -> float:
        """Part of the time that is speech, pauses within an utterance included."""
        return sum(self.spans) / len(self.frames)

    def open_bytes(self, before_ms: int, after_ms: int) -> float:
        """Mean bytes of int16 audio in the open utterance, over all times.

        The utterance starts `before_ms` ahead of its first voiced frame and stays open `after_ms` behind its last.
        """
        lengths = [span + (before_ms + after_ms) / FRAME_MS for span in self.spans]
        return sum(length * length / 2 for length in lengths) * FRAME_BYTES / len(self.frames)

    def from_offset(self, offset: int) -> Iterator[bytes]:
        """The endless circle from frame `offset` on."""
        return chain(islice(self.frames, offset, None), cycle(self.frames))


def seconds_of(pcm: bytes) -> float:
    """Length of PCM16LE at 16 kHz."""
    return len(pcm) / (SAMPLE_RATE * BYTES_PER_SAMPLE)


def cut(pcm: bytes, start_ms: int, end_ms: int) -> bytes:
    """The samples from `start_ms` to `end_ms`, as far as there are any."""
    return pcm[max(0, samples_of(start_ms)) * BYTES_PER_SAMPLE : samples_of(end_ms) * BYTES_PER_SAMPLE]
