"""Speakers with playlists, from the first sample to the last final; used by `bench.ramp` and `bench.accuracy`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from bench import conversation
from bench.audio import Part, Playlist
from bench.conversation import Conversation, Utterance
from bench.load import Speaker, connected, last_words
from bench.server import Server, drops
from bench.wheel import WHEEL_SLOTS, Wheel, every_second, turning

LAST_WORDS_SECONDS = 60.0
"""Longest wait for the final of the commit that ends every playlist."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What all speakers said and heard."""

    playlists: Sequence[Playlist]
    conversations: Sequence[Conversation]
    generator: dict[str, float | bool | None]
    dropped: int
    """Audio messages that the server dropped."""
    unanswered: int
    """Speakers whose last commit got no final in time."""

    @property
    def errors(self) -> list[str]:
        """Everything that went wrong in a connection."""
        told = [error for each in self.conversations for error in each.errors]
        return told + ["no final for a commit"] * self.unanswered

    def utterances(self, begin_ms: float = 0, end_ms: float = float("inf")) -> list[Utterance]:
        """All utterances whose last voiced sample lies between two points of their speaker's audio."""
        return [each for said in self.conversations for each in said.utterances if begin_ms <= each.end_ms < end_ms]

    def parts(self) -> list[tuple[Part, list[Utterance]]]:
        """Every recording that was played whole, with its utterances."""
        return [
            pair
            for said, playlist in zip(self.conversations, self.playlists, strict=True)
            for pair in conversation.within(said.utterances, playlist.parts)
        ]


Look = Callable[[Wheel, float], Awaitable[None]]
"""Called about once a second with the wheel and the part of the talk that is over, 0 to 1."""


async def nothing(_: Wheel, __: float) -> None:
    """A `Look` that does not."""


async def talk(
    server: Server,
    playlists: Sequence[Playlist],
    *,
    silence_ms: int,
    language: str,
    seed: int,
    look: Look,
    speed: float = 1.0,
) -> Talk:
    """Play every playlist to its end on a connection of its own, commit, and wait for the last final.

    Args:
        server: a server with room for all.
        playlists: one for each speaker.
        silence_ms: the server's STT_VAD_SILENCE_MS.
        language: what the speakers ask for.
        seed: of the speakers' slots within 20 ms.
        look: watches.
        speed: 1 is live.
    """
    dropped_before = drops(server.metrics())
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    slots = [dice.randrange(WHEEL_SLOTS) for _ in playlists]
    seconds = max(playlist.seconds for playlist in playlists) / speed
    frames = [iter(playlist.frames) for playlist in playlists]
    async with connected(server.port, frames, greeted=True, language=language) as speakers:
        wheel = Wheel(speakers, slots, speed)
        async with turning(wheel) as playing:
            begin = wheel.mark()
            await every_second(seconds, lambda part: look(wheel, part))
            await playing
            end = wheel.mark()
        unanswered = await last_words(speakers, LAST_WORDS_SECONDS)
        dropped = drops(server.metrics()) - dropped_before
        said = [_read(speaker, silence_ms) for speaker in speakers]
    return Talk(playlists, said, wheel.strain(begin, end), dropped, unanswered)


def _read(speaker: Speaker, silence_ms: int) -> Conversation:
    read = conversation.read(speaker.received, speaker.sent, silence_ms, speaker.close_code)
    if speaker.gone.done() and speaker.close_code is None:
        return Conversation(read.utterances, [*read.errors, "connection lost"])
    return read


def times_of(utterances: Iterable[Utterance]) -> dict[str, list[float]]:
    """Times of utterances in ms, by what they measure."""
    heard = list(utterances)
    return {
        "endpoint_ms": [each.endpoint_ms for each in heard if each.endpoint_ms is not None],
        "latency_ms": [float(each.latency_ms) for each in heard if each.reason == "endpoint"],
        "first_partial_ms": [each.first_partial_ms for each in heard if each.first_partial_ms is not None],
    }
