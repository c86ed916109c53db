"""What utterances and their engine do when something fails, on a fake model."""

from __future__ import annotations

import pytest

from backends.base import StreamOptions
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from tests.backends.qwen3_fakes import eventually, forever, noise, running


@pytest.mark.parametrize(("max_num_seqs", "uploads"), [(256, 6), (64, 2), (32, 1)])
def test_partials_go_on_beside_uploads(max_num_seqs: int, uploads: int) -> None:
    """While every upload has its pieces in work or waiting, a live utterance is refreshed."""
    with running(Qwen3Options(max_num_seqs=max_num_seqs)) as (backend, model):
        model.decode = lambda request: forever() if request.priority == Purpose.BATCH else None
        for _ in range(uploads * 32):
            piece = backend.stream(StreamOptions(live=False))
            piece.push(noise(1.0))
            piece.finish(16_000)
        eventually(lambda: model.count(Purpose.BATCH) == min(32, max_num_seqs // 4))
        live = backend.stream(StreamOptions())
        live.push(noise(2.0))
        eventually(lambda: live.partial() is not None)
