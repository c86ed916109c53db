"""Who may come in, and how everybody leaves: admission of sessions and requests, and the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from observability.metrics import Metrics
from protocol.errors import Busy, Restarting
from transport.engine import Engine

ServiceStatus = Literal["loading", "ok", "dead", "draining"]


class Session(Protocol):
    """What admission needs to know of an open WebSocket session; called on the event loop."""

    def drain(self) -> None:
        """Say the last words and leave."""
        ...

    def abandon(self) -> None:
        """Leave now."""
        ...

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Messages in the in queue and in the out queue."""
        ...


class Admission:
    """Counts what is open and refuses what is too much. Used on the event loop."""

    def __init__(self, engine: Engine, metrics: Metrics, max_sessions: int, max_requests: int) -> None:
        self.max_sessions = max_sessions
        self._engine = engine
        self._max_requests = max_requests
        self._sessions: set[Session] = set()
        self._requests = 0
        self._draining = False
        self._left = asyncio.Event()
        metrics.sessions.set_function(lambda: len(self._sessions))
        metrics.requests_in_progress.set_function(lambda: self._requests)
        metrics.ready.set_function(lambda: float(self.status == "ok"))
        metrics.in_queue.set_function(lambda: sum(session.queue_lengths[0] for session in self._sessions))
        metrics.out_queue.set_function(lambda: sum(session.queue_lengths[1] for session in self._sessions))

    @property
    def status(self) -> ServiceStatus:
        """`ok`, `loading`, `draining` or `dead`."""
        return "draining" if self._draining else self._engine.status

    @property
    def sessions(self) -> int:
        """Open WebSocket sessions."""
        return len(self._sessions)

    def check(self) -> None:
        """Refuse what comes while the server cannot serve.

        Raises:
            Restarting: it drains.
            Busy: the engine is not ready.
        """
        if self._draining:
            raise Restarting
        if self._engine.status != "ok":
            raise Busy("the engine is not ready")

    @contextmanager
    def session(self, session: Session) -> Iterator[None]:
        """Hold a place for a WebSocket session.

        Raises:
            Restarting: the server drains.
            Busy: the engine is not ready, or all places are taken.
        """
        self.check()
        if len(self._sessions) >= self.max_sessions:
            raise Busy(f"full: {self.max_sessions} sessions are open")
        self._sessions.add(session)
        try:
            yield
        finally:
            self._sessions.discard(session)
            self._left.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold a place for an HTTP transcription.

        Raises:
            Restarting: the server drains.
            Busy: the engine is not ready, or all places are taken.
        """
        self.check()
        if self._requests >= self._max_requests:
            raise Busy(f"full: {self._max_requests} transcriptions are running")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._left.set()

    async def drain(self, seconds: float) -> None:
        """Let nobody in; let sessions say their last words and requests finish, for at most `seconds`."""
        self._draining = True
        for session in list(self._sessions):
            session.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._empty()
        except TimeoutError:
            for session in list(self._sessions):
                session.abandon()
            # Each session's goodbye is bounded; one second covers clients that read.
            try:
                async with asyncio.timeout(1):
                    await self._empty()
            except TimeoutError:
                pass

    async def _empty(self) -> None:
        while self._sessions or self._requests:
            self._left.clear()
            await self._left.wait()
