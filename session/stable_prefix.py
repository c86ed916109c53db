"""The beginning of an utterance's hypotheses that no longer changes.

A beginning on which two hypotheses agree is mostly right (LocalAgreement-2: D. Liu et al., "Low-latency
sequence-to-sequence speech recognition and translation by partial hypothesis selection", 2020). Here it is also a
promise: every later hypothesis begins with it.
"""

from __future__ import annotations

import unicodedata

from protocol.unspaced_scripts import is_unspaced, join_texts


class StablePrefix:
    """One utterance's stable text. Used by one thread."""

    def __init__(self) -> None:
        self._stable = ""
        self._previous = ""

    def update(self, text: str, stable_chars: int | None = None) -> tuple[str, int]:
        """Process the next hypothesis. Returns the text to show, and how many code points at its beginning are stable.

        `stable_chars`: how much of `text` the engine declares stable; None: the agreement with the last hypothesis
        decides. The text begins with the stable prefix. A hypothesis that contradicts it changes only what follows.
        """
        shown = self._keep_stable(text)
        if stable_chars is None:
            agreed = _last_edge(self._previous, shown, _common_length(self._previous, shown))
        else:
            agreed = stable_chars if shown == text else 0
        if agreed > len(self._stable):
            self._stable = shown[:agreed]
        self._previous = shown
        return shown, len(self._stable)

    def _keep_stable(self, text: str) -> str:
        stable = self._stable
        if text.startswith(stable):
            return text
        # The hypothesis has other words there: keep the stable words, and append what follows the same number of words.
        words = len(_word_ends(stable))
        ends = [0, *_word_ends(text)]
        rest = text[ends[words] :] if words < len(ends) else ""
        if not _ends_word(stable, len(stable)):  # the stable text keeps its own punctuation
            rest = rest[next((at for at, each in enumerate(rest) if each.isspace() or each.isalnum()), len(rest)) :]
        return stable + rest if words else join_texts((stable, rest.lstrip()))


def _common_length(first: str, second: str) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _last_edge(first: str, second: str, length: int) -> int:
    """The largest number of characters, up to `length`, that ends at a word's edge in both texts."""
    while length and not (_is_edge(first, length) and _is_edge(second, length)):
        length -= 1
    return length


def _is_edge(text: str, at: int) -> bool:
    """Whether a word ends directly before character `at`."""
    before = text[at - 1]
    if before.isspace():
        return False
    if at == len(text):
        return True
    after = text[at]
    if after.isspace():
        return True
    if unicodedata.category(after).startswith("M"):
        return False  # a combining mark belongs to the character before it
    if is_unspaced(before) or is_unspaced(after):
        return True
    # Punctuation ends a word unless more of the word follows, as in "3.5" and "don't".
    return not after.isalnum() and (at + 1 == len(text) or not text[at + 1].isalnum())


def _word_ends(text: str) -> list[int]:
    """Where the words of `text` end."""
    return [at for at in range(1, len(text) + 1) if _ends_word(text, at) and _is_edge(text, at)]


def _ends_word(text: str, at: int) -> bool:
    """Whether the word before `at` ends with a letter or digit: punctuation after it is not a word."""
    return text[at - 1].isalnum() or unicodedata.category(text[at - 1]).startswith("M")
