"""Detects text that the model invents where nobody speaks. Pure; tests/backends/test_whisper_sounds.py measures it."""

from __future__ import annotations

import re
from collections.abc import Sequence

NO_SPEECH = 0.7
"""Probability of no speech above which any text is dropped. Short words that were right had at most 0.67, "up" 0.75."""
CONFIDENT_NO_SPEECH = 0.8
"""The same for a confident text: for noise, only texts of `INVENTED` and numbers were as probable. A Korean sentence
that was right had 0.75."""
CONFIDENT = -1.0
"""Mean log-probability above which an English text is confident. For noise they had up to -1.47, except `INVENTED`."""
CONFIDENT_FOREIGN = -0.6
"""The same for other languages. "C'est ça.", for noise, had -0.9."""
DOUBTFUL_NO_SPEECH = 0.5
"""The same for an improbable text."""
IMPROBABLE = -1.4
"""Mean log-probability below which a text is improbable. "go", said alone, had -1.34."""
INVENTED_NO_SPEECH = 0.35
"""The same for a text of `INVENTED`, or of one repeated character, as in Japanese."""
INVENTED = frozenset(
    {"you", "thank you", "i", "i'm sorry", "bye", "thanks for watching", "thank you for watching", "adiós"}
)
"""Texts that Whisper writes for noise; "you" in nine of ten cases."""


def is_hallucination(text: str, language: str, no_speech_prob: float, mean_log_prob: float) -> bool:
    """Whether a text was invented for noise; `language` is a primary subtag."""
    words = re.sub(r"[^\w']+", " ", text.casefold().replace("\u2019", "'")).split()
    if not words:
        return True
    if no_speech_prob > INVENTED_NO_SPEECH and _is_invented(words):
        return True
    # Where it took noise for Norwegian, Whisper wrote "1-2-3".
    has_words = language == "en" or any(map(str.isalpha, text))
    if no_speech_prob > DOUBTFUL_NO_SPEECH and mean_log_prob < (IMPROBABLE if has_words else CONFIDENT):
        return True
    is_confident = has_words and mean_log_prob > (CONFIDENT if language == "en" else CONFIDENT_FOREIGN)
    return no_speech_prob > (CONFIDENT_NO_SPEECH if is_confident else NO_SPEECH)


def _is_invented(words: Sequence[str]) -> bool:
    repeats_a_character = len(words) == 1 and len(words[0]) > 2 and len(set(words[0])) == 1
    return " ".join(dict.fromkeys(words)) in INVENTED or repeats_a_character
