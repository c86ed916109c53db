"""The items of a Realtime session, which are utterances as OpenAI's clients see them. Pure.

An item ends by silence or by the client's commit. Without turn detection an item may consist of several utterances, if
the server had to cut a long one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from protocol.events import Final, Hypothesis, Reason, SpeechStarted, SpeechStopped
from protocol.languages import AUTO
from protocol.unspaced_scripts import join_texts

ServerEvent = dict[str, Any]
"""An event without its `event_id`."""
_ENDS_OF_ITEMS = frozenset({Reason.COMMIT, Reason.FINISH, Reason.DRAIN, Reason.CLOSING})
"""Reasons of an utterance's end that also end its item when the client ends items itself."""
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(slots=True)
class _Item:
    id: str
    start_ms: int | None = None
    """When it began, as the client was told; None: it was not told."""
    deltas: str = ""
    """Concatenation of the deltas that were sent, which are never taken back."""
    texts: list[str] = field(default_factory=list)
    """Finals so far."""
    milliseconds: int = 0
    """Length of its speech."""
    dropped: bool = False
    """Whether the client cleared it."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """An ended utterance that has no final yet."""

    item: _Item
    completes: bool
    """Whether the item ends with it."""


class Items:
    """One session's items. Used by one thread; every `SpeechStopped` must be followed by its `Final`, in order."""

    def __init__(self, connection_id: str) -> None:
        self._prefix = f"item_{connection_id}"
        self._count = 0
        self._open: _Item | None = None
        self._ended: deque[_Ended] = deque()
        self._previous: str | None = None
        """The item that was committed last."""
        self.detects_turns = True
        """Whether silence ends items; else only the client's commit does."""
        self.padding_ms = 0
        """Padding in ms that is subtracted from the start of an item."""

    def started(self, event: SpeechStarted) -> list[ServerEvent]:
        """An utterance began."""
        item = self._open = self._open or self._new()
        if not self.detects_turns:
            return []
        item.start_ms = max(0, event.start_ms - self.padding_ms)
        return [{"type": "input_audio_buffer.speech_started", "audio_start_ms": item.start_ms, "item_id": item.id}]

    def hypothesis(self, event: Hypothesis) -> list[ServerEvent]:
        """The open utterance has a new hypothesis: send what is newly stable."""
        item = self._open = self._open or self._new()
        return _delta(item, join_texts((*item.texts, event.text[: event.stable_chars].rstrip())))

    def stopped(self, event: SpeechStopped) -> list[ServerEvent]:
        """An utterance ended, or the client committed."""
        item = self._open = self._open or self._new()
        completes = self.detects_turns or item.start_ms is not None or event.reason in _ENDS_OF_ITEMS
        self._ended.append(_Ended(item, completes))
        if not completes:
            return []
        self._open = None
        return [*_stopped(item, event.end_ms), *self._commit(item)]

    def final(self, event: Final) -> list[ServerEvent]:
        """The final of the oldest ended utterance."""
        ended = self._ended.popleft()
        item = ended.item
        if item.dropped:
            return []
        item.texts.append(event.text)
        item.milliseconds += event.end_ms - event.start_ms
        text = join_texts(item.texts)
        deltas = _delta(item, text)
        return [*deltas, _completed(item, text, event.language)] if ended.completes else deltas

    def cleared(self, *, asked: bool) -> list[ServerEvent]:
        """The open utterance was dropped, with the earlier utterances of its item.

        `asked`: the client asked for that; else it learns of it only if there was one.
        """
        item, self._open = self._open, None
        for ended in self._ended:
            ended.item.dropped = ended.item.dropped or not ended.completes
        cleared = {"type": "input_audio_buffer.cleared"}
        if asked:
            return [cleared]
        return [] if item is None else [*_stopped(item, item.start_ms), cleared]

    def finish(self) -> list[ServerEvent]:
        """The session is over and all finals were sent: end the item that was never committed."""
        item, self._open = self._open, None
        if item is None or not item.texts or item.dropped:
            return []
        return [*self._commit(item), _completed(item, join_texts(item.texts), AUTO)]

    def _new(self) -> _Item:
        self._count += 1
        return _Item(f"{self._prefix}_{self._count}")

    def _commit(self, item: _Item) -> list[ServerEvent]:
        previous, self._previous = self._previous, item.id
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        return [
            {"type": "input_audio_buffer.committed", "item_id": item.id, "previous_item_id": previous},
            {"type": "conversation.item.added", "item": shown, "previous_item_id": previous},
            {"type": "conversation.item.done", "item": shown, "previous_item_id": previous},
        ]


def _stopped(item: _Item, end_ms: int | None) -> list[ServerEvent]:
    """The end of speech; nothing if the client was not told that it began."""
    if item.start_ms is None:
        return []
    return [{"type": "input_audio_buffer.speech_stopped", "audio_end_ms": end_ms, "item_id": item.id}]


def _delta(item: _Item, text: str) -> list[ServerEvent]:
    """The part of `text` after the deltas so far; nothing if it contradicts them."""
    if not text.startswith(item.deltas) or text == item.deltas:
        return []
    delta, item.deltas = text[len(item.deltas) :], text
    return [{"type": f"{_TRANSCRIPTION}.delta", "item_id": item.id, "content_index": 0, "delta": delta}]


def _completed(item: _Item, text: str, language: str) -> ServerEvent:
    completed: ServerEvent = {
        "type": f"{_TRANSCRIPTION}.completed",
        "item_id": item.id,
        "content_index": 0,
        "transcript": text,
        "usage": {"type": "duration", "seconds": round(item.milliseconds / 1000, 3)},
    }
    return completed | ({"languages": [{"code": language}]} if text and language != AUTO else {})
