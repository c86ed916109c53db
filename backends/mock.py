"""`mock`: replays the text of the recordings in references/, which it recognises by their loudness from frame to frame.

It has no model and no thread, and never blocks. The text depends on the samples alone, so a load test measures the
server, and tests know the right text. Other audio gives the first recording's words.
"""

from __future__ import annotations

import time
import wave
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backends.base import ASRResult, ASRStream, EngineError, StreamOptions
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, frame_rms, to_signal

VOICED_RMS = np.float32(300)
"""RMS in 16-bit units from which a frame is speech. Quieter frames are equal in the comparison."""
GAP_FRAMES = 25
"""Unvoiced frames (500 ms) that separate two utterances of a recording."""
WORD_FRAMES = 15
"""Voiced frames (300 ms) for each word of unknown audio, and between two updates of the text."""
MATCH_FRAMES = 25
"""Frames (500 ms) before a recording is chosen: shorter beginnings resemble one another."""
END_FRAMES = 5
"""Frames (100 ms) at a recording's end that may be missing: its last sounds are about as loud as VOICED_RMS."""
MATCH_DB = 2.0
"""Largest mean distance of a match; measured: a recording from itself up to 1.1, from a steady tone 2.4 and more."""
SHIFTS = range(0, FRAME_SAMPLES, FRAME_SAMPLES // 4)
"""Shifts in samples: frames of the audio may begin anywhere in a recording's frames, so each is kept in four
alignments."""
LAGS = range(-2, 3)
"""Frames by which the first voiced frame may come after the recording's own."""
_INITIAL_FRAMES = 250
"""Initial capacity of an utterance's buffer in frames (5 s)."""


@dataclass(frozen=True, slots=True)
class References:
    """Every utterance in every alignment and lag, a row each; read by all threads."""

    texts: tuple[tuple[str, ...], ...]
    """Words of each utterance."""
    owners: npt.NDArray[np.int64]
    """Utterance of each row: [rows]."""
    lengths: npt.NDArray[np.int64]
    """Frames of each row, from first voiced to last: [rows]."""
    loudness: Signal
    """dB over VOICED_RMS, 0 after a row's end: [rows, frames]."""
    inside: Signal
    """1, and 0 after a row's end: [rows, frames]."""

    def match(self, rms: Signal) -> int | None:
        """Row nearest to `rms` (16-bit units, [frames], the first one voiced); None: none is near."""
        loudness = _loudness(rms[: self.loudness.shape[1]])
        distance = self.loudness[:, : len(loudness)] - loudness
        np.abs(distance, out=distance)
        distance *= self.inside[:, : len(loudness)]  # frames after a recording's end belong to the next utterance
        mean = distance.sum(axis=1) / np.minimum(self.lengths, len(loudness))
        row = int(mean.argmin())
        return row if mean[row] <= MATCH_DB else None

    def fits(self, row: int, rms: Signal) -> bool:
        """Whether `row` is near to `rms` (16-bit units, [frames], the first one voiced)."""
        loudness = _loudness(rms[: self.lengths[row]])
        return bool(np.abs(self.loudness[row, : len(loudness)] - loudness).mean() <= MATCH_DB)

    def words(self, rms: Signal, match: Callable[[Signal], int | None], *, ended: bool) -> list[str]:
        """Words in `rms` (16-bit units, [frames]), each recording found by `match`.

        `ended`: the utterance has ended.
        """
        words: list[str] = []
        start = 0
        while True:
            voiced = np.flatnonzero(rms[start:] >= VOICED_RMS)
            # a few voiced frames behind a recording are its own last sounds
            if len(voiced) < (WORD_FRAMES if words else 1):
                return words
            start += int(voiced[0])
            span = int(voiced[-1] - voiced[0]) + 1
            if span < MATCH_FRAMES and not ended:
                return words
            row = match(rms[start : start + span]) if span >= MATCH_FRAMES else None
            if row is None:
                return words + list(islice(cycle(self.texts[0]), max(1, len(voiced) // WORD_FRAMES)))
            text, length = self.texts[self.owners[row]], int(self.lengths[row])
            if span < length - END_FRAMES:
                return words + list(text[: span * len(text) // length])
            words += text
            start += length + END_FRAMES


class MockBackend:
    """Replays the recordings in the folder `references`."""

    name = "mock"
    languages: frozenset[str] | None = None
    uses_hotwords = False
    has_words = False
    translates = False
    batch_width = 1

    def __init__(self, references: Path) -> None:
        self._folder = references
        self._references: References | None = None
        self._closed = False

    def start(self) -> None:
        """Read the recordings."""
        self._references = load(self._folder)
        # `close` sets its flag before it drops the recordings, so one of the two always sees the other
        if self._closed:
            self._references = None
            raise EngineError("the mock backend was closed while it started")

    def healthy(self) -> bool:
        """Whether the recordings are there."""
        return self._references is not None

    def stream(self, options: StreamOptions) -> ASRStream:
        """Open an utterance."""
        references = self._references
        if references is None:
            raise EngineError("the mock backend is not running")
        return _MockStream(references, options)

    def close(self) -> None:
        """Forget the recordings; an utterance that is open may still end."""
        self._closed = True
        self._references = None


class _MockStream:
    def __init__(self, references: References, options: StreamOptions) -> None:
        self._references = references
        self._language = options.language or "en"
        self._notify = options.notify
        self._rms = np.zeros(_INITIAL_FRAMES, np.float32)
        self._frames = 0  # whose loudness was measured
        self._updated_at = 0  # when the text was last updated
        self._partial_frame = np.zeros(0, np.float32)  # under a frame
        self._words: list[str] = []
        self._row: int | None = None

    def push(self, samples: Signal) -> None:
        signal = np.concatenate((self._partial_frame, samples)) if len(self._partial_frame) else samples
        measured = self._frames + len(signal) // FRAME_SAMPLES
        if measured > len(self._rms):
            self._rms = np.concatenate((self._rms, np.zeros(measured, np.float32)))
        self._rms[self._frames : measured] = frame_rms(signal)
        # A copy: the caller may reuse its buffer.
        self._partial_frame = signal[(measured - self._frames) * FRAME_SAMPLES :].copy()
        self._frames = measured
        if self._has_new_text:
            self._notify()

    def partial(self) -> ASRResult | None:
        if not self._has_new_text:
            return None
        self._updated_at = self._frames
        began = time.perf_counter()
        words = self._references.words(self._rms[: self._frames], self._guess, ended=False)
        if words == self._words:
            return None
        self._words = words
        return self._result(words, began)

    def pause(self) -> None:
        """Does nothing: a final takes no time."""

    def finish(self, samples: int) -> Future[ASRResult]:
        began = time.perf_counter()
        words = self._references.words(self._rms[: samples // FRAME_SAMPLES], self._references.match, ended=True)
        done: Future[ASRResult] = Future()
        done.set_result(self._result(words, began))
        return done

    def cancel(self) -> None:
        self._updated_at = self._frames

    @property
    def _has_new_text(self) -> bool:
        return self._frames - self._updated_at >= WORD_FRAMES

    def _guess(self, rms: Signal) -> int | None:
        """The row of the recording. It is matched again only when the last match no longer fits, to save CPU."""
        if self._row is None or not self._references.fits(self._row, rms):
            self._row = self._references.match(rms)
        return self._row

    def _result(self, words: list[str], began: float) -> ASRResult:
        return ASRResult(" ".join(words), self._language, inference_seconds=time.perf_counter() - began)


def load(folder: Path) -> References:
    """Read a folder of recordings, in the order of their names.

    Raises:
        EngineError: there are none, or one cannot be used.
    """
    texts: list[tuple[str, ...]] = []
    rows: list[tuple[int, Signal]] = []
    for path in sorted(folder.glob("*.wav")):
        signal, lines = read_recording(path)
        for shift in SHIFTS:
            utterances = _utterances(frame_rms(signal[shift:]))
            if len(utterances) != len(lines):
                raise EngineError(f"{path} has {len(utterances)} utterances but {len(lines)} lines of text")
            for owner, rms in enumerate(utterances, len(texts)):
                rows += [(owner, np.pad(_loudness(rms), (max(-lag, 0), 0))[max(lag, 0) :]) for lag in LAGS]
        texts += [tuple(line.split()) for line in lines]
    if not rows:
        raise EngineError(f"STT_BACKEND=mock needs recordings of speech, and {folder} holds none")
    lengths = np.array([len(row) for _, row in rows])
    loudness = np.stack([np.pad(row, (0, int(lengths.max()) - len(row))) for _, row in rows])
    inside = (np.arange(loudness.shape[1]) < lengths[:, None]).astype(np.float32)
    return References(tuple(texts), np.array([owner for owner, _ in rows]), lengths, loudness, inside)


def read_recording(path: Path) -> tuple[Signal, list[str]]:
    """A recording's samples (16 kHz, [n]) and its text, a line for each utterance.

    Raises:
        EngineError: one of the two cannot be read.
    """
    try:
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        with wave.open(str(path), "rb") as wav:
            form = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
            pcm = wav.readframes(wav.getnframes())
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise EngineError(f"{path} or its .txt cannot be read: {error}") from error
    if form != (SAMPLE_RATE, 1, 2):
        raise EngineError(f"{path} is not 16 kHz mono PCM16")
    samples = np.frombuffer(pcm, "<i2", count=len(pcm) // 2)
    return to_signal(samples), [line.strip() for line in text.splitlines() if line.strip()]


def _utterances(rms: Signal) -> list[Signal]:
    """Stretches of `rms` [frames] from a first voiced frame to a last, separated by silences of GAP_FRAMES."""
    voiced = np.flatnonzero(rms >= VOICED_RMS)
    stretches = np.split(voiced, np.flatnonzero(np.diff(voiced) > GAP_FRAMES) + 1)
    return [rms[stretch[0] : stretch[-1] + 1] for stretch in stretches if len(stretch)]


def _loudness(rms: Signal) -> Signal:
    """16-bit units to decibels over VOICED_RMS, silence 0: [frames] -> [frames]."""
    return np.log10(np.maximum(rms, VOICED_RMS) / VOICED_RMS) * np.float32(20)
