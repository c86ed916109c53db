"""The interface of engines: one `ASRBackend` in a process, one `ASRStream` for each utterance.

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
"""`translate`: the text is in English, whatever the language of the speech."""


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
    """Whether the final shall have words with times. Ignored if `ASRBackend.has_words` is False."""

    task: Task = "transcribe"
    """`translate` only if `ASRBackend.translates`."""

    live: bool = True
    """False: a piece of a file. It needs no partials, and live finals go first."""

    partial_ms: int = 500
    """Least time in ms between two partials that are reported: the engine need not have a new hypothesis more often."""

    notify: Callable[[], None] = field(default=_ignore, compare=False, repr=False)
    """Called by the engine, on any thread, when `ASRStream.partial` has something new. Does not block."""


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
    """Words with times; None: the engine has none."""
    inference_seconds: float = 0.0
    """Seconds that the engine worked on this result, wall clock."""
    stable_chars: int | None = None
    """Characters at the beginning of `text` that later hypotheses will not change; None: the engine cannot tell."""


class EngineError(Exception):
    """The engine could not decode, and trying again would not help. Its text is for the log, never for the peer."""


class ASRStream(Protocol):
    """One utterance. Used by one thread; its future is resolved on another."""

    def push(self, samples: Signal) -> None:
        """Add the utterance's next samples (float32 mono 16 kHz, shape [n]). Does not wait for the model.

        After `pause()` it means that the speaker resumed, so a final decode that the pause began is cancelled.
        """
        ...

    def partial(self) -> ASRResult | None:
        """Return the newest hypothesis that was not returned yet, or None. Does not block.

        Raises:
            EngineError: the engine died during the utterance.
        """
        ...

    def pause(self) -> None:
        """Report that the speaker may be done: the final decode of all samples so far may start now."""
        ...

    def finish(self, samples: int) -> Future[ASRResult]:
        """End the utterance, which is the first `samples` of the samples pushed. `push` is not called any more.

        The future fails with `EngineError`, or is cancelled by `cancel`.
        """
        ...

    def cancel(self) -> None:
        """Drop all work, also after `finish`; idempotent."""
        ...


class ASRBackend(Protocol):
    """An engine with its model, threads and processes."""

    @property
    def name(self) -> str:
        """Its name in STT_BACKEND."""
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
        """How many pieces of one file to decode at once."""
        ...

    def start(self) -> None:
        """Load and warm up the engine.

        Blocks until it is ready. Called once, before any stream, on a thread of its own.

        Raises:
            EngineError: it cannot start; the text says what to do.
        """
        ...

    def healthy(self) -> bool:
        """Whether a stream opened now would be decoded. Any thread; does not block."""
        ...

    def stream(self, options: StreamOptions) -> ASRStream:
        """Open an utterance; cheap; any thread."""
        ...

    def close(self) -> None:
        """End all processes and threads, and free the GPU memory. Pending futures fail or are cancelled. Idempotent.

        May be called while `start` runs, which then soon raises EngineError.
        """
        ...
