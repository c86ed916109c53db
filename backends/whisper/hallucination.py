"""Text that the model invents where nobody speaks: how to tell. Pure; docs/notes/whisper.md has the measurements."""

from __future__ import annotations

NO_SPEECH = 0.7
"""Probability of no speech above which no text is believed: short words that were right had at most 0.67 ..."""
CONFIDENT_NO_SPEECH = 0.8
"""... but for "up", 0.75. In English, where `INVENTED` holds all that is written for noise with such confidence: ..."""
CONFIDENT = -1.0
"""... a mean log-probability over this. All else that was written for noise had at most -1.47."""
DOUBTFUL_NO_SPEECH = 0.5
"""The same as `NO_SPEECH` for an improbable text ..."""
IMPROBABLE = -1.4
"""... which has a mean log-probability under this; "go", said alone, had -1.34."""
INVENTED_NO_SPEECH = 0.35
"""The same for a text of `INVENTED`, or of one character again and again, as in Japanese."""
INVENTED = frozenset(
    {"you", "thank you", "i", "i'm sorry", "bye", "thanks for watching", "thank you for watching", "adiós"}
)
"""What Whisper writes for noise, again and again or once; "you" in nine of ten cases."""


def is_hallucination(text: str, language: str, no_speech_prob: float, mean_log_prob: float) -> bool:
    """Whether a text was made of noise; `language` is a primary subtag."""
    words = text.casefold().strip(" .,!?¡¿")
    if not any(map(str.isalnum, words)):
        return True
    if no_speech_prob > INVENTED_NO_SPEECH and _is_invented(words):
        return True
    if no_speech_prob > DOUBTFUL_NO_SPEECH and mean_log_prob < IMPROBABLE:
        return True
    confident = language == "en" and mean_log_prob > CONFIDENT
    return no_speech_prob > (CONFIDENT_NO_SPEECH if confident else NO_SPEECH)


def _is_invented(words: str) -> bool:
    once = " ".join(dict.fromkeys(words.split()))
    return once in INVENTED or (len(words) > 2 and len(set(words)) == 1)
