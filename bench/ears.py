"""The server's ears without the server: one connection's audio in, where its utterances lie out, as fast as it goes."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from backends.base import ASRResult, StreamOptions
from inference import vad_factory
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtteranceEnded, UtterancePipeline
from inference.vad import FixedVad, FrameDecisions, Vad
from inference.vad_factory import MakeVad
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, Samples, Signal, samples_of

WAKE_UP = samples_of(200)
"""Samples that a worker hears at once while nobody speaks."""
_NOTHING = np.zeros(0, np.int16)


def vads(names: str) -> dict[str, MakeVad]:
    """Detectors by their names, separated by commas: `fixed`, `energy` and `silero`.

    Raises:
        SystemExit: one is unknown or not installed.
    """
    return {name: _make(name) for name in names.split(",")}


def _make(name: str) -> MakeVad:
    if name == "fixed":
        return lambda options: FixedVad(options.threshold)
    for known in get_args(vad_factory.Detector):
        if name == known:
            try:
                vad_factory.check(known)
            except vad_factory.VadUnavailable as refusal:
                raise SystemExit(str(refusal)) from refusal
            return vad_factory.load(known)
    raise SystemExit(f"no such detector here: {name}")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance; positions are samples."""

    start: int
    """First of what an engine gets ..."""
    end: int
    """... and the end of it."""
    voiced_start: int
    voiced_end: int
    known: int
    """End of the audio after which it was over."""
    reason: Reason


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What one connection's ears made of its audio."""

    utterances: list[Utterance]
    voiced: npt.NDArray[np.bool_]
    """Of each whole frame."""

    def inside(self) -> npt.NDArray[np.bool_]:
        """Whether each frame lies within what an engine gets."""
        return covered(len(self.voiced), [(each.start, each.end) for each in self.utterances])


class _Stream:
    """An engine's end that only notes how long its utterance was."""

    def __init__(self) -> None:
        self.samples = 0

    def push(self, samples: Signal) -> None:
        """Take audio."""

    def partial(self) -> ASRResult | None:
        """Nothing is recognised."""
        return None

    def pause(self) -> None:
        """Nothing to prepare."""

    def finish(self, samples: int) -> Future[ASRResult]:
        """Note the length."""
        self.samples = samples
        return Future()

    def cancel(self) -> None:
        """Nothing to drop."""


class _Overheard:
    """Notes what a detector says."""

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self.voiced: list[bool] = []

    def frames(self, signal: Signal) -> FrameDecisions:
        """As the detector."""
        judged = self._vad.frames(signal)
        self.voiced += judged[1]
        return judged


def hear(samples: Samples, vad: Vad, options: SegmenterOptions | None = None) -> Heard:
    """Run one connection's audio (int16 [n]) through its listener, 200 ms at a time."""
    overheard = _Overheard(vad)
    listener = UtterancePipeline(overheard, options or SegmenterOptions(), lambda _: _Stream(), StreamOptions())
    pieces = (samples[first : first + WAKE_UP] for first in range(0, len(samples), WAKE_UP))
    ended = listen(listener, pieces, Reason.ENDPOINT)
    voiced = np.array(overheard.voiced[: len(samples) // FRAME_SAMPLES], bool)
    return Heard([_utterance(each) for each in ended], voiced)


def listen(listener: UtterancePipeline, pieces: Iterable[Samples], reason: Reason) -> list[UtteranceEnded]:
    """All utterances that end in audio (int16 [n]) heard piece by piece; the last is ended for `reason`."""
    heard: list[object] = []
    for piece in pieces:
        heard += listener.feed(piece)
        while listener.has_backlog:
            heard += listener.feed(_NOTHING)
    heard += listener.end(reason)
    return [each for each in heard if isinstance(each, UtteranceEnded)]


def _utterance(ended: UtteranceEnded) -> Utterance:
    if not isinstance(ended.stream, _Stream):
        raise TypeError("not a stream of these ears")
    end = ended.start + ended.stream.samples
    return Utterance(ended.start, end, ended.voiced_start, ended.voiced_end, ended.decided_at, ended.reason)


def covered(frames: int, spans: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Whether each of `frames` frames lies wholly within one of `spans` (samples)."""
    inside = np.zeros(frames, bool)
    for start, end in spans:
        inside[-(-start // FRAME_SAMPLES) : end // FRAME_SAMPLES] = True
    return inside


def matched(expected: list[int], found: list[int], within: int) -> list[int]:
    """Differences found - expected, of pairs at most `within` apart; both ascend, and each is used once."""
    differences: list[int] = []
    rest = iter(found)
    candidate = next(rest, None)
    for goal in expected:
        while candidate is not None and candidate < goal - within:
            candidate = next(rest, None)
        if candidate is not None and candidate <= goal + within:
            differences.append(candidate - goal)
            candidate = next(rest, None)
    return differences
