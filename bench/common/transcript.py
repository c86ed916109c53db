"""Parses the messages of a connection and compares them with the times at which its audio was sent. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.common.recordings import Part
from bench.common.word_error_rate import Score, count_revised, normalise, score
from protocol.pcm import FRAME_MS
from stt_client import Final, Partial, messages


@dataclass(frozen=True, slots=True)
class Utterance:
    """A final, with measures of its partials."""

    final: Final
    endpoint_ms: float | None
    """Time at the client from sending the frame that completes the silence to the final; None without an endpoint."""
    first_partial_ms: float | None
    """Time at the client from sending the first voiced sample to the first text; None without text."""
    revised_words: int  # number of words of partials that a later partial, or the final, changed
    words: int  # number of words of the final


def send_time(sent: Sequence[float], position_ms: int) -> float | None:
    """Return when the frame with the sample at `position_ms` was sent; None if it was not sent."""
    index = position_ms // FRAME_MS
    return sent[index] if 0 <= index < len(sent) else None


def parse(
    received: Iterable[tuple[float, bytes]], sent: Sequence[float], silence_ms: int, close_code: int | None = None
) -> tuple[list[Utterance], list[str]]:
    """Return the utterances of a connection, and its errors: error messages, and an unexpected close.

    Args:
        received: the arrival time in monotonic seconds and the JSON of each message.
        sent: the time in monotonic seconds at which each frame of 20 ms was sent.
        silence_ms: the server's STT_VAD_SILENCE_MS.
        close_code: the server's close code, if it closed the connection.
    """
    utterances, errors, partials = list[Utterance](), list[str](), list[tuple[float, str]]()
    for arrival, raw in received:
        match messages.parse(raw):
            case Partial() as partial:
                partials.append((arrival, partial.text))
            case Final() as final:
                utterances.append(_utterance(arrival, final, partials, sent, silence_ms))
                partials = []
            case messages.ErrorMessage() as error:
                errors.append(f"{error.code} {error.message}")
    if close_code not in (None, 1000) and not errors:
        errors.append(f"closed with {close_code}")
    return utterances, errors


def _utterance(
    arrival: float, final: Final, partials: Sequence[tuple[float, str]], sent: Sequence[float], silence_ms: int
) -> Utterance:
    texts = [normalise(text) for _, text in partials] + [normalise(final.text)]
    text_times = [when for when, text in [*partials, (arrival, final.text)] if text]
    start_sent = send_time(sent, final.start_ms)
    # The last sample of this frame completes the silence.
    endpoint_sent = send_time(sent, final.end_ms + silence_ms - 1) if final.reason == "endpoint" else None
    return Utterance(
        final,
        endpoint_ms=None if endpoint_sent is None else (arrival - endpoint_sent) * 1000,
        first_partial_ms=None if start_sent is None or not text_times else (text_times[0] - start_sent) * 1000,
        revised_words=sum(count_revised(before, after) for before, after in pairwise(texts)),
        words=len(texts[-1]),
    )


def group_by_part(utterances: Iterable[Utterance], parts: Sequence[Part]) -> list[tuple[Part, list[Utterance]]]:
    """Return each part with its utterances. An utterance belongs to the part with which it overlaps most."""
    groups: list[tuple[Part, list[Utterance]]] = [(part, []) for part in parts]
    for utterance in utterances:
        final = utterance.final
        overlaps = [min(final.end_ms, part.end_ms) - max(final.start_ms, part.start_ms) for part in parts]
        if overlaps and max(overlaps) > 0:
            groups[overlaps.index(max(overlaps))][1].append(utterance)
    return groups


def word_errors(part: Part, utterances: Iterable[Utterance]) -> Score:
    """Count the word errors in all utterances of a recording."""
    return score(part.recording.text, joined_text(utterances), part.recording.language)


def joined_text(utterances: Iterable[Utterance]) -> str:
    """Return the texts of all utterances, separated by spaces."""
    return " ".join(each.final.text for each in utterances if each.final.text)
