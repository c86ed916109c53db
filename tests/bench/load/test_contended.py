"""Processes that keep cores busy."""

from __future__ import annotations

import os

import pytest

from bench.load.contended import busy_cores
from tests.processes import descendants

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench tools need Linux")


def test_busy_cores_end() -> None:
    """The spinning processes are ended with their context."""
    before = descendants(os.getpid())
    with busy_cores(sorted(os.sched_getaffinity(0))[:1]):
        assert len(descendants(os.getpid()) - before) == 1
    assert descendants(os.getpid()) - before == set()
