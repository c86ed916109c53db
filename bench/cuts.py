"""What an engine is given of a recording, found without a server: the server's own ears before one that takes notes.

Pure: the time at which the ears look is simulated, in samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from backends.base import ASRResult
from bench.ears import listen
from bench.server import silence_ms
from inference.listener import Ended, Listener
from inference.segmenter import Segmenter, SegmenterOptions
from inference.vad import EnergyVad, VadOptions
from inference.worker import POLL_IDLE_SECONDS, POLL_SPEECH_SECONDS
from protocol.pcm import BYTES_PER_SAMPLE, FRAME_SAMPLES, SAMPLE_RATE, Samples, Signal, to_pcm
from protocol.schema import Reason


@dataclass(frozen=True, slots=True)
class Cut:
    """One utterance as the engine gets it."""

    start: int
    """Its first sample in the recording."""
    pcm: bytes
    """PCM16LE, 16 kHz."""
    pushes: tuple[int, ...]
    """Samples of it that the engine had after each `push`."""
    voided: tuple[int, ...]
    """Samples of each final pass that was begun in a pause and became void, because the speaker resumed."""

    @property
    def samples(self) -> int:
        """Length."""
        return len(self.pcm) // BYTES_PER_SAMPLE


@dataclass(slots=True)
class _Notes:
    """An `ASRStream` that decodes nothing."""

    pcm: bytearray = field(default_factory=bytearray)
    pushes: list[int] = field(default_factory=list)
    voided: list[int] = field(default_factory=list)
    _paused_at: int | None = None

    @property
    def samples(self) -> int:
        """Pushed so far."""
        return len(self.pcm) // BYTES_PER_SAMPLE

    def push(self, samples: Signal) -> None:
        """See `ASRStream`."""
        self._void()
        self.pcm += to_pcm(samples)
        self.pushes.append(self.samples)

    def partial(self) -> ASRResult | None:
        """See `ASRStream`."""
        return None

    def pause(self) -> None:
        """See `ASRStream`."""
        self._paused_at = self.samples

    def finish(self, samples: int) -> Future[ASRResult]:
        """See `ASRStream`."""
        if self._paused_at != samples:
            self._void()
        del self.pcm[samples * BYTES_PER_SAMPLE :]
        result: Future[ASRResult] = Future()
        result.set_result(ASRResult(""))
        return result

    def cancel(self) -> None:
        """See `ASRStream`."""

    def _void(self) -> None:
        if self._paused_at is not None:
            self.voided.append(self._paused_at)
            self._paused_at = None


@dataclass(frozen=True, slots=True)
class Ears:
    """How a server under given settings hears."""

    vad_threshold: float = VadOptions().threshold
    """RMS in 16-bit units."""
    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions)

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Ears:
        """Those of a server with these environment variables."""
        longest = int(settings.get("STT_VAD_MAX_SEGMENT_MS", SegmenterOptions().max_segment_ms))
        threshold = float(settings.get("STT_VAD_THRESHOLD", VadOptions().threshold))
        return cls(threshold, SegmenterOptions(silence_ms(settings), longest))

    def cut(self, pcm: bytes) -> list[Cut]:
        """Utterances of a recording (PCM16LE, 16 kHz) that is sent live, in messages of 20 ms, and committed."""
        listener = Listener(EnergyVad(self.vad_threshold), Segmenter(self.segmenter), _Notes)
        samples: Samples = np.frombuffer(pcm, "<i2")
        pieces = (samples[first:stop] for first, stop in _looks(listener, len(samples)))
        return [_cut(each) for each in listen(listener, pieces, Reason.COMMIT)]


def _looks(listener: Listener, samples: int) -> Iterator[tuple[int, int]]:
    """First sample and end of what a connection's worker hears at each of its looks.

    It looks when the audio has reached what is due, and otherwise now and then: see `transport.inbound_queue`.
    """
    taken = 0
    while taken < samples:
        nap = POLL_SPEECH_SECONDS if listener.expectant else POLL_IDLE_SECONDS
        wanted = min(taken + round(nap * SAMPLE_RATE), max(listener.due, taken + 1))
        arrived = -(-wanted // FRAME_SAMPLES) * FRAME_SAMPLES
        yield taken, min(arrived, samples)
        taken = arrived


def _cut(ended: Ended) -> Cut:
    notes = ended.stream
    if not isinstance(notes, _Notes):
        raise TypeError("these ears were given another engine")
    pushes = tuple(pushed for pushed in notes.pushes if pushed <= notes.samples)
    return Cut(ended.start, bytes(notes.pcm), pushes, tuple(notes.voided))
