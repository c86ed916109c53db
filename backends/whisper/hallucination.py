"""Detects text that the model invents where nobody speaks. Pure; `bench.engine.whisper_guards` has the numbers."""

from __future__ import annotations

NO_SPEECH = 0.7
"""Probability of no speech above which any text is dropped. Short words that were right had at most 0.67."""
DOUBTFUL_NO_SPEECH = 0.5
"""The same for an improbable text."""
IMPROBABLE = -1.4
"""Mean log-probability below which a text is improbable. "go", said alone, had -1.34."""
INVENTED_NO_SPEECH = 0.35
"""The same for a text of `INVENTED`."""
INVENTED = frozenset({"you", "thank you", "i", "i'm sorry", "bye", "thanks for watching", "thank you for watching"})
"""Texts that Whisper writes for noise; "you" in nine of ten cases."""


def is_hallucination(text: str, no_speech_prob: float, mean_log_prob: float) -> bool:
    """Whether a text was invented for noise."""
    words = text.casefold().strip(" .,!?")
    if not any(map(str.isalnum, words)) or no_speech_prob > NO_SPEECH:
        return True
    if no_speech_prob > DOUBTFUL_NO_SPEECH and mean_log_prob < IMPROBABLE:
        return True
    once = " ".join(dict.fromkeys(words.split()))
    return no_speech_prob > INVENTED_NO_SPEECH and once in INVENTED
