"""Which frames hold voice, by their energy.

The floor is found by minimum statistics (R. Martin, "Noise power spectral density estimation based on optimal smoothing
and minimum statistics", 2001): people who speak close their lips now and then, rooms do not, so nearly the least that
was heard in the last few seconds is the room. Here it is kept for the whole band, of frames, and for longer than
Martin's 1.5 s: a note held for 4 s must not become the room, and a fan may take 5 s to become it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from protocol.pcm import Signal, frame_rms


@dataclass(frozen=True, slots=True)
class VadOptions:
    """What is voice."""

    threshold: float = 300.0
    """RMS, in 16-bit units, below which nothing is: 0 to 32768."""


Judged = tuple[list[float], list[bool]]
"""RMS in 16-bit units of each frame, and whether it is voice."""


class Vad(Protocol):
    """One source's voice activity detector. Used by one thread."""

    def frames(self, signal: Signal) -> Judged:
        """Judge each whole 20 ms frame of `signal` (float32 [n]), which follows the frames judged before.

        What is said of a frame depends on the audio up to its end, never on how it was cut into calls.
        """
        ...


class FixedVad:
    """Calls a frame voiced when its RMS reaches a fixed threshold: the yardstick, right in a quiet room. Stateless."""

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold

    def frames(self, signal: Signal) -> Judged:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        return rms, [loudness >= self._threshold for loudness in rms]


ONSET_RATIO = 2.0
"""Voice begins at so many times the floor's RMS, 6 dB ..."""
RELEASE_RATIO = 1.5
"""... and goes on above so many, 3.5 dB. Both are chosen with `python -m bench.endpoints noise --half tune`."""
BLOCK_FRAMES = 25
"""Frames after which the floor is sought anew: 500 ms."""
MEMORY_BLOCKS = 10
"""Blocks in which the floor is sought: 5 s. A louder room is learned when all of them but one are louder."""
SETTLED_BLOCKS = 2
"""Blocks without which the floor is unknown: 1 s, in which most speakers pause for three frames."""
FIRST_FRAMES = 10
"""Frames at a source's start that are enough where they are steady: 200 ms, which an utterance's pre-roll spans."""
STEADY_RATIO = 2.0
"""Their largest RMS by their least, below which they are steady: pink noise stays below 1.7, 92 % of speech not."""
DOUBT_FRAMES = 50
"""For so long, 1 s, a frame of less than half their mean shows that they were a vowel after all."""
DIGITAL_SILENCE = 1.0
"""RMS in 16-bit units below which no microphone is open: dropped audio, or a muted client. It tells of no room."""


class NoiseFloor:
    """The second least of the last ten blocks' least loudness, the least while there are few. Used by one thread."""

    def __init__(self) -> None:
        self._blocks: deque[float] = deque(maxlen=MEMORY_BLOCKS)
        self._last = 0.0
        """RMS of the last frame."""
        self.rms = 0.0
        """In 16-bit units; 0: unknown."""

    def assume(self, rms: float) -> None:
        """Know the floor before much was heard; 0: know that it is unknown."""
        self.rms = rms

    def hear(self, block: list[float]) -> None:
        """Take the RMS of the next 25 frames."""
        least, blocks = min(block), self._blocks
        stopped = any(now < DIGITAL_SILENCE <= before for before, now in pairwise([self._last, *block]))
        self._last = block[-1]
        if stopped:
            # A gate that closes shows that what was heard before was no room; once in 5 s, a client may have muted.
            least = 0.0
        elif least < DIGITAL_SILENCE:
            return
        blocks.append(least)
        if self.rms or len(blocks) >= SETTLED_BLOCKS:
            # Once there are many, the second least: one gap in the noise, as a codec leaves, is not the room.
            self.rms = sorted(blocks)[len(blocks) >= MEMORY_BLOCKS // 2]


class _Beginning:
    """A source's first second, in which there is no past to compare with. Used by one thread."""

    def __init__(self) -> None:
        self._heard: list[float] = []
        self.over = False
        """Whether nothing more is to be learned from it."""

    def room(self, loudness: float) -> float | None:
        """RMS of the noise in which the source began, after one more frame; 0: in none; None: not known yet."""
        heard = self._heard
        if loudness < DIGITAL_SILENCE:  # what comes and goes from nothing is no room
            self.over = True
            return 0.0
        heard.append(loudness)
        first = heard[:FIRST_FRAMES]
        mean = sum(first) / len(first)
        if max(first) >= STEADY_RATIO * min(first) or heard[-1] < mean / STEADY_RATIO:
            self.over = True
            return 0.0
        self.over = len(heard) >= DOUBT_FRAMES
        return mean if len(first) == FIRST_FRAMES else None


class EnergyVad:
    """Calls a frame voiced when its RMS reaches the larger of a threshold and twice the noise floor.

    Voice once begun goes on down to 1.5 times the floor, and never below the threshold: in a quiet room every frame is
    judged as by the threshold alone. One object for each source, used by one thread.

    A source that begins loud and steady begins in a noisy room: its first 200 ms are no voice, unless they change.
    """

    def __init__(self, threshold: float) -> None:
        """`threshold` in 16-bit units, 0 to 32768."""
        self._threshold = threshold
        self._onset = threshold
        self._release = threshold
        self._voiced = False
        self._floor = NoiseFloor()
        self._followed = 0.0
        """The floor by which the thresholds are set."""
        self._block: list[float] = []
        self._beginning: _Beginning | None = _Beginning()
        """None: over."""
        self._assumed: float | None = None
        """What it said last."""

    @property
    def floor(self) -> float:
        """RMS of the room in 16-bit units, as far as it is known; 0: unknown."""
        return self._floor.rms

    @property
    def onset(self) -> float:
        """RMS in 16-bit units from which a frame now begins voice."""
        return self._onset

    def frames(self, signal: Signal) -> Judged:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        if self._beginning is None:
            return rms, self._listen(rms)
        return rms, [self._judge_early(loudness) for loudness in rms]

    def _listen(self, rms: list[float]) -> list[bool]:
        block, onset = self._block, self._onset
        block += rms
        if len(block) >= BLOCK_FRAMES:
            return self._learn(rms)
        if onset != self._release:
            return self._judge(rms)
        # Spelled out, for this is the quiet room's way; before a new floor `_judge` notes whether there is voice.
        return [loudness >= onset for loudness in rms]

    def _learn(self, rms: list[float]) -> list[bool]:
        """Judge each block by the floor that was known before it, however many calls it comes in."""
        block = self._block
        voiced: list[bool] = []
        done = 0
        while len(block) >= BLOCK_FRAMES:
            ends = len(rms) - len(block) + BLOCK_FRAMES
            self._floor.hear(block[:BLOCK_FRAMES])
            del block[:BLOCK_FRAMES]
            if self._floor.rms != self._followed:
                voiced += self._judge(rms[done:ends])
                done = ends
                self._follow()
        return voiced + self._judge(rms[done:])

    def _judge(self, rms: list[float]) -> list[bool]:
        onset, release, voice = self._onset, self._release, self._voiced
        voiced: list[bool] = []
        for loudness in rms:
            voice = loudness >= (release if voice else onset)
            voiced.append(voice)
        self._voiced = voice
        return voiced

    def _follow(self) -> None:
        """Set the thresholds by the floor."""
        self._followed = self._floor.rms
        self._onset = max(self._threshold, ONSET_RATIO * self._floor.rms)
        self._release = max(self._threshold, RELEASE_RATIO * self._floor.rms)

    def _judge_early(self, loudness: float) -> bool:
        beginning = self._beginning
        if beginning is None:
            return self._listen([loudness])[0]
        room = beginning.room(loudness)
        if room is not None and room != self._assumed:
            self._assumed = room
            self._floor.assume(room)
            self._follow()
        if beginning.over:
            self._beginning = None
        self._voiced = self._listen([loudness])[0] and room is not None
        return self._voiced
