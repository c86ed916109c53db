"""Voice activity detection by energy: a frame is voiced when it is loud enough above the noise floor.

The noise floor is found by minimum statistics (R. Martin, "Noise power spectral density estimation based on optimal
smoothing and minimum statistics", 2001). Speech has short gaps, and background noise has none. So the second smallest
loudness of the last seconds is that of the noise.

Here the minimum is taken over whole frames of the full band, and over 5 s in place of Martin's 1.5 s. A note held for
4 s must not become the floor. A fan may take 5 s to become it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from protocol.pcm import Signal, frame_rms


@dataclass(frozen=True, slots=True)
class VadOptions:
    """When a frame is voiced."""

    threshold: float = 300.0
    """RMS in 16-bit units (0 to 32768) below which no frame is voiced."""


FrameDecisions = tuple[list[float], list[bool]]
"""RMS in 16-bit units of each frame, and whether it is voiced."""


class Vad(Protocol):
    """One source's voice activity detector. Used by one thread."""

    @property
    def threshold(self) -> float | None:
        """RMS in 16-bit units from which the next frame is voiced; None: loudness does not decide."""
        ...

    def frames(self, signal: Signal) -> FrameDecisions:
        """Decide about each whole 20 ms frame of `signal` (float32 [n]), which follows the frames of the last call.

        A decision depends on the audio up to the frame's end, never on how the audio was cut into calls.
        """
        ...

    def set_threshold(self, threshold: float) -> None:
        """Use this threshold from now on, RMS in 16-bit units. A detector without a threshold ignores it."""
        ...


class FixedVad:
    """Calls a frame voiced when its RMS reaches a fixed threshold: the reference in benchmarks. Stateless."""

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold

    @property
    def threshold(self) -> float:
        """RMS in 16-bit units from which the next frame is voiced."""
        return self._threshold

    def frames(self, signal: Signal) -> FrameDecisions:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        return rms, [loudness >= self._threshold for loudness in rms]

    def set_threshold(self, threshold: float) -> None:
        """See `Vad`."""
        self._threshold = threshold


ONSET_RATIO = 1.9
"""Multiple of the noise floor's RMS at which voice begins: 5.6 dB."""
RELEASE_RATIO = 1.55
"""Multiple above which voice continues: 3.8 dB. Both were tuned with `python -m bench.endpoints noise --half tune`."""
MAX_TONE_RATIO = 1.12
"""Largest ratio of a block's greatest to its least RMS for which the block is a tone: a telephone's dial tone has 1.10,
hum 1.02, and white noise more in 19 blocks of 20."""
TONE_ONSET_RATIO = 1.25
"""While the floor is a tone: multiple of it at which voice begins, and below whose inverse it begins too. 2 dB."""
TONE_RELEASE_RATIO = 1.15
"""The multiple above which it continues."""
BLOCK_FRAMES = 25
"""Frames after which the floor is estimated again: 500 ms."""
WINDOW_BLOCKS = 10
"""Blocks over which the minimum is taken: 5 s. Louder noise becomes the floor when all blocks except one are louder."""
MIN_BLOCKS = 2
"""Blocks before the first estimate: 1 s, in which most speakers pause for three frames."""
STARTUP_FRAMES = 10
"""Frames at a source's start that are enough for an estimate if they are steady: 200 ms, less than the pre-roll."""
MAX_STEADY_RATIO = 2.0
"""Ratio of the greatest to the least RMS of these frames, below which they are steady. Pink noise stays below 1.7; so
does 8 % of speech."""
CONFIRM_FRAMES = 50
"""Frames (1 s) in which a frame of less than half their mean shows that they were a vowel, not noise."""
DIGITAL_SILENCE = 1.0
"""RMS in 16-bit units below which the input is digital silence, from dropped audio or a muted client. It does not count
as a noise floor."""


class NoiseFloor:
    """The noise floor: the second smallest of the last ten blocks' minima, or the smallest of fewer than five.

    One thread.
    """

    def __init__(self) -> None:
        self._blocks: deque[float] = deque(maxlen=WINDOW_BLOCKS)
        self._last = 0.0
        """RMS of the last frame."""
        self._tones: deque[float] = deque(maxlen=WINDOW_BLOCKS)
        """The minima of those blocks that are tones; 0 for the others."""
        self.rms = 0.0
        """RMS of the floor in 16-bit units; 0: unknown."""
        self.is_tone = False
        """Whether half of the ten blocks are a tone of the floor's loudness."""

    def set_prior(self, rms: float) -> None:
        """Set the floor before the first block is complete; 0: unknown."""
        self.rms = rms

    def update(self, block: list[float]) -> None:
        """Add the RMS of the next 25 frames."""
        least, blocks = min(block), self._blocks
        stopped = any(now < DIGITAL_SILENCE <= before for before, now in pairwise([self._last, *block]))
        self._last = block[-1]
        if stopped:
            # A noise gate that closes shows that the sound before was not background noise. Once in 5 s it may be a
            # muted client.
            least = 0.0
        elif least < DIGITAL_SILENCE:
            return
        blocks.append(least)
        self._tones.append(least if max(block) <= MAX_TONE_RATIO * least else 0.0)
        if self.rms or len(blocks) >= MIN_BLOCKS:
            # The second smallest of five or more: one gap in the noise, as codecs make, is not the floor.
            self.rms = sorted(blocks)[len(blocks) >= WINDOW_BLOCKS // 2]
        tones = [tone for tone in self._tones if self.rms / MAX_TONE_RATIO <= tone <= self.rms * MAX_TONE_RATIO]
        self.is_tone = len(tones) >= WINDOW_BLOCKS // 2


class StartupNoiseEstimator:
    """Estimates the noise at a source's start, before the first block is complete. Used by one thread."""

    def __init__(self) -> None:
        self._loudness: list[float] = []
        self.done = False
        """Whether the estimate is final."""

    def update(self, loudness: float) -> float | None:
        """RMS of the noise in 16-bit units after one more frame; 0: there is none; None: undecided."""
        if loudness < DIGITAL_SILENCE:  # a sound that starts after digital silence is not background noise
            self.done = True
            return 0.0
        self._loudness.append(loudness)
        first = self._loudness[:STARTUP_FRAMES]
        mean = sum(first) / len(first)
        if max(first) >= MAX_STEADY_RATIO * min(first) or loudness < mean / MAX_STEADY_RATIO:
            self.done = True
            return 0.0
        self.done = len(self._loudness) >= CONFIRM_FRAMES
        return mean if len(first) == STARTUP_FRAMES else None


class EnergyVad:
    """Calls a frame voiced when its RMS reaches the larger of a threshold and 1.9 times the noise floor.

    Voice that has begun continues down to 1.55 times the floor, and never below the threshold: where it is quiet, the
    threshold alone decides. A source that begins loud and steady begins in noise: its first 200 ms are unvoiced, unless
    they vary. While the floor is a tone, whatever differs from the tone by 2 dB is voiced, quieter frames too: speech
    after a hold tone need not be louder. Used by one thread.
    """

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold
        self._onset = threshold
        self._release = threshold
        self._tone_lower_limit = 0.0
        """RMS below which a frame over the threshold is voiced; 0: the floor is not a tone."""
        self._voiced = False
        self._floor = NoiseFloor()
        self._applied_floor = 0.0, False
        """The noise floor that the thresholds were computed from, and whether it is a tone."""
        self._block: list[float] = []
        self._startup: StartupNoiseEstimator | None = StartupNoiseEstimator()
        """Estimates the noise at the start; None: its estimate is final."""
        self._startup_noise: float | None = None
        """Its latest estimate."""

    @property
    def floor(self) -> float:
        """RMS of the noise floor in 16-bit units; 0: unknown."""
        return self._floor.rms

    @property
    def onset(self) -> float:
        """RMS in 16-bit units from which a frame now begins voice."""
        return self._onset

    @property
    def threshold(self) -> float:
        """RMS in 16-bit units from which the next frame is voiced: lower while voice goes on."""
        return self._release if self._voiced else self._onset

    def frames(self, signal: Signal) -> FrameDecisions:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        if self._startup is None:
            return rms, self._judge_by_floor(rms)
        return rms, [self._decide_early(loudness) for loudness in rms]

    def set_threshold(self, threshold: float) -> None:
        """See `Vad`."""
        self._threshold = threshold
        self._set_thresholds()

    def _judge_by_floor(self, rms: list[float]) -> list[bool]:
        block, onset = self._block, self._onset
        block += rms
        if len(block) >= BLOCK_FRAMES:
            return self._decide_and_update(rms)
        if onset != self._release:
            return self._decide(rms)
        # The common case, for speed: in a quiet room there is one threshold, and no state.
        return [loudness >= onset for loudness in rms]

    def _decide_and_update(self, rms: list[float]) -> list[bool]:
        """Decide about each block by the floor before it, however many calls it comes in."""
        block = self._block
        voiced: list[bool] = []
        done = 0
        while len(block) >= BLOCK_FRAMES:
            ends = len(rms) - len(block) + BLOCK_FRAMES
            self._floor.update(block[:BLOCK_FRAMES])
            del block[:BLOCK_FRAMES]
            if (self._floor.rms, self._floor.is_tone) != self._applied_floor:
                voiced += self._decide(rms[done:ends])
                done = ends
                self._set_thresholds()
        return voiced + self._decide(rms[done:])

    def _decide(self, rms: list[float]) -> list[bool]:
        onset, release, voice = self._onset, self._release, self._voiced
        threshold, below_tone = self._threshold, self._tone_lower_limit
        voiced: list[bool] = []
        for loudness in rms:
            voice = loudness >= (release if voice else onset) or threshold <= loudness < below_tone
            voiced.append(voice)
        self._voiced = voice
        return voiced

    def _set_thresholds(self) -> None:
        floor, is_tone = self._applied_floor = self._floor.rms, self._floor.is_tone
        self._onset = max(self._threshold, (TONE_ONSET_RATIO if is_tone else ONSET_RATIO) * floor)
        self._release = max(self._threshold, (TONE_RELEASE_RATIO if is_tone else RELEASE_RATIO) * floor)
        self._tone_lower_limit = floor / TONE_ONSET_RATIO if is_tone else 0.0

    def _decide_early(self, loudness: float) -> bool:
        startup = self._startup
        if startup is None:
            return self._judge_by_floor([loudness])[0]
        noise = startup.update(loudness)
        if noise is not None and noise != self._startup_noise:
            self._startup_noise = noise
            self._floor.set_prior(noise)
            self._set_thresholds()
        if startup.done:
            self._startup = None
        self._voiced = self._judge_by_floor([loudness])[0] and noise is not None
        return self._voiced
