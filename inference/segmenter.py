"""Decides where utterances begin, pause and end: a state machine over frames.

It has no clock, and is the same for every engine. All positions are samples of the connection's audio. Frames are 20
ms, counted from the first sample or from the last commit, so the result never depends on how the audio was cut into
messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from inference.open_utterance import Frame, OpenUtterance, last_voiced_end, quietest_frame
from inference.segmenter_actions import Action, Closed, Opened, Paused, Resumed
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, samples_of

ONSET_FRAMES = 3
"""Voiced frames, of the last `ONSET_WINDOW`, that open an utterance: 60 ms, longer than a click or a key press."""
ONSET_WINDOW = 5
PRE_ROLL_MS = 300
"""Audio kept from before the first voiced frame: soft consonants at a word's start lie below any threshold.

Fricatives last 50 to 200 ms.
"""
PAUSE_MS = 200
"""Silence after which the final decode may start: the speaker may be done. Also the silence kept after the last word.

Longer than the closure of a plosive (about 100 ms), so it seldom falls inside a word.
"""
IDLE_BLOCK_MS = 200
"""Longest stretch of audio that may wait to be processed while no utterance is open."""
_NEVER = 1 << 60
"""Samples: longer than any session."""
CUT_SEARCH_MS = 5_000
"""An utterance that is too long is cut at the quietest point of its last 5 s (of its second half, if shorter)."""


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """When an utterance ends."""

    silence_ms: int = 500
    """Silence that ends it."""
    max_segment_ms: int = 30_000
    """Longest utterance."""
    endpointing: bool = True
    """Whether silence ends an utterance at all."""


class Segmenter:
    """Turns frames, with the detector's decisions, into actions on utterances. Used by one thread."""

    def __init__(self, options: SegmenterOptions) -> None:
        self._longest = samples_of(options.max_segment_ms) // FRAME_SAMPLES * FRAME_SAMPLES
        self._cut_search = samples_of(min(CUT_SEARCH_MS, options.max_segment_ms // 2))
        self._kept_frames = self._cut_search // FRAME_SAMPLES
        self._idle_block = samples_of(IDLE_BLOCK_MS)
        self._silence = self._pause = 0
        self._next_options = options
        self._apply_options()
        self._onset: deque[Frame] = deque(maxlen=ONSET_WINDOW)
        self._open: OpenUtterance | None = None
        self._closed = False
        self._earliest_start = 0
        self.position = 0
        """End of the last frame."""

    def configure(self, options: SegmenterOptions) -> None:
        """Use the `silence_ms` and `endpointing` of `options` from the next utterance on."""
        self._next_options = options
        if self._open is None:
            self._apply_options()

    def _apply_options(self) -> None:
        options = self._next_options
        # In whole frames, like the positions that are compared with them.
        self._silence = _frames_in(samples_of(options.silence_ms)) * FRAME_SAMPLES if options.endpointing else _NEVER
        self._pause = min(_frames_in(samples_of(PAUSE_MS)) * FRAME_SAMPLES, self._silence)

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance is open and not paused. All audio up to `position` then belongs to it."""
        return self._open is not None and self._open.paused_at is None

    @property
    def speech_possible(self) -> bool:
        """Whether an utterance is open, or an onset is being debounced."""
        return self._open is not None or bool(self._onset)

    @property
    def samples_until_decision(self) -> int:
        """Number of samples after `position` within which no pause, endpoint or cut can occur; at most 200 ms.

        An onset may occur sooner; the pre-roll keeps the audio before it.
        """
        utterance = self._open
        if utterance is None:
            return self._idle_block
        pause = utterance.voiced_end + self._pause - self.position if utterance.paused_at is None else self._idle_block
        return max(FRAME_SAMPLES, min(self._idle_block, pause, self._end_after(utterance)))

    @property
    def samples_until_end(self) -> int:
        """Number of samples after `position` within which no utterance can end."""
        return _NEVER if self._open is None else max(FRAME_SAMPLES, self._end_after(self._open))

    def _end_after(self, utterance: OpenUtterance) -> int:
        """Number of samples after `position` within which the utterance cannot end."""
        return min(utterance.voiced_end + self._silence, utterance.start + self._longest) - self.position

    @property
    def keep_from(self) -> int:
        """Samples before this position may be discarded."""
        if self._open is None:
            window = ONSET_WINDOW * FRAME_SAMPLES + samples_of(PRE_ROLL_MS)
            return max(self._earliest_start, self.position - window)
        given = self.position if self._open.paused_at is None else self._open.paused_at
        earliest_cut = self._open.start + self._longest - self._cut_search
        return min(given, earliest_cut)

    def feed(self, loudness: Sequence[float], voiced: Sequence[bool]) -> list[Action]:
        """Process whole frames, given by their RMS and whether each is voiced, up to the first that ends an utterance.

        `position` tells how many were processed. Pass the others again. So one call ends at most one utterance.

        Raises:
            ValueError: the two sequences differ in length.
        """
        if len(loudness) != len(voiced):
            raise ValueError(f"{len(loudness)} frames, but {len(voiced)} decisions")
        actions: list[Action] = []
        self._closed = False
        first = 0
        while first < len(voiced) and not self._closed:
            if self._open is not None:
                first = self._advance(self._open, loudness, voiced, first, actions)
            elif self._onset or voiced[first]:
                self._debounce_onset(
                    Frame(self.position, self.position + FRAME_SAMPLES, loudness[first], voiced[first])
                )
                self.position += FRAME_SAMPLES
                first += 1
                if sum(each.voiced for each in self._onset) >= ONSET_FRAMES:
                    self._open_utterance(actions)
            else:
                silent = _run(voiced, first)
                self.position += (silent - first) * FRAME_SAMPLES
                first = silent
        return actions

    def end(self, reason: Reason, tail: int = 0, loudness: float = 0.0, *, voiced: bool = False) -> list[Action]:
        """End the open utterance now; an onset with too few voiced frames becomes an utterance and ends too.

        Without either there is no `Closed`. `tail` is the number of samples (under a frame) since the last whole frame.
        They count as one short frame, and the next frame starts after them.

        Raises:
            ValueError: `tail` is a whole frame or more.
        """
        if not 0 <= tail < FRAME_SAMPLES:
            raise ValueError(f"a tail of {tail} samples is not under a frame")
        actions: list[Action] = []
        if tail:
            start, self.position = self.position, self.position + tail
            frame = Frame(start, self.position, loudness, voiced)
            # A tail may be voiced. But it never ends an utterance by silence or length: the utterance ends with
            # `reason`.
            if self._open is None:
                self._debounce_onset(frame)
            elif voiced:
                self._take_voice(self._open, actions)
        if self._open is None and self._onset:
            self._open_utterance(actions)
        if self._open is not None:
            at = self.position if self._open.paused_at is None else self._open.paused_at
            self._close(at, self._open.voiced_end, reason, actions)
        self._restart_at(self.position)
        return actions

    def clear(self, tail: int = 0) -> None:
        """Drop the open utterance or onset. The next frame starts `tail` samples (under a frame) after the last."""
        self._open = None
        self._restart_at(self.position + tail)

    def _restart_at(self, position: int) -> None:
        """Continue at `position`, without an onset; the next utterance begins there or later."""
        self.position = self._earliest_start = position
        self._onset.clear()
        self._apply_options()

    def _advance(
        self,
        utterance: OpenUtterance,
        loudness: Sequence[float],
        voiced: Sequence[bool],
        first: int,
        actions: list[Action],
    ) -> int:
        """Process the run of frames from `first` that are all voiced or all unvoiced; returns the index after it."""
        next_decision = utterance.start + self._longest
        if not voiced[first]:
            next_decision = min(next_decision, utterance.voiced_end + self._silence)
        stop = min(_run(voiced, first), first + _frames_in(next_decision - self.position))
        self.position += (stop - first) * FRAME_SAMPLES
        utterance.remember(loudness[first:stop], voiced[first:stop], self.position)
        if voiced[first]:
            self._take_voice(utterance, actions)
        else:
            self._take_silence(utterance, actions)
        if self._open is utterance and self.position - utterance.start >= self._longest:
            self._cut(utterance, actions)
        return stop

    def _debounce_onset(self, frame: Frame) -> None:
        """Keep the window's frames from its first voiced one on."""
        self._onset.append(frame)
        while self._onset and not self._onset[0].voiced:
            self._onset.popleft()

    def _open_utterance(self, actions: list[Action]) -> None:
        voiced_start = self._onset[0].start
        start = max(self._earliest_start, voiced_start - samples_of(PRE_ROLL_MS))
        self._open = OpenUtterance(start, self._onset, self._kept_frames)
        self._onset.clear()
        actions.append(Opened(start, voiced_start))

    def _take_voice(self, utterance: OpenUtterance, actions: list[Action]) -> None:
        utterance.voiced_end = self.position
        if utterance.paused_at is not None:
            utterance.paused_at = None
            actions.append(Resumed())

    def _take_silence(self, utterance: OpenUtterance, actions: list[Action]) -> None:
        silence = self.position - utterance.voiced_end
        if utterance.paused_at is None and silence >= self._pause:
            utterance.paused_at = utterance.voiced_end + self._pause
            actions.append(Paused(utterance.paused_at))
        if utterance.paused_at is not None and silence >= self._silence:
            self._close(utterance.paused_at, utterance.voiced_end, Reason.ENDPOINT, actions)

    def _cut(self, utterance: OpenUtterance, actions: list[Action]) -> None:
        if utterance.paused_at is not None:
            self._close(utterance.paused_at, utterance.voiced_end, Reason.MAX_LENGTH, actions)
            return
        loudness, voiced, end = utterance.loudness, utterance.voiced, self.position
        searched = loudness[-self._kept_frames :]
        at = end - (len(searched) - quietest_frame(searched)) * FRAME_SAMPLES
        rest = len(voiced) - (end - at) // FRAME_SAMPLES
        voiced_end = last_voiced_end(voiced[:rest], at) or utterance.voiced_before
        self._close(at, voiced_end, Reason.MAX_LENGTH, actions)
        # The audio after the cut is processed again: it may hold the next utterance's onset.
        self.position = at
        actions += self.feed(loudness[rest:], voiced[rest:])
        self._closed = True

    def _close(self, at: int, voiced_end: int, reason: Reason, actions: list[Action]) -> None:
        actions.append(Closed(at, voiced_end, reason, decided_at=self.position))
        self._earliest_start = at
        self._open = None
        self._closed = True
        self._apply_options()


def _frames_in(samples: int) -> int:
    """Whole frames that hold so many samples."""
    return -(-samples // FRAME_SAMPLES)


def _run(voiced: Sequence[bool], first: int) -> int:
    """Index of the next frame whose voicing differs from that of `first`."""
    try:
        return voiced.index(not voiced[first], first)
    except ValueError:
        return len(voiced)
