"""Counts what the engine decodes, and where the time goes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from backends.qwen3.schedule import Purpose
from backends.qwen3.vllm_model import DecodeOutput


@dataclass(frozen=True, slots=True)
class DecodeTiming:
    """The time of one decode, by its parts: seconds, wall clock."""

    waiting: float
    """Time in the queue until rendering began: one decode is rendered at a time."""
    rendering: float
    """Time to compute mel spectra and vLLM's input."""
    decoding: float
    """Time in vLLM until the output was there."""

    @property
    def total(self) -> float:
        """The sum."""
        return self.waiting + self.rendering + self.decoding


@dataclass(frozen=True, slots=True)
class CompletedDecode:
    """A decode that was neither aborted nor failed."""

    purpose: Purpose
    output: DecodeOutput
    timing: DecodeTiming


@dataclass(frozen=True, slots=True)
class DecodeTotals:
    """Sums over decodes. All but the first two leave out decodes that were aborted or failed."""

    decodes: int = 0
    """Decodes started."""
    audio_seconds: float = 0.0
    """Audio in items whose key was not sent before: the audio that was encoded."""
    prompt_tokens: int = 0
    """Tokens of prompts, audio tokens included."""
    cached_tokens: int = 0
    """Prompt tokens that came from the KV cache; the others were computed."""
    text_tokens: int = 0
    """Tokens generated."""
    waiting_seconds: float = 0.0
    """See `DecodeTiming`, as for the next two."""
    rendering_seconds: float = 0.0
    decoding_seconds: float = 0.0

    def __add__(self, other: DecodeTotals) -> DecodeTotals:
        return DecodeTotals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class EngineStats:
    """All decodes since the engine was created, by purpose."""

    refreshes: DecodeTotals
    finals: DecodeTotals
    batch: DecodeTotals
    aborted: int
    """Decodes that were started and aborted."""
    failed: int
    """Decodes that failed."""
    in_flight: int
    """Decodes queued, rendered or decoded now."""


class StatsCollector:
    """Adds decodes up. Not thread-safe."""

    def __init__(self) -> None:
        self._totals = dict.fromkeys(Purpose, DecodeTotals())
        self._aborted = 0
        self._failed = 0

    def decode_started(self, purpose: Purpose, new_audio: float) -> None:
        """Count a decode with `new_audio` seconds of audio that was not sent before."""
        self._totals[purpose] += DecodeTotals(decodes=1, audio_seconds=new_audio)

    def decode_completed(self, completed: CompletedDecode) -> None:
        """Add the decode's tokens and times."""
        self._totals[completed.purpose] += DecodeTotals(
            prompt_tokens=completed.output.prompt_tokens,
            cached_tokens=completed.output.cached_tokens,
            text_tokens=len(completed.output.tokens),
            waiting_seconds=completed.timing.waiting,
            rendering_seconds=completed.timing.rendering,
            decoding_seconds=completed.timing.decoding,
        )

    def decode_aborted(self) -> None:
        """Count an aborted decode."""
        self._aborted += 1

    def decode_failed(self) -> None:
        """Count a failed decode."""
        self._failed += 1

    def snapshot(self, in_flight: int) -> EngineStats:
        """The sums now, with `in_flight` decodes in flight."""
        totals = self._totals
        return EngineStats(
            totals[Purpose.REFRESH],
            totals[Purpose.FINAL],
            totals[Purpose.BATCH],
            self._aborted,
            self._failed,
            in_flight,
        )
