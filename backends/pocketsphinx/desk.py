"""What streams and the workers' owners share: utterances, and the desk where work is left and fetched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from backends.base import ASRResult
from backends.pocketsphinx.process import Answer, Request
from protocol.pcm import BYTES_PER_SAMPLE

Task = TypeVar("Task")


def _nobody() -> None:
    """Nobody wants to know."""


@dataclass(slots=True, eq=False)
class Utterance:
    """What is held of one utterance; guarded by the desks' lock."""

    number: int
    notify: Callable[[], None] = _nobody
    """Its speaker's `StreamOptions.notify`; called without the lock."""
    partial_ms: int = 0
    """Its speaker's `StreamOptions.partial_ms`."""
    pcm: bytearray = field(default_factory=bytearray)
    """All that was pushed, PCM16LE at 16 kHz: a pass can begin again at any time."""
    heard: int = 0
    """Samples that the newest hypothesis covers; a streaming pass that begins again is silent until it is past them."""
    text: str = ""
    """Of the newest hypothesis."""
    partial: ASRResult | None = None
    """The newest hypothesis, until it is taken."""
    future: Future[ASRResult] = field(default_factory=Future)
    """Of the final; nobody has it before `finish`.

    Whoever takes the utterance out of `FinalDesk` settles it, once, and outside the lock: its callbacks may call a
    stream.
    """

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return len(self.pcm) // BYTES_PER_SAMPLE

    def cut(self, start: int, stop: int) -> bytes:
        """Samples from `start` to before `stop`, as PCM16LE."""
        return bytes(memoryview(self.pcm)[start * BYTES_PER_SAMPLE : stop * BYTES_PER_SAMPLE])


class Desk(Protocol[Task]):
    """One worker's view of its work; all but `close` are called by that worker's owner."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is work, perhaps for several workers, or `timeout` seconds; return False once closed."""
        ...

    def take(self, kill: Callable[[], None]) -> tuple[Task, Request] | None:
        """Take a job, or None if another worker was quicker.

        Args:
            kill: ends the worker's process at once, from any thread, and never waits. For a job that is no longer worth
                its time; called only until the job is delivered or has died, which both can follow.
        """
        ...

    def deliver(self, task: Task, answer: Answer) -> None:
        """Hand in a job's answer."""
        ...

    def decline(self) -> None:
        """Leave the work that `wait` spoke of to another worker: this one's process died while it was idle."""
        ...

    def died(self, task: Task) -> None:
        """Give a job back that the worker died on."""
        ...

    def renewed(self) -> None:
        """Say that the worker process is a new one."""
        ...
