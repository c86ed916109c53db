"""Who is let in, and what a drain does, on a clock that the tests turn."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TypeVar

import pytest

from backends.mock import MockBackend
from inference.file_transcription import Cancelled
from observability.metrics import Metrics
from protocol.errors import ServerBusy, ServerRestarting
from tests.audio import REFERENCES
from tests.server import eventually
from transport.admission import DRAIN_RESERVE_SECONDS, WATCH_SECONDS, Admission
from transport.backend_lifecycle import BackendLifecycle

T = TypeVar("T")


class OpenSession:
    """A session of which admission knows how far the engine is behind it."""

    def __init__(self, seconds_behind: float | None) -> None:
        self.seconds_behind = seconds_behind
        self.queue_lengths = (0, 0)
        self.queue_age_seconds = seconds_behind or 0.0

    def drain(self) -> None: ...

    def finish_now(self) -> None: ...

    def on_backend_lost(self) -> None: ...


class SkippingSelector(selectors.DefaultSelector):
    """Does not wait: it notes the time that it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(None if timeout is None else 0)
        self.skipped_seconds += 0 if events else timeout or 0
        return events


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands while it works, and skips to the next timer when it has nothing to do."""

    def __init__(self) -> None:
        self.selector = SkippingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.skipped_seconds


def run(coroutine: Coroutine[None, None, T]) -> T:
    """Run it; its time begins at 0."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    """Seconds of the running loop."""
    return asyncio.get_running_loop().time()


@contextmanager
def admitting(sessions: int) -> Iterator[Admission]:
    """Admission of so many sessions and a request, to a backend that is loaded, until the context ends."""
    lifecycle = BackendLifecycle(MockBackend(REFERENCES))
    lifecycle.start()
    try:
        eventually(lambda: lifecycle.status == "ok")
        yield Admission(lifecycle, Metrics(), sessions, 1)
    finally:
        lifecycle.close()


def check_once(admission: Admission) -> None:
    """Let it check the engine once."""

    async def watch() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(admission.watch(), WATCH_SECONDS / 2)

    run(watch())


@pytest.mark.parametrize(
    ("behind", "ready"),
    [([6.0], False), ([4.0], True), ([None, None, 6.0], False), ([0.0] * 18 + [9.0] * 2, True), ([9.0] * 3, False)],
)
def test_a_server_whose_engine_is_late_admits_nothing(behind: list[float | None], ready: bool) -> None:
    """The 90th percentile of the live sessions decides; clients that do not send live do not count."""
    open_sessions = [OpenSession(None) for _ in behind]
    with admitting(100) as admission, ExitStack() as places:
        for each in open_sessions:
            places.enter_context(admission.session(each))
        for each, seconds in zip(open_sessions, behind, strict=True):
            each.seconds_behind = seconds
        check_once(admission)
        states = admission.readiness, admission.saturation >= 1
        newcomer = admission.session(OpenSession(None))
        with nullcontext() if ready else pytest.raises(ServerBusy, match="saturated"), newcomer:
            pass

    assert states == ("ready" if ready else "saturated", not ready)


class OpenUntilTheEnd(OpenSession):
    """A session that a drain does not end; what was called, and when."""

    def __init__(self) -> None:
        super().__init__(None)
        self.calls: list[tuple[str, float]] = []

    def drain(self) -> None:
        self.calls.append(("drain", now()))

    def finish_now(self) -> None:
        self.calls.append(("finish now", now()))


@pytest.mark.parametrize(("seconds", "reserve"), [(100, DRAIN_RESERVE_SECONDS), (1, 0.5)])
def test_a_drain_lasts_as_long_as_it_may(seconds: float, reserve: float) -> None:
    """What has not ended is told to finish `DRAIN_RESERVE_SECONDS` before its end, or half-way in a short drain."""
    still_open = OpenUntilTheEnd()

    async def drain(admission: Admission) -> float:
        with admission.session(still_open):
            await admission.drain(seconds)
        return now()

    with admitting(1) as admission:
        ended = run(drain(admission))

    assert still_open.calls == [("drain", 0), ("finish now", pytest.approx(seconds - reserve))]
    assert ended == pytest.approx(seconds)


def test_a_drain_ends_with_the_last_session() -> None:
    """It does not last longer than what is open, and tells nothing to finish that ends by itself."""
    still_open = OpenUntilTheEnd()

    async def converse(admission: Admission) -> None:
        with admission.session(still_open):
            await asyncio.sleep(5)

    async def drain(admission: Admission) -> float:
        task = asyncio.create_task(converse(admission))
        await asyncio.sleep(1)
        await admission.drain(100)
        await task
        return now()

    with admitting(1) as admission:
        ended = run(drain(admission))

    assert still_open.calls == [("drain", 1)]
    assert ended == 5


def test_calls_go_on_while_new_ones_are_refused() -> None:
    """For as long as the lame-duck time lasts: nothing is told to end."""
    still_open = OpenUntilTheEnd()

    async def refuse(admission: Admission) -> float:
        with admission.session(still_open):
            await admission.refuse_new(50)
            with pytest.raises(ServerRestarting), admission.session(OpenSession(None)):
                pass
        return now()

    with admitting(2) as admission:
        ended = run(refuse(admission))

    assert (still_open.calls, ended) == ([], 50)


def test_requests_get_time_to_answer_though_the_drain_is_late() -> None:
    """On a starved machine the deadline may have passed when they are told to finish."""

    class Starved(OpenSession):
        def drain(self) -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SkippingLoop)
            loop.selector.skipped_seconds += 100

    async def answer(admission: Admission) -> bool:
        with admission.session(Starved(None)), admission.request() as cancellation:
            drain = asyncio.create_task(admission.drain(100))
            with suppress(Cancelled):
                while True:
                    cancellation.check()
                    await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            is_waiting = not drain.done()
        await drain
        return is_waiting

    with admitting(1) as admission:
        assert run(answer(admission))
