"""The decisions of the segmenter. All positions are samples of the session's audio."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.events import Reason


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
    decided_at: int
    """End of the frame that completed the decision."""


Action = Opened | Paused | Resumed | Closed
