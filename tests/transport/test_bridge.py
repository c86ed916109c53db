"""The worker's thread of a session."""

from __future__ import annotations

import asyncio

from transport.bridge import WorkerThread


def _fail() -> None:
    raise ValueError


def test_a_worker_thread_reports_how_it_ended() -> None:
    """None, or the exception that its work raised."""

    async def conversation() -> None:
        good, bad = WorkerThread("good", lambda: None), WorkerThread("bad", _fail)
        assert await good.ended is None
        assert isinstance(await bad.ended, ValueError)

    asyncio.run(conversation())
