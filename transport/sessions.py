"""Who may come in, and how everybody leaves: admission of sessions and requests, and the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from inference.transcribe import Abandoned, Cancellation
from observability.metrics import Metrics
from protocol.errors import Busy, Restarting
from transport.engine import Engine

GOODBYE_SECONDS = 1.0
"""Part of the drain's time kept for telling those who are not done that it is over."""

WATCH_SECONDS = 0.25
"""Between two looks at whether the engine lives: how long a session that says nothing may believe in a dead one."""

ServiceStatus = Literal["loading", "ok", "dead", "draining"]


class Session(Protocol):
    """What admission needs to know of an open WebSocket session; called on the event loop."""

    def drain(self) -> None:
        """Say the last words and leave."""
        ...

    def hurry(self) -> None:
        """Say what is known so far, and leave now."""
        ...

    def lose_engine(self) -> None:
        """Tell the client that the engine died, and leave; idempotent."""
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
        self._requests: set[Cancellation] = set()
        self._draining = False
        self._left = asyncio.Event()
        metrics.sessions.set_function(lambda: len(self._sessions))
        metrics.requests_in_progress.set_function(lambda: len(self._requests))
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
    def request(self) -> Iterator[Cancellation]:
        """Hold a place for an HTTP transcription, which is called off where the drain cannot wait for it.

        Raises:
            Restarting: the server drains.
            Busy: the engine is not ready, or all places are taken.
        """
        self.check()
        if len(self._requests) >= self._max_requests:
            raise Busy(f"full: {self._max_requests} transcriptions are running")
        cancellation = Cancellation()
        self._requests.add(cancellation)
        try:
            yield cancellation
        except Abandoned:
            if self._draining:
                raise Restarting from None
            raise
        finally:
            self._requests.discard(cancellation)
            self._left.set()

    async def watch(self) -> None:
        """Tell all sessions when the engine dies; until cancelled.

        An utterance hears of it from its stream. Between utterances there is none: its speaker would go on, to nobody.
        """
        while True:
            if self._engine.status == "dead":
                for session in list(self._sessions):
                    session.lose_engine()
            await asyncio.sleep(WATCH_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Let nobody in; let sessions say their last words and requests finish, all within `seconds`."""
        self._draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        for session in list(self._sessions):
            session.drain()
        if not await self._empty_by(deadline - min(GOODBYE_SECONDS, seconds / 2)):
            for session in list(self._sessions):
                session.hurry()
            for request in self._requests:
                request.cancel()
            await self._empty_by(deadline)

    async def _empty_by(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                while self._sessions or self._requests:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True
