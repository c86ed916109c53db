"""Where utterances begin, pause and end: a state machine over frames, clock-free and the same for every engine.

All positions are samples of the connection's audio. Frames are 20 ms, counted from the first sample or from the
last commit, so the result never depends on how the audio was cut into messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from protocol.pcm import FRAME_SAMPLES, samples_of
from protocol.schema import Reason

ONSET_FRAMES = 3
"""Voiced frames, of the last `ONSET_WINDOW`, that open an utterance: 60 ms, longer than a click or a key press."""
ONSET_WINDOW = 5
PRE_ROLL_MS = 300
"""Audio kept from before the first voiced frame: soft consonants at a word's start lie below any threshold.

300 ms is what pocketsphinx's segmentation was measured with; fricatives last 50 to 200 ms.
"""
PAUSE_MS = 200
"""Silence after which the speaker may be done, so a final pass may start. Also the silence kept after the last word.

Longer than the closure of a plosive (about 100 ms), so it seldom falls inside a word.
"""
GLANCE_MS = 200
"""Longest stretch of audio that waits to be heard when nothing is expected."""
CUT_WINDOW_FRAMES = 5
"""An utterance that is too long is cut in the middle of its quietest 100 ms ..."""
CUT_SEARCH_MS = 5_000
"""... of its last 5 s, or of its second half if that is shorter."""


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """When an utterance ends."""

    silence_ms: int = 500
    """Silence that ends it."""
    max_segment_ms: int = 30_000
    """Longest utterance."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An utterance began: its audio starts at `start`, its voice at `voiced_start`."""

    start: int
    voiced_start: int


@dataclass(frozen=True, slots=True)
class Paused:
    """The speaker may be done: if nothing more is voiced, the utterance's audio ends at `at`."""

    at: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The speaker went on after a pause."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The utterance ended."""

    at: int
    """End of its audio."""
    voiced_end: int
    """End of its last voiced frame."""
    reason: Reason
    known: int
    """End of the frame that decided it."""


Action = Opened | Paused | Resumed | Closed


class _Frame(NamedTuple):
    start: int
    end: int
    loudness: float
    voiced: bool


class _Open:
    """What is known of the utterance that is being heard. Its frames follow one another without a gap."""

    __slots__ = ("_memory", "loudness", "paused_at", "start", "voiced", "voiced_before", "voiced_end")

    def __init__(self, start: int, frames: Collection[_Frame], memory: int) -> None:
        """`frames`: those of the onset; `memory`: how many of the last frames a cut may ask for."""
        self.start = start
        self.loudness = [frame.loudness for frame in frames]
        """Of the last `memory` frames at least."""
        self.voiced = [frame.voiced for frame in frames]
        self.voiced_before = start
        """End of the last voiced frame that is forgotten."""
        self.voiced_end = max(frame.end for frame in frames if frame.voiced)
        self.paused_at: int | None = None
        self._memory = memory

    def remember(self, loudness: Sequence[float], voiced: Sequence[bool], position: int) -> None:
        """Take the next frames; the last one ends at `position`."""
        self.loudness += loudness
        self.voiced += voiced
        surplus = len(self.voiced) - self._memory
        if surplus > self._memory:  # seldom, because it copies
            forgotten = _last_voiced_end(self.voiced[:surplus], position - self._memory * FRAME_SAMPLES)
            self.voiced_before = forgotten or self.voiced_before
            del self.loudness[:surplus], self.voiced[:surplus]


class Segmenter:
    """Turns a stream of judged frames into utterance actions. Used by one thread."""

    def __init__(self, options: SegmenterOptions) -> None:
        # In whole frames, as all that is measured against them.
        self._silence = _frames_in(samples_of(options.silence_ms)) * FRAME_SAMPLES
        self._pause = min(_frames_in(samples_of(PAUSE_MS)) * FRAME_SAMPLES, self._silence)
        self._longest = samples_of(options.max_segment_ms) // FRAME_SAMPLES * FRAME_SAMPLES
        self._search = samples_of(min(CUT_SEARCH_MS, options.max_segment_ms // 2))
        self._memory = self._search // FRAME_SAMPLES
        self._glance = samples_of(GLANCE_MS)
        self._onset: deque[_Frame] = deque(maxlen=ONSET_WINDOW)
        self._open: _Open | None = None
        self._closed = False
        self._floor = 0
        self.position = 0
        """End of the last frame."""

    @property
    def listening(self) -> bool:
        """Whether an utterance is open and not paused, so that all audio up to `position` belongs to it."""
        return self._open is not None and self._open.paused_at is None

    @property
    def expectant(self) -> bool:
        """Whether something may happen soon: an utterance is open, or an onset is being debounced."""
        return self._open is not None or bool(self._onset)

    @property
    def horizon(self) -> int:
        """Samples after `position` before which no pause, endpoint or cut can come; at most 200 ms.

        An onset may come sooner: the pre-roll keeps what came before it was noticed.
        """
        utterance = self._open
        if utterance is None:
            return self._glance
        pause = utterance.voiced_end + self._pause - self.position if utterance.paused_at is None else self._glance
        return max(FRAME_SAMPLES, min(self._glance, pause, self._end_after(utterance)))

    def _end_after(self, utterance: _Open) -> int:
        """Samples after `position` before which the utterance cannot end, by its silence or its length."""
        return min(utterance.voiced_end + self._silence, utterance.start + self._longest) - self.position

    @property
    def keep_from(self) -> int:
        """First sample that an action still to come may ask for (besides what an open utterance was given)."""
        if self._open is None:
            window = ONSET_WINDOW * FRAME_SAMPLES + samples_of(PRE_ROLL_MS)
            return max(self._floor, self.position - window)
        given = self.position if self._open.paused_at is None else self._open.paused_at
        earliest_cut = self._open.start + self._longest - self._search
        return min(given, earliest_cut)

    def feed(self, loudness: Sequence[float], voiced: Sequence[bool]) -> list[Action]:
        """Take the next whole frames, their RMS and whether each is voiced, up to the first that ends an utterance.

        `position` tells how many were taken; the others are to be fed again. So one call ends at most one utterance.

        Raises:
            ValueError: frames without a judgement, or the reverse.
        """
        if len(loudness) != len(voiced):
            raise ValueError(f"{len(loudness)} frames, {len(voiced)} of them judged")
        actions: list[Action] = []
        self._closed = False
        first = 0
        while first < len(voiced) and not self._closed:
            if self._open is not None:
                first = self._follow(self._open, loudness, voiced, first, actions)
            elif self._onset or voiced[first]:
                self._expect(_Frame(self.position, self.position + FRAME_SAMPLES, loudness[first], voiced[first]))
                self.position += FRAME_SAMPLES
                first += 1
                if sum(each.voiced for each in self._onset) >= ONSET_FRAMES:
                    self._begin(actions)
            else:
                silent = _run(voiced, first)
                self.position += (silent - first) * FRAME_SAMPLES
                first = silent
        return actions

    def end(self, reason: Reason, tail: int = 0, loudness: float = 0.0, *, voiced: bool = False) -> list[Action]:
        """End the open utterance now, promoting an onset still being debounced; nothing to end: no `Closed`.

        `tail` is the number of samples (under a frame) since the last whole frame; they are judged as one short
        frame, and the next frame starts after them.

        Raises:
            ValueError: `tail` is a frame or more: it was to be fed.
        """
        if not 0 <= tail < FRAME_SAMPLES:
            raise ValueError(f"a tail of {tail} samples is not under a frame")
        actions: list[Action] = []
        if tail:
            start, self.position = self.position, self.position + tail
            frame = _Frame(start, self.position, loudness, voiced)
            # A tail may be voice, but neither the silence nor the length that ends an utterance: `reason` does.
            if self._open is None:
                self._expect(frame)
            elif voiced:
                self._hear_voice(self._open, actions)
        if self._open is None and self._onset:
            self._begin(actions)
        if self._open is not None:
            at = self.position if self._open.paused_at is None else self._open.paused_at
            self._close(at, self._open.voiced_end, reason, actions)
        self._floor = self.position
        self._onset.clear()
        return actions

    def _follow(
        self, utterance: _Open, loudness: Sequence[float], voiced: Sequence[bool], first: int, actions: list[Action]
    ) -> int:
        """Take frames from `first` on that are all voiced or all not, up to the next decision; the first not taken."""
        decided_at = utterance.start + self._longest
        if not voiced[first]:
            decided_at = min(decided_at, utterance.voiced_end + self._silence)
        stop = min(_run(voiced, first), first + _frames_in(decided_at - self.position))
        self.position += (stop - first) * FRAME_SAMPLES
        utterance.remember(loudness[first:stop], voiced[first:stop], self.position)
        if voiced[first]:
            self._hear_voice(utterance, actions)
        else:
            self._hear_silence(utterance, actions)
        if self._open is utterance and self.position - utterance.start >= self._longest:
            self._cut(utterance, actions)
        return stop

    def _expect(self, frame: _Frame) -> None:
        """Keep the frames of the window from its first voiced one on: none while nobody speaks."""
        self._onset.append(frame)
        while self._onset and not self._onset[0].voiced:
            self._onset.popleft()

    def _begin(self, actions: list[Action]) -> None:
        voiced_start = self._onset[0].start
        start = max(self._floor, voiced_start - samples_of(PRE_ROLL_MS))
        self._open = _Open(start, self._onset, self._memory)
        self._onset.clear()
        actions.append(Opened(start, voiced_start))

    def _hear_voice(self, utterance: _Open, actions: list[Action]) -> None:
        utterance.voiced_end = self.position
        if utterance.paused_at is not None:
            utterance.paused_at = None
            actions.append(Resumed())

    def _hear_silence(self, utterance: _Open, actions: list[Action]) -> None:
        silence = self.position - utterance.voiced_end
        if utterance.paused_at is None and silence >= self._pause:
            utterance.paused_at = utterance.voiced_end + self._pause
            actions.append(Paused(utterance.paused_at))
        if utterance.paused_at is not None and silence >= self._silence:
            self._close(utterance.paused_at, utterance.voiced_end, Reason.ENDPOINT, actions)

    def _cut(self, utterance: _Open, actions: list[Action]) -> None:
        loudness, voiced, end = utterance.loudness, utterance.voiced, self.position
        at = utterance.paused_at
        if at is None:
            searched = loudness[-self._memory :]
            at = end - (len(searched) - _quietest(searched)) * FRAME_SAMPLES
        rest = len(voiced) - (end - at) // FRAME_SAMPLES
        voiced_end = _last_voiced_end(voiced[:rest], at) or utterance.voiced_before
        self._close(at, voiced_end, Reason.MAX_LENGTH, actions)
        # What follows the cut is heard again as if it came now: it may hold the next utterance's onset.
        self.position = at
        actions += self.feed(loudness[rest:], voiced[rest:])
        self._closed = True

    def _close(self, at: int, voiced_end: int, reason: Reason, actions: list[Action]) -> None:
        actions.append(Closed(at, voiced_end, reason, known=self.position))
        self._floor = at
        self._open = None
        self._closed = True


def _frames_in(samples: int) -> int:
    """Whole frames that hold so many samples."""
    return -(-samples // FRAME_SAMPLES)


def _run(voiced: Sequence[bool], first: int) -> int:
    """First frame after `first` that is not as it is."""
    try:
        return voiced.index(not voiced[first], first)
    except ValueError:
        return len(voiced)


def _last_voiced_end(voiced: Sequence[bool], end: int) -> int | None:
    """Where the last voiced one of these frames ends, of which the last ends at `end`; None: none is."""
    for number, voice in enumerate(reversed(voiced)):
        if voice:
            return end - number * FRAME_SAMPLES
    return None


def _quietest(loudness: Sequence[float]) -> int:
    """The frame in the middle of the quietest 100 ms."""
    power = [level**2 for level in loudness]
    sums = [sum(power[i : i + CUT_WINDOW_FRAMES]) for i in range(max(1, len(power) - CUT_WINDOW_FRAMES + 1))]
    quietest = sums.index(min(sums))
    return min(quietest + CUT_WINDOW_FRAMES // 2, len(power) - 1)
