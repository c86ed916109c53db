"""The ways in which `bench.accuracy` has a server hear the same recordings, each with its word errors."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench import conversation
from bench.audio import Clip, Disc, Playlist, wav
from bench.report import Progress
from bench.server import Server, silence_ms
from bench.stats import summary
from bench.talk import Talk, talk, times_of
from bench.wer import Score, describe, score
from bench.wheel import Wheel, run

GAP_MS = 1000
"""Silence after every recording."""
LARGEST_OFFSET_MS = 3000
HTTP_SECONDS = 600.0


@dataclass(slots=True)
class Hearing:
    """All recordings heard in one way."""

    way: str
    scores: list[Score]
    times: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    """ms."""
    facts: dict[str, Any] = field(default_factory=dict)
    recordings: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def wer(self) -> dict[str, object]:
        """Rate, counts and confidence interval."""
        return describe(self.scores)


@dataclass(frozen=True, slots=True)
class Listening:
    """One run's fixed parts."""

    clips: Sequence[Clip]
    language: str
    settings: Mapping[str, str]
    seed: int
    bar: Progress

    def streamed(self, server: Server, speakers: int, speed: float) -> tuple[Hearing, Talk]:
        """Every speaker plays all recordings, each followed by 1 s of silence; several start at random offsets."""
        self.bar.step(f"streamed by {speakers}")

        async def look(_: Wheel, part: float) -> None:
            self.bar.part(part)

        silence = silence_ms(self.settings)
        playlists = self._playlists(speakers)
        said = run(
            talk(server, playlists, silence_ms=silence, language=self.language, seed=self.seed, look=look, speed=speed)
        )
        return _hearing(f"streamed x{speakers}", said), said

    def _playlists(self, speakers: int) -> list[Playlist]:
        disc = Disc(self.clips)
        if speakers == 1:
            return [disc.play(self.clips, GAP_MS)]
        dice = random.Random(self.seed)  # noqa: S311 - reproducible, not secret
        return [
            disc.play(dice.sample(list(self.clips), len(self.clips)), GAP_MS, dice.randrange(LARGEST_OFFSET_MS))
            for _ in range(speakers)
        ]

    def uploaded(self, server: Server) -> Hearing:
        """Every recording as a WAV file over HTTP, one at a time."""
        self.bar.step("uploaded")
        hearing = Hearing("http", [])
        latencies: list[float] = []
        for number, clip in enumerate(self.clips):
            answer = httpx.post(
                f"{server.url}/v1/stt/transcribe",
                params={"language": self.language},
                files={"file": (clip.name, wav(clip.pcm))},
                timeout=HTTP_SECONDS,
            )
            told: dict[str, Any] = {"text": "", "latency_ms": 0}
            if answer.is_success:
                told = answer.json()
            else:
                hearing.errors.append(f"{clip.name}: HTTP {answer.status_code} {answer.text[:200]}")
            _add(hearing, clip, told["text"])
            latencies.append(told["latency_ms"])
            self.bar.part(number / len(self.clips))
        hearing.times["latency_ms"] = summary(latencies)
        return hearing


def _hearing(way: str, said: Talk) -> Hearing:
    utterances, parts = said.utterances(), said.parts()
    words = sum(each.words for each in utterances)
    endpoints = [conversation.endpoints(heard, part) for part, heard in parts]
    heard_so = Hearing(way, [], errors=said.errors)
    heard_so.times = {name: summary(values) for name, values in times_of(utterances).items()}
    heard_so.facts = {
        "utterances": len(utterances),
        "while_speaking": round(sum(each.while_speaking for each in utterances) / max(1, len(utterances)), 3),
        "revised_per_word": round(sum(each.revised_words for each in utterances) / max(1, words), 2),
        "endpoints_expected": sum(each.expected for each in endpoints),
        "endpoints_found": sum(each.found for each in endpoints),
        "endpoints_extra": sum(each.extra for each in endpoints),
        "dropped": said.dropped,
        "generator": said.generator,
    }
    for part, heard in parts:
        _add(heard_so, part.clip, conversation.text_of(heard))
    return heard_so


def _add(hearing: Hearing, clip: Clip, text: str) -> None:
    errors = score(clip.text or "", text, clip.language)
    hearing.scores.append(errors)
    hearing.recordings.append(
        {"file": clip.name, "said": clip.text, "heard": text, "errors": errors.errors, "words": errors.words}
    )
