"""Limits the open sessions and requests, and drains them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from inference.file_transcription import CancellationToken, Cancelled
from observability.metrics import Metrics
from protocol.errors import KeyLimitReached, RefusalReason, ServerBusy, ServerRestarting
from transport.backend_lifecycle import BackendLifecycle

DRAIN_RESERVE_SECONDS = 1.0
"""Part of the drain's time in which sessions without a final send their hypothesis instead."""

_READ_ITERATIONS = 4
"""Iterations of the event loop after which audio that was in the sockets has been read and queued."""

WATCH_SECONDS = 0.25
"""Seconds between two checks of the engine: how late a session without an open utterance learns of its death, and a new
session that the engine is too far behind."""

SATURATED_SECONDS = 5.0
"""How far the engine may be behind live audio before new sessions are refused."""

ServiceStatus = Literal["loading", "ok", "dead", "draining"]
Readiness = Literal["ready", "loading", "dead", "draining", "full", "saturated"]
_SATURATED = f"saturated: the engine is at least {SATURATED_SECONDS:g} s behind live audio"


class Session(Protocol):
    """An open WebSocket session, as admission sees it. Called on the event loop."""

    def drain(self) -> None:
        """End the open utterance, send what is due, then close."""
        ...

    def finish_now(self) -> None:
        """Send hypotheses in place of finals that are not ready, and close now."""
        ...

    def on_backend_lost(self) -> None:
        """Close with 1011, because the engine died. Idempotent."""
        ...

    @property
    def queue_lengths(self) -> tuple[int, int]:
        """Messages in the inbound and in the outbound queue."""
        ...

    @property
    def queue_age_seconds(self) -> float:
        """How long the oldest message in the inbound queue has waited."""
        ...

    @property
    def seconds_behind(self) -> float | None:
        """Seconds that the engine is behind this client's live audio.

        None: the client is ahead of real time, or does not read, so its backlog does not show how fast the engine is.
        """
        ...


class Admission:
    """Counts open sessions and requests, and refuses those over the limits.

    A session counts once for each of its channels.

    Used on the event loop.
    """

    def __init__(
        self,
        backend: BackendLifecycle,
        metrics: Metrics,
        max_sessions: int,
        max_requests: int,
        max_key_sessions: int = 0,
    ) -> None:
        """`max_key_sessions`: sessions that one API key may have open; 0: any number."""
        self.max_sessions = max_sessions
        self.sessions = 0
        """Open WebSocket sessions, each counted once for each of its channels."""
        self._max_key_sessions = max_key_sessions
        self._key_sessions: Counter[str] = Counter()
        self._metrics = metrics
        self._backend = backend
        self._max_requests = max_requests
        self._sessions: set[Session] = set()
        self._requests: set[CancellationToken] = set()
        self._is_saturated = False
        """Whether the engine was too far behind live audio at the last check. A check looks at every session."""
        self._draining = False
        self._something_ended = asyncio.Event()
        metrics.sessions.set_function(lambda: self.sessions)
        metrics.requests_in_progress.set_function(lambda: len(self._requests))
        metrics.ready.set_function(lambda: float(self.status == "ok"))
        metrics.max_sessions.set(max_sessions)
        metrics.seconds_behind.set_function(lambda: self.seconds_behind)
        metrics.saturation.set_function(lambda: self.saturation)
        metrics.queue_age.set_function(
            lambda: max((session.queue_age_seconds for session in self._sessions), default=0.0)
        )
        self._restarts = metrics.engine_restarts
        metrics.in_queue.set_function(lambda: sum(session.queue_lengths[0] for session in self._sessions))
        metrics.out_queue.set_function(lambda: sum(session.queue_lengths[1] for session in self._sessions))

    @property
    def status(self) -> ServiceStatus:
        """`ok`, `loading`, `draining` or `dead`."""
        return "draining" if self._draining else self._backend.status

    @property
    def seconds_behind(self) -> float:
        """The 90th percentile of how many seconds the engine is behind the live sessions; 0 without any."""
        live = sorted(each for session in self._sessions if (each := session.seconds_behind) is not None)
        return live[math.ceil(0.9 * len(live)) - 1] if live else 0.0

    @property
    def saturation(self) -> float:
        """Part of the capacity in use: of sessions or of the engine, whichever is more.

        From 1 on new sessions are refused.
        """
        return max(self.sessions / self.max_sessions, self.seconds_behind / SATURATED_SECONDS)

    @property
    def readiness(self) -> Readiness:
        """`ready`, or why a new session would be refused now."""
        if self.status != "ok":
            return self.status
        if self.sessions >= self.max_sessions:
            return "full"
        return "saturated" if self._is_saturated else "ready"

    def check(self) -> None:
        """Refuse a session or request while the server cannot serve any.

        Raises:
            ServerRestarting: the server drains.
            ServerBusy: the engine is not ready.
        """
        if self._draining:
            raise ServerRestarting
        if self._backend.status != "ok":
            raise ServerBusy("the engine is not ready", RefusalReason.NOT_READY)

    @contextmanager
    def session(self, session: Session, key: str = "", channels: int = 1) -> Iterator[None]:
        """Count a WebSocket session while the context lasts, once for each channel.

        `key` is the name of the client's API key.

        Raises:
            KeyLimitReached: the key has as many sessions open as it may have.
            ServerRestarting: the server drains.
            ServerBusy: the engine is not ready or too far behind, or all sessions are taken.
        """
        self.check()
        if self.sessions + channels > self.max_sessions:
            raise ServerBusy(
                f"full: {self.sessions} of {self.max_sessions} sessions are open{_counts_as_clause(channels)}",
                RefusalReason.FULL,
            )
        if self._is_saturated:
            raise ServerBusy(_SATURATED, RefusalReason.SATURATED)
        already, most = self._key_sessions[key], self._max_key_sessions
        if key and 0 < most < already + channels:
            raise KeyLimitReached(f"{already} of {most} sessions of this API key are open{_counts_as_clause(channels)}")
        self._count(key, channels)
        self._sessions.add(session)
        try:
            yield
        finally:
            self._sessions.remove(session)
            self._count(key, -channels)
            self._something_ended.set()

    def _count(self, key: str, channels: int) -> None:
        """Count sessions that began, or (negative) ended. `key` is empty on a server without keys."""
        self.sessions += channels
        if key:
            self._key_sessions[key] += channels
            self._metrics.key_sessions.labels(key).inc(channels)

    @contextmanager
    def request(self) -> Iterator[CancellationToken]:
        """Count an HTTP transcription while the context lasts. The token is cancelled when the drain runs out of time.

        Raises:
            ServerRestarting: the server drains.
            ServerBusy: the engine is not ready, or too many transcriptions run.
        """
        self.check()
        if len(self._requests) >= self._max_requests:
            raise ServerBusy(f"full: {self._max_requests} transcriptions are running", RefusalReason.FULL)
        cancellation = CancellationToken()
        self._requests.add(cancellation)
        try:
            yield cancellation
        except Cancelled:
            if self._draining:
                raise ServerRestarting from None
            raise
        finally:
            self._requests.discard(cancellation)
            self._something_ended.set()

    async def watch(self) -> None:
        """Tell all sessions when the engine dies, and check how far it is behind; until cancelled.

        An open utterance learns of its death from its stream; between utterances a session has no stream.
        """
        was_dead = False
        while True:
            self._is_saturated = self.seconds_behind >= SATURATED_SECONDS
            is_dead = self._backend.status == "dead"
            if was_dead and not is_dead:
                self._restarts.inc()
            was_dead = is_dead
            if is_dead:
                self._report_death()
            await asyncio.sleep(WATCH_SECONDS)

    def _report_death(self) -> None:
        # In `watch` the loop's variable would keep the last session until the next death.
        for session in list(self._sessions):
            session.on_backend_lost()

    async def refuse_new(self, seconds: float) -> None:
        """Admit nothing more. Return when all sessions and requests have ended by themselves, or after `seconds`."""
        self._draining = True
        await self._wait_until_empty(asyncio.get_running_loop().time() + seconds)

    async def drain(self, seconds: float) -> None:
        """Admit nothing more. Let sessions send their last finals, and requests finish, within `seconds`.

        What has not ended `DRAIN_RESERVE_SECONDS` before is told to end, and then has that long to answer, also where
        this process is so short of CPU that the time is over by then.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        reserve = min(DRAIN_RESERVE_SECONDS, seconds / 2)
        deadline = loop.time() + seconds - reserve
        for _ in range(_READ_ITERATIONS):
            await asyncio.sleep(0)
        for session in list(self._sessions):
            session.drain()
        if not await self._wait_until_empty(deadline):
            for session in list(self._sessions):
                session.finish_now()
            for request in self._requests:
                request.cancel()
            await self._wait_until_empty(loop.time() + reserve)

    async def _wait_until_empty(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                while self._sessions or self._requests:
                    self._something_ended.clear()
                    await self._something_ended.wait()
        except TimeoutError:
            return False
        return True


def _counts_as_clause(channels: int) -> str:
    return f", and this one counts as {channels}" if channels > 1 else ""
