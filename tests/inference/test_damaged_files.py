"""Damaged and hostile files, read in the processes that read uploads."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from inference.file_pool import FileEnded, FilePool, FileRequest
from protocol.file_audio import AudioRejected, AudioTooLong
from tests.audio import reference
from tests.processes import descendants
from tests.protocol.audio_files import FORMATS, Format
from tests.protocol.mutations import mutated

SPEECH = np.frombuffer(reference("hello"), "<i2")[:32_000]
MOST_BYTES = 600 << 20
"""Resident memory that no file may take; the process itself takes 80 MiB."""
MOST_GROWTH = 64 << 20
"""By which the process may be larger after all files than after the first tenth of them."""


@pytest.fixture
def pool() -> Iterator[FilePool]:
    pool = FilePool("energy")
    yield pool
    pool.close()


def is_read(pool: FilePool, data: bytes, name: str) -> bool:
    """Whether the file was read to its end; False: it was rejected with a reason, and its process lives."""
    request = FileRequest(max_seconds=60, vad_threshold=300, silence_ms=500, max_segment_ms=30_000, name=name)
    try:
        *_, last = pool.read(io.BytesIO(data), request)
    except AudioTooLong:
        return False
    except AudioRejected as error:
        if str(error) == "could not be decoded":
            pytest.fail("the process died")
        return False
    return isinstance(last, FileEnded)


def memory(pid: int, field: str) -> int:
    """A line of the process's status in bytes: VmRSS, or VmHWM for the largest so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the damaged files of one format."""

    read: int
    """Files that gave audio."""
    peak_bytes: int
    """Largest resident memory of the process that read them all."""
    growth_bytes: int
    """Its resident memory at the end, less that after the first tenth of the files."""


def damage_and_read(pool: FilePool, form: Format, count: int) -> Outcome:
    """Read `count` damaged files of the format in one process."""
    original = form.encoded(SPEECH)
    others = descendants(os.getpid())
    assert is_read(pool, original, form.file_name)
    (pid,) = descendants(os.getpid()) - others
    read = settled = 0
    for seed in range(count):
        read += is_read(pool, mutated(original, random.Random(f"{form} {seed}")), form.file_name)
        if seed == count // 10:
            settled = memory(pid, "VmRSS")
    return Outcome(read, memory(pid, "VmHWM"), memory(pid, "VmRSS") - settled)


def assert_harmless(outcome: Outcome) -> None:
    assert outcome.read > 0
    assert outcome.peak_bytes < MOST_BYTES
    assert outcome.growth_bytes < MOST_GROWTH


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_damaged_files(pool: FilePool, form: Format) -> None:
    """50 damaged files of every format are read or rejected, by one process, in bounded time and memory."""
    assert_harmless(damage_and_read(pool, form, 50))


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_many_damaged_files(pool: FilePool, form: Format, record_property: Callable[[str, object], None]) -> None:
    """1,000 damaged files of every format are read or rejected, by one process, in bounded time and memory."""
    outcome = damage_and_read(pool, form, 1_000)
    record_property("outcome", outcome)

    assert_harmless(outcome)
