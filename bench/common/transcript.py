"""Parses the messages of one connection and compares them with the times at which its audio was sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.common.recordings import Part
from bench.common.word_error_rate import Score, normalise, revised, score
from protocol.pcm import FRAME_MS
from stt_client import Final, Partial, messages


@dataclass(frozen=True, slots=True)
class Utterance:
    """One final and its partials."""

    final: Final
    endpoint_ms: float | None
    """Seen by the client: from sending the frame that completes the silence to the final; None: not an endpoint."""
    first_partial_ms: float | None
    """Seen by the client: from sending the first voiced sample to the first text; None: no text."""
    revised_words: int  # words of partials that a later partial, or the final, changed
    words: int  # words of the final


def sent_at(sent: Sequence[float], position_ms: int) -> float | None:
    """When the frame with the sample at `position_ms` was sent; None: it was not sent."""
    index = position_ms // FRAME_MS
    return sent[index] if 0 <= index < len(sent) else None


def parse(
    received: Iterable[tuple[float, bytes]], sent: Sequence[float], silence_ms: int, close_code: int | None = None
) -> tuple[list[Utterance], list[str]]:
    """The utterances of one connection, and its errors: error messages, and a close that the client did not ask for.

    Args:
        received: arrival time in monotonic seconds, and JSON, of each message.
        sent: when each frame of 20 ms was sent, monotonic seconds.
        silence_ms: the server's STT_VAD_SILENCE_MS.
        close_code: the server's close code, if it closed the connection.
    """
    utterances, errors, partials = list[Utterance](), list[str](), list[tuple[float, str]]()
    for arrived, raw in received:
        match messages.parse(raw):
            case Partial() as partial:
                partials.append((arrived, partial.text))
            case Final() as final:
                utterances.append(_utterance(arrived, final, partials, sent, silence_ms))
                partials = []
            case messages.ErrorMessage() as error:
                errors.append(f"{error.code} {error.message}")
    if close_code not in (None, 1000) and not errors:
        errors.append(f"closed with {close_code}")
    return utterances, errors


def _utterance(
    arrived: float, final: Final, partials: Sequence[tuple[float, str]], sent: Sequence[float], silence_ms: int
) -> Utterance:
    texts = [normalise(text) for _, text in partials] + [normalise(final.text)]
    text_times = [when for when, text in [*partials, (arrived, final.text)] if text]
    started = sent_at(sent, final.start_ms)
    # The frame whose last sample completes the silence.
    ended = sent_at(sent, final.end_ms + silence_ms - 1) if final.reason == "endpoint" else None
    return Utterance(
        final,
        endpoint_ms=None if ended is None else (arrived - ended) * 1000,
        first_partial_ms=None if started is None or not text_times else (text_times[0] - started) * 1000,
        revised_words=sum(revised(before, after) for before, after in pairwise(texts)),
        words=len(texts[-1]),
    )


def by_part(utterances: Iterable[Utterance], parts: Sequence[Part]) -> list[tuple[Part, list[Utterance]]]:
    """Each part with its utterances. An utterance belongs to the part with which it overlaps most."""
    found: list[tuple[Part, list[Utterance]]] = [(part, []) for part in parts]
    for utterance in utterances:
        final = utterance.final
        overlaps = [min(final.end_ms, part.end_ms) - max(final.start_ms, part.start_ms) for part in parts]
        if overlaps and max(overlaps) > 0:
            found[overlaps.index(max(overlaps))][1].append(utterance)
    return found


def word_errors(part: Part, utterances: Iterable[Utterance]) -> Score:
    """Word errors in all utterances of a recording."""
    return score(part.recording.text, joined(utterances), part.recording.language)


def joined(utterances: Iterable[Utterance]) -> str:
    """The texts of all utterances, separated by blanks."""
    return " ".join(each.final.text for each in utterances if each.final.text)
