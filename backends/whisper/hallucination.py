"""Text that the model invents where nobody speaks: how to tell. Pure; measured by bench/whisper/guards.py."""

from __future__ import annotations

NO_SPEECH = 0.6
"""Probability of no speech above which a text is not believed, however sure the model is of it."""
DOUBTFUL_NO_SPEECH = 0.35
"""The same where the text is improbable too."""
IMPROBABLE = -1.0
"""Mean log-probability of such a text."""


def is_hallucination(no_speech_prob: float, mean_log_prob: float) -> bool:
    """Whether a text was made of noise."""
    if no_speech_prob > NO_SPEECH:
        return True
    return no_speech_prob > DOUBTFUL_NO_SPEECH and mean_log_prob < IMPROBABLE
