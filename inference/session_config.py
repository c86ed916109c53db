"""The settings of a session that its client can change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.base import StreamOptions
from inference.segmenter import SegmenterOptions
from protocol import events
from protocol.languages import primary_subtag


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of a session that `Configure` can change."""

    language: str
    """`auto`, or a language tag."""
    stream: StreamOptions
    segmenter: SegmenterOptions
    every_turn: bool = False
    """See `SessionOptions`."""

    def changed(self, change: events.Configure) -> SessionConfig:
        """These settings, updated by `change`."""
        language = self.language if change.language is None else change.language
        hotwords = self.stream.hotwords if change.hotwords is None else change.hotwords
        silence_ms = self.segmenter.silence_ms if change.silence_ms is None else change.silence_ms
        endpointing = self.segmenter.endpointing if change.endpointing is None else change.endpointing
        context = self.stream.context if change.context is None else change.context
        return replace(
            self,
            language=language,
            stream=replace(self.stream, language=primary_subtag(language), hotwords=hotwords, context=context),
            segmenter=replace(self.segmenter, silence_ms=silence_ms, endpointing=endpointing),
        )

    def reported(self) -> events.Configured:
        """The event that reports these settings."""
        segmenter = self.segmenter
        return events.Configured(self.language, self.stream.hotwords, segmenter.silence_ms, segmenter.endpointing)
