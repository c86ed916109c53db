"""Times and confidences of a text's words."""

from __future__ import annotations

from faster_whisper.tokenizer import Tokenizer

from backends.base import Word
from backends.whisper.model import Array, Model
from protocol.pcm import FRAME_MS, SAMPLE_RATE, Signal, frame_rms

_VOICED_PART = 0.05
"""Share of the loudest frame's RMS below which a frame at a word's beginning belongs to the pause before it."""
_SPACELESS = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Languages without spaces between words: their characters are timed."""


def timed_words(model: Model, states: Array, signal: Signal, text: str, language: str) -> list[Word]:
    """Words of `text`, which was decoded from `states`; times count from the signal's first sample."""
    tokenizer = model.tokenizer(language, "transcribe")
    tokens = [token for token in tokenizer.encode(f" {text}") if token < tokenizer.eot]
    if not tokens:
        return []
    seconds, probabilities = model.align(states, language, tokens, model.features(signal).shape[1])
    loudness = frame_rms(signal)
    length_ms = len(signal) * 1000 // SAMPLE_RATE
    words: list[Word] = []
    at, earliest = 0, 0
    for word, count in _split(tokenizer, tokens, spaces=language not in _SPACELESS):
        start, end = (min(length_ms, round(1000 * float(seconds[index]))) for index in (at, at + count))
        start = max(earliest, _voiced(loudness, start, end))
        end = max(start, end)
        mean = sum(probabilities[at : at + count]) / count
        words.append(Word(word, start, end, min(1.0, max(0.0, mean))))
        at, earliest = at + count, start
    return words


def _split(tokenizer: Tokenizer, tokens: list[int], *, spaces: bool) -> list[tuple[str, int]]:
    """The words of the text, each with the number of its tokens. Punctuation belongs to its word."""
    words: list[tuple[str, int]] = []
    for part, its_tokens in zip(*tokenizer.split_tokens_on_unicode(tokens), strict=True):
        begins = part.startswith(" ") if spaces else any(map(str.isalnum, part))
        if words and not (begins and words[-1][0].strip()):
            words[-1] = words[-1][0] + part, words[-1][1] + len(its_tokens)
        else:
            words.append((part, len(its_tokens)))
    return [(word.strip(), count) for word, count in words]


def _voiced(loudness: Signal, start_ms: int, end_ms: int) -> int:
    """Start of the first loud frame of a word. The model lets words begin up to 490 ms before their voice."""
    frames = loudness[start_ms // FRAME_MS : end_ms // FRAME_MS]
    loud = (frames >= _VOICED_PART * loudness.max()).nonzero()[0] if len(frames) else frames
    return start_ms // FRAME_MS * FRAME_MS + int(loud[0]) * FRAME_MS if len(loud) and loud[0] else start_ms
