"""The processes that read uploads: a reader may give up whatever its process does."""

from __future__ import annotations

import io
import os
import signal

import pytest

from inference.file_pool import FilePool, FileRequest
from inference.file_transcription import CancellationToken, Cancelled
from tests.audio import REFERENCES
from tests.processes import children_of

REQUEST = FileRequest(max_seconds=60, vad_threshold=300, silence_ms=500, max_segment_ms=30_000)


def test_a_reader_gives_up_though_its_process_says_nothing() -> None:
    """A process that hangs on a file ends with its reader."""
    file = io.BytesIO((REFERENCES / "hello.wav").read_bytes())
    before, cancellation = children_of(os.getpid()), CancellationToken()
    pool = FilePool("energy")
    try:
        list(pool.read(file, REQUEST))
        (process,) = children_of(os.getpid()) - before
        os.kill(process, signal.SIGSTOP)
        cancellation.cancel()
        with pytest.raises(Cancelled):
            list(pool.read(file, REQUEST, cancellation.check))
        assert children_of(os.getpid()) == before
    finally:
        pool.close()
