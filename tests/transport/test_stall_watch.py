"""When a client that sends no more audio is asked, by a ping, whether any is on its way."""

from __future__ import annotations

import asyncio

from tests.patience import PATIENCE_SECONDS
from transport.stall_watch import PING_PREFIX, StallWatch

SOON = 0.02


class Peer:
    """Remembers the pings that it was sent."""

    def __init__(self) -> None:
        self.pings: list[bytes] = []
        self._pinged = asyncio.Event()

    def ping(self, payload: bytes) -> None:
        self.pings.append(payload)
        self._pinged.set()

    async def next_ping(self) -> bytes:
        self._pinged.clear()
        await asyncio.wait_for(self._pinged.wait(), PATIENCE_SECONDS)
        return self.pings[-1]


def test_a_stall_is_a_ping_answered_without_audio_before_its_pong() -> None:
    """Audio between the two shows that the network was late; then there is another ping."""

    async def conversation() -> None:
        peer = Peer()
        watch = StallWatch(peer.ping, 20)
        watch.received(0.02, asyncio.get_running_loop().time())
        watch.watch(SOON)
        first = await peer.next_ping()
        watch.received(0.02, asyncio.get_running_loop().time())
        assert not watch.shows_stall(first)
        second = await peer.next_ping()
        assert second != first
        assert watch.shows_stall(second)
        assert not watch.shows_stall(b"a client's own")
        assert second.startswith(PING_PREFIX)
        watch.end()

    asyncio.run(conversation())


def test_nothing_is_asked_between_utterances() -> None:
    """No ping is sent, and a pong that comes late shows nothing; after the end the worker's wish counts no more."""

    async def conversation() -> None:
        peer = Peer()
        watch = StallWatch(peer.ping, 20)
        watch.watch(SOON)
        late = await peer.next_ping()
        watch.watch(None)
        sent = len(peer.pings)
        assert not watch.shows_stall(late)
        watch.end()
        watch.watch(SOON)
        await asyncio.sleep(5 * SOON)
        assert len(peer.pings) == sent

    asyncio.run(conversation())


def test_long_messages_are_waited_for() -> None:
    """The wait begins when the next message is due: after the last one's length, or the one the client announced."""

    async def conversation() -> None:
        for frame_ms, length in ((20, 600.0), (600_000, 0.02)):
            peer = Peer()
            watch = StallWatch(peer.ping, frame_ms)
            watch.received(length, asyncio.get_running_loop().time())
            watch.watch(0.0)
            await asyncio.sleep(2 * SOON)
            assert peer.pings == []
            watch.end()

    asyncio.run(conversation())
