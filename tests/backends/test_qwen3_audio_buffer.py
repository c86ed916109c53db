"""The samples that the qwen3 engine keeps of an utterance."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.audio_buffer import AudioBuffer


@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, -0.5]), max_size=9), max_size=9))
def test_every_sample_is_kept(chunks: list[list[float]]) -> None:
    """Whatever the chunks, all samples are kept, and a slice never changes."""
    audio, slices = AudioBuffer(), []
    for chunk in chunks:
        audio.append(np.array(chunk * 9000, np.float32))
        slices.append(audio.slice(0, len(audio)).copy())
    whole = np.array([sample for chunk in chunks for sample in chunk * 9000], np.float32)
    nonzero = np.flatnonzero(whole)
    assert np.array_equal(audio.slice(0, len(audio)), whole)
    assert audio.first_nonzero == (int(nonzero[0]) if len(nonzero) else None)
    assert all(np.array_equal(piece, whole[: len(piece)]) for piece in slices)
