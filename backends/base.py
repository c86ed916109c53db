"""The seam every engine fits: one `ASRBackend` a process, one `ASRStream` an utterance.

An engine never sees silence between utterances, never decides where an utterance ends, and never waits inside
`push` or `partial`: both are called from the thread that also segments the audio.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from protocol.pcm import Signal

Task = Literal["transcribe", "translate"]
"""`translate`: the text is English, whatever the language of the speech."""


def _ignore() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of one utterance's stream."""

    language: str | None = None
    """Primary language subtag in lower case (`en`), already checked against the backend; None: the engine decides."""

    hotwords: tuple[str, ...] = ()
    """Words to expect, in the speaker's order."""

    context: str = ""
    """Text that came before the utterance or describes it; a hint, which an engine may ignore."""

    words: bool = False
    """Whether the final shall have words with times; an engine whose `has_words` is False ignores it."""

    task: Task = "transcribe"
    """`translate` only where `ASRBackend.translates`."""

    live: bool = True
    """False: a piece of a file. Nobody asks for partials, and it gives way to live finals."""

    partial_ms: int = 500
    """Least time in ms between two partials that the speaker is shown: the engine need not have news more often."""

    notify: Callable[[], None] = field(default=_ignore, compare=False, repr=False)
    """Called from any thread when `ASRStream.partial` has something new: the worker need not poll. Never waits."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    word: str
    start_ms: int
    """From the utterance's first sample."""
    end_ms: int
    """From the utterance's first sample."""
    confidence: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class ASRResult:
    """A hypothesis for the utterance, or its final text."""

    text: str
    language: str | None = None
    """Primary subtag of the language recognised or forced; None where the engine cannot tell."""
    words: tuple[Word, ...] | None = None
    """None where the engine has no word times."""
    inference_seconds: float = 0.0
    """Time the engine worked on this result, wall clock."""
    stable_chars: int | None = None
    """Leading characters of `text` that later hypotheses are not expected to change; None: the engine cannot tell."""


class EngineError(Exception):
    """The engine could not decode, and trying again would not help. Its text is for the log, never for the peer."""


class ASRStream(Protocol):
    """One utterance. Used by one thread; its future is resolved on another."""

    def push(self, samples: Signal) -> None:
        """Take the utterance's next samples (float32 mono 16 kHz, shape [n]); never waits for the model.

        After a `pause()` it says that the speaker resumed, which voids a final pass that the pause began.
        """
        ...

    def partial(self) -> ASRResult | None:
        """Return the newest hypothesis not yet taken, or None; never waits.

        Raises:
            EngineError: the engine died in mid-utterance.
        """
        ...

    def pause(self) -> None:
        """Say that the speaker may be done: the final pass over all that was pushed may start now."""
        ...

    def finish(self, samples: int) -> Future[ASRResult]:
        """End the utterance: it is the first `samples` of the samples pushed, and nothing more will be pushed.

        The future fails with `EngineError`, or is cancelled by `cancel`.
        """
        ...

    def cancel(self) -> None:
        """Drop all work, also after `finish`; idempotent."""
        ...


class ASRBackend(Protocol):
    """One engine with its model and whatever threads or processes it needs."""

    @property
    def name(self) -> str:
        """The name in STT_BACKEND."""
        ...

    @property
    def languages(self) -> frozenset[str] | None:
        """Primary subtags it recognises; None: any."""
        ...

    @property
    def uses_hotwords(self) -> bool:
        """Whether `StreamOptions.hotwords` changes anything."""
        ...

    @property
    def has_words(self) -> bool:
        """Whether finals have words with times where `StreamOptions.words` asks for them."""
        ...

    @property
    def translates(self) -> bool:
        """Whether `StreamOptions.task` may be `translate`."""
        ...

    @property
    def batch_width(self) -> int:
        """How many pieces of one file are worth having in work at once."""
        ...

    def start(self) -> None:
        """Load and warm up; blocks; returns warm. Called once, before any stream, from a thread of its own.

        Raises:
            EngineError: it cannot start; the text says what to do.
        """
        ...

    def healthy(self) -> bool:
        """Whether a stream opened now would be decoded; any thread, never waits."""
        ...

    def stream(self, options: StreamOptions) -> ASRStream:
        """Open an utterance; cheap; any thread."""
        ...

    def close(self) -> None:
        """Leave no process, thread or GPU memory behind; pending futures fail or are cancelled. Idempotent.

        May be called while `start` still runs: `start` then gives up soon, with EngineError.
        """
        ...
