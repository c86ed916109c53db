"""The server's VAD and segmentation without a server: audio of one connection in, positions of utterances out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from backends.base import ASRResult, StreamOptions
from inference import vad_factory
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtteranceEnded, UtterancePipeline
from inference.vad import FixedVad, FrameDecisions, Vad, VadOptions
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, Samples, Signal, samples_of

CHUNK = samples_of(200)  # samples that a session processes at once while there is no speech
_EMPTY = np.zeros(0, np.int16)

Detector = Callable[[], Vad]  # makes a voice activity detector for one connection


def detectors_by_name(names: Sequence[str]) -> dict[str, Detector]:
    """The detectors `fixed`, `energy` and `silero`, with the server's default threshold.

    Raises:
        SystemExit: a name is unknown, or its package is not installed.
    """
    return {name: _detector(name, VadOptions()) for name in names}


def _detector(name: str, options: VadOptions) -> Detector:
    match name:
        case "fixed":
            return lambda: FixedVad(options.threshold)
        case "energy" | "silero":
            try:
                vad_factory.check(name)
            except vad_factory.VadUnavailable as error:
                raise SystemExit(str(error)) from error
            return partial(vad_factory.load(name), options)
        case _:
            raise SystemExit(f"unknown detector: {name}")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance; positions are samples."""

    start: int  # start of the audio that an engine gets
    end: int  # end of this audio
    voiced_start: int
    voiced_end: int
    decided_at: int  # end of the audio after which the end of the utterance was decided
    ended_by_silence: bool


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Utterances of one connection, and the decision of the detector for each frame."""

    utterances: list[Utterance]
    voiced: npt.NDArray[np.bool_]  # for each whole frame of 20 ms, shape [n]

    def inside(self) -> npt.NDArray[np.bool_]:
        """Whether each frame is part of an utterance's audio, shape [n]."""
        return covered(len(self.voiced), [(each.start, each.end) for each in self.utterances])


class _LengthRecorder:
    """An `ASRStream` that recognises nothing and records the length of its utterance."""

    def __init__(self) -> None:
        self.samples = 0

    def push(self, samples: Signal) -> None: ...

    def partial(self) -> ASRResult | None: ...

    def pause(self) -> None: ...

    def finish(self, samples: int) -> Future[ASRResult]:
        self.samples = samples
        return Future()

    def cancel(self) -> None: ...


class _DecisionRecorder:
    """A `Vad` that records the decisions of another one."""

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self.voiced: list[bool] = []

    @property
    def threshold(self) -> float | None:
        return self._vad.threshold

    def frames(self, signal: Signal) -> FrameDecisions:
        decisions = self._vad.frames(signal)
        self.voiced += decisions[1]
        return decisions

    def set_threshold(self, threshold: float) -> None:
        self._vad.set_threshold(threshold)


def segment(samples: Samples, vad: Vad) -> Segmentation:
    """Segment the audio of one connection (int16, shape [n]), 200 ms at a time."""
    recorder = _DecisionRecorder(vad)
    pipeline = UtterancePipeline(recorder, SegmenterOptions(), lambda _: _LengthRecorder(), StreamOptions())
    events: list[object] = []
    for first in range(0, len(samples), CHUNK):
        events += pipeline.feed(samples[first : first + CHUNK])
        while pipeline.has_backlog:
            events += pipeline.feed(_EMPTY)
    events += pipeline.end(Reason.ENDPOINT)
    voiced = np.array(recorder.voiced[: len(samples) // FRAME_SAMPLES], bool)
    utterances = [
        Utterance(
            start=each.start,
            end=each.start + each.stream.samples,
            voiced_start=each.voiced_start,
            voiced_end=each.voiced_end,
            decided_at=each.decided_at,
            ended_by_silence=each.reason is Reason.ENDPOINT,
        )
        for each in events
        if isinstance(each, UtteranceEnded) and isinstance(each.stream, _LengthRecorder)
    ]
    return Segmentation(utterances, voiced)


def covered(frames: int, spans: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Whether each of `frames` frames lies wholly within one of `spans` (samples); shape [frames]."""
    inside = np.zeros(frames, bool)
    for start, end in spans:
        inside[-(-start // FRAME_SAMPLES) : end // FRAME_SAMPLES] = True
    return inside


def matched(expected: list[int], found: list[int], within: int) -> list[int]:
    """Differences found - expected of pairs that are at most `within` apart. Both lists ascend."""
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
