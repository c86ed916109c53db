"""What the server said to one speaker, put beside when the speaker's audio was sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.audio import Clip, Part
from bench.wer import Score, normalise, revised, score
from protocol.pcm import FRAME_MS


@dataclass(frozen=True, slots=True)
class Utterance:
    """One final, as its client saw it come about."""

    text: str
    reason: str
    start_ms: int
    """First voiced sample, in ms of the speaker's audio."""
    end_ms: int
    """End of the last voiced sample, in ms of the speaker's audio."""
    latency_ms: int
    """The server's own measure: arrival of what ended the utterance to its final."""
    first_token_ms: int
    """The server's own measure: arrival of the first voiced sample to the first text."""
    endpoint_ms: float | None
    """Seen by the client: sending the frame that completes the endpoint -> the final; None: not an endpoint."""
    first_partial_ms: float | None
    """Seen by the client: sending the first voiced sample -> the first text; None: no text."""
    while_speaking: bool
    """Whether a partial came before the last voiced sample was sent."""
    revised_words: int
    """Words shown that a later text of the utterance, the final included, changed."""
    words: int
    """Words of the final."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One connection."""

    utterances: Sequence[Utterance]
    errors: Sequence[str]
    """Error messages, and an end that the client did not ask for."""


def sent_at(sent: Sequence[float], position_ms: int) -> float | None:
    """When the frame that holds the sample at `position_ms` of the speaker's audio was sent; None: it was not."""
    index = position_ms // FRAME_MS
    return sent[index] if 0 <= index < len(sent) else None


def endpoint_sent_at(sent: Sequence[float], end_ms: int, silence_ms: int) -> float | None:
    """When the frame was sent whose last sample completes `silence_ms` of silence after `end_ms`."""
    return sent_at(sent, end_ms + silence_ms - 1)


def read(
    received: Iterable[tuple[float, bytes]], sent: Sequence[float], silence_ms: int, close_code: int | None = None
) -> Conversation:
    """Make sense of one connection's messages.

    Args:
        received: arrival in monotonic seconds, and JSON.
        sent: when each frame of 20 ms was sent, monotonic seconds.
        silence_ms: STT_VAD_SILENCE_MS.
        close_code: the server's, if it was the one to close.
    """
    utterances: list[Utterance] = []
    errors: list[str] = []
    partials: list[tuple[float, str]] = []
    for came, raw in received:
        message: dict[str, Any] = json.loads(raw)
        if message["type"] == "partial":
            partials.append((came, message["text"]))
        elif message["type"] == "final":
            utterances.append(_utterance(came, message, partials, sent, silence_ms))
            partials = []
        elif message["type"] == "error":
            errors.append(f"{message['code']} {message['message']}")
    if close_code not in (None, 1000) and not errors:
        errors.append(f"closed with {close_code}")
    return Conversation(utterances, errors)


def _utterance(
    came: float, final: dict[str, Any], partials: Sequence[tuple[float, str]], sent: Sequence[float], silence_ms: int
) -> Utterance:
    shown = [normalise(text) for _, text in partials] + [normalise(final["text"])]
    texts = [when for when, text in [*partials, (came, final["text"])] if text]
    spoke = sent_at(sent, final["start_ms"])
    stopped = sent_at(sent, final["end_ms"] - 1)
    ended = endpoint_sent_at(sent, final["end_ms"], silence_ms) if final["reason"] == "endpoint" else None
    return Utterance(
        text=final["text"],
        reason=final["reason"],
        start_ms=final["start_ms"],
        end_ms=final["end_ms"],
        latency_ms=final["latency_ms"],
        first_token_ms=final["first_token_ms"],
        endpoint_ms=None if ended is None else (came - ended) * 1000,
        first_partial_ms=None if spoke is None or not texts else (texts[0] - spoke) * 1000,
        while_speaking=bool(partials and stopped is not None and partials[0][0] < stopped),
        revised_words=sum(revised(before, after) for before, after in pairwise(shown)),
        words=len(shown[-1]),
    )


def within(utterances: Iterable[Utterance], parts: Sequence[Part]) -> list[tuple[Part, list[Utterance]]]:
    """Each part with its utterances: those that overlap it more than any other."""
    found: list[tuple[Part, list[Utterance]]] = [(part, []) for part in parts]
    for utterance in utterances:
        overlaps = [min(utterance.end_ms, part.end_ms) - max(utterance.start_ms, part.start_ms) for part in parts]
        if overlaps and max(overlaps) > 0:
            found[overlaps.index(max(overlaps))][1].append(utterance)
    return found


def word_errors(clip: Clip, heard: Iterable[Utterance]) -> Score:
    """Errors in all utterances of a recording."""
    return score(clip.text or "", text_of(heard), clip.language)


def text_of(heard: Iterable[Utterance]) -> str:
    """The utterances' texts as one."""
    return " ".join(each.text for each in heard if each.text)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Endpoints in recordings of which the utterances are known."""

    expected: int
    """Pauses between two utterances."""
    found: int
    """Of those, the pauses in which an utterance ended."""
    extra: int
    """Endpoints where no pause was expected."""


def endpoints(utterances: Sequence[Utterance], part: Part) -> Endpoints:
    """Compare where utterances ended in `part` with where its recording's own do.

    A pause is found where no utterance spans its middle. Of a recording whose times are not known, only the number of
    its utterances is compared.
    """
    expected = (part.clip.utterances or 1) - 1
    actual = max(0, len(utterances) - 1)
    if not part.clip.segments:
        return Endpoints(expected, min(expected, actual), max(0, actual - expected))
    segments = part.clip.segments
    middles = [part.start_ms + (before[1] + after[0]) // 2 for before, after in pairwise(segments)]
    spanned = sum(any(each.start_ms < middle < each.end_ms for each in utterances) for middle in middles)
    found = min(len(middles) - spanned, actual)
    return Endpoints(len(middles), found, actual - found)
