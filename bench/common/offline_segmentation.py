"""Runs the server's VAD and segmentation without a server: from the audio of a connection to its utterances."""

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

CHUNK = samples_of(200)  # number of samples that a session processes at once while there is no speech
_EMPTY = np.zeros(0, np.int16)

VadFactory = Callable[[], Vad]  # returns the voice activity detector of a new connection


def vad_factories(names: Sequence[str]) -> dict[str, VadFactory]:
    """Return the factories of the detectors `fixed`, `energy` and `silero`, with the server's default threshold.

    Raises:
        SystemExit: a name is unknown, or its package is not installed.
    """
    return {name: _vad_factory(name, VadOptions()) for name in names}


def _vad_factory(name: str, options: VadOptions) -> VadFactory:
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
    """The positions of an utterance, in samples."""

    start: int  # start of the audio that an engine gets
    end: int  # end of the audio that an engine gets
    voiced_start: int
    voiced_end: int
    decided_at: int  # end of the audio after which the utterance was ended
    ended_by_silence: bool


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The utterances of a connection, and the decision of the detector for each frame."""

    utterances: list[Utterance]
    voiced: npt.NDArray[np.bool_]  # decision for each whole frame of 20 ms, shape [n]

    def utterance_frames(self) -> npt.NDArray[np.bool_]:
        """Return whether each frame is part of an utterance's audio, shape [n]."""
        return frame_mask(len(self.voiced), [(each.start, each.end) for each in self.utterances])


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


def frame_mask(frames: int, spans: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Return whether each of `frames` frames lies wholly within one of `spans` (samples); shape [frames]."""
    mask = np.zeros(frames, bool)
    for start, end in spans:
        mask[-(-start // FRAME_SAMPLES) : end // FRAME_SAMPLES] = True
    return mask


def end_delays(expected: list[int], actual: list[int], tolerance: int) -> list[int]:
    """Return actual - expected for each pair of ends that are at most `tolerance` apart. Both lists ascend."""
    delays: list[int] = []
    rest = iter(actual)
    candidate = next(rest, None)
    for goal in expected:
        while candidate is not None and candidate < goal - tolerance:
            candidate = next(rest, None)
        if candidate is not None and candidate <= goal + tolerance:
            delays.append(candidate - goal)
            candidate = next(rest, None)
    return delays
