"""The parts of `bench.decoder` that need neither a server nor an engine."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from backends.pocketsphinx.slots import Slots
from backends.pocketsphinx.worker import Worker
from bench.audio import FRAME_BYTES, Clip, Disc, compose
from bench.bare_decoder import Said, Spent, feed_due
from bench.beside import (
    Live,
    Upload,
    calm,
    cuts_of,
    deal,
    left_undone,
    problems,
    said_by,
    spent_since,
    workers_of,
)
from bench.cuts import Cut, Ears
from bench.decoder import judge
from bench.server import Member
from bench.talk import Talk

GENERATOR: dict[str, float | bool | None] = {"late_p99_ms": 1.0, "cpu": 0.1, "was_the_limit": False}


def sound(*frames: int) -> bytes:
    """Silence and voice in turn, so many frames of 20 ms each."""
    dice = np.random.default_rng(1)
    parts = [
        (dice.integers(-3000, 3000, count * FRAME_BYTES // 2) * (number % 2)).astype("<i2").tobytes()
        for number, count in enumerate(frames)
    ]
    return b"".join(parts)


def clip(name: str, frames: int) -> Clip:
    return Clip(name, sound(0, frames), name, "en", 1)


def live(server_cpu: float, *problems: str) -> Live:
    bare = Spent(streaming=1.5, final=0.5)
    return Live("all recordings", 1, 1, 10.0, server_cpu, 0.0, bare, bare, 0, 0.0, 0, None, problems)


def test_cuts() -> None:
    """Each utterance has its pre-roll, 200 ms behind its last voice, and nothing voided."""
    pcm = sound(25, 50, 40, 30, 50)
    first, second = Ears().cut(pcm)
    assert (first.start, first.samples) == (10 * 320, (15 + 50 + 10) * 320)
    assert (second.start, second.samples) == (100 * 320, (15 + 30 + 10) * 320)
    for cut in (first, second):
        assert cut.pcm == pcm[cut.start * 2 :][: cut.samples * 2]
        assert cut.voided == ()


def test_pushes() -> None:
    """The engine gets the pre-roll with the onset, then what came since the last look, and all there is in the end."""
    (cut,) = Ears().cut(sound(25, 100, 50))
    assert cut.pushes[0] >= 15 * 320
    assert {later - sooner for sooner, later in itertools.pairwise(cut.pushes[1:])} <= {320, 640, 960}
    assert cut.pushes[-1] == cut.samples


class Hears(Worker):
    """Has words once 300 ms were fed."""

    def __init__(self) -> None:
        self.fed: list[int] = []

    def feed(self, fresh: bool, pcm: bytes) -> str | None:
        assert fresh == (not self.fed)
        self.fed.append(len(pcm) // 2)
        return "go" if sum(self.fed) >= 4800 else "<s>"


def test_pieces() -> None:
    """The bare streaming pass takes what the engine's does: 100 ms at a time until there are words, then more."""
    slots, worker = Slots(1), Hears()
    slots.open(0, 4800)
    for pushed in range(0, 16_000, 800):
        slots.pushed(0, pushed)
        feed_due(worker, slots, bytes(32_000))
    assert worker.fed == [1600, 1600, 1600, 4800, 4800]


def test_voided() -> None:
    """A pass begins 200 ms into a pause and is void once the speaker goes on before the endpoint."""
    (cut,) = Ears().cut(sound(25, 40, 15, 40, 15, 40, 50))
    assert cut.voided == ((15 + 40 + 10) * 320, (15 + 40 + 15 + 40 + 10) * 320)
    (unvoided,) = Ears().cut(sound(25, 40, 9, 40, 50))
    assert unvoided.voided == ()


def test_calm() -> None:
    """Recordings in which the speaker goes on after a pause void a pass, and silent ones say nothing."""
    clips = [Clip(name, sound(*frames), name, "en", 1) for name, frames in
             {"calm": (5, 50), "paused": (5, 50, 15, 50), "silent": (50,)}.items()]  # fmt: skip
    assert [clip.name for clip in calm(cuts_of(clips, Ears()))] == ["calm"]


def test_what_was_spoken_last_is_ended() -> None:
    """A recording that ends in speech is an utterance to its last sample."""
    pcm = sound(25, 50)[:-100]
    (cut,) = Ears().cut(pcm)
    assert cut.start * 2 + len(cut.pcm) == len(pcm)


def test_ears_of_settings() -> None:
    """The cuts are those of the server's settings."""
    pcm = sound(25, 40, 15, 40, 50)
    assert len(Ears.of({}).cut(pcm)) == 1
    assert len(Ears.of({"STT_VAD_SILENCE_MS": "200"}).cut(pcm)) == 2
    assert Ears.of({"STT_VAD_THRESHOLD": "20000"}).cut(pcm) == []
    assert max(cut.samples for cut in Ears.of({"STT_VAD_MAX_SEGMENT_MS": "1000"}).cut(pcm)) <= 16_000


def test_deal() -> None:
    """Each recording goes to one speaker, and all speak for about as long."""
    clips = [clip(str(frames), frames) for frames in (50, 100, 150, 200, 250, 300)]
    hands = deal(clips, 2, random.Random(1))
    assert sorted(each.frames for hand in hands for each in hand) == [50, 100, 150, 200, 250, 300]
    first, second = (sum(each.seconds for each in hand) for hand in hands)
    assert abs(first - second) <= 1
    assert deal(clips[:1], 3, random.Random(1)) == [clips[:1]]


def test_said_by() -> None:
    """An utterance lies where its recording does in the playlist."""
    one, two = clip("one", 50), clip("two", 100)
    early, late, only = (Cut(start, b"", (), ()) for start in (0, 8000, 1600))
    said = said_by(Disc([one, two]).play([two, one], 1000), {one: [only], two: [early, late]})
    assert said == [Said(0.0, early), Said(0.5, late), Said(3.1, only)]


def test_compose() -> None:
    """Recordings and silences follow one another for exactly the time asked for."""
    one, two = clip("one", 50), clip("two", 25)
    pcm = compose([one, two], 6.0, 500)
    assert len(pcm) == 6 * 32_000
    assert pcm == ((one.pcm + bytes(16_000) + two.pcm + bytes(16_000)) * 3)[: len(pcm)]


def test_judge() -> None:
    """Medians of the valid rounds; of all where none is; a part that was not measured is not judged."""
    uploads = [Upload(300, 60, wall, 20.0, 0) for wall in (20.0, 25.0, 50.0)]
    cpu, http = judge([live(2.2), live(2.4), live(2.3), live(9.0, "late")], uploads)
    assert (cpu["value"], cpu["limit"], cpu["met"]) == (1.15, 1.25, "yes")
    assert (http["value"], http["limit"], http["met"]) == (0.8, 0.9, "NO")
    (cpu,) = judge([live(9.0, "late")], [])
    assert (cpu["value"], cpu["met"]) == (4.5, "NO")


def test_problems() -> None:
    """Another number of utterances, a drop and a late generator are told; the last commit's empty final is not."""
    assert problems(Talk([], [], GENERATOR, 0, 0), 0) == []
    assert len(problems(Talk([], [], GENERATOR | {"was_the_limit": True}, 3, 1), 2)) == 4


def test_spent_since() -> None:
    """Each pass has its workers' CPU, told by their niceness; one that is new counts from its start."""
    before = [Member(1, 2, 5.0), Member(9, 2, 7.0), Member(2, 17, 1.0), Member(3, 2, 1.0), Member(4, 19, 9.0)]
    now = [Member(1, 2, 6.0), Member(9, 2, 8.0), Member(2, 17, 1.5), Member(5, 2, 0.25), Member(4, 19, 9.0)]
    assert spent_since(before, now) == (Spent(0.5, 0.25), 1)


def test_left_undone() -> None:
    """A server that does less in the streaming pass than the bare decoder is not cheaper, but behind."""
    assert left_undone(Spent(0.95, 1), Spent(1, 1)) == []
    assert len(left_undone(Spent(0.8, 2), Spent(1, 1))) == 1


@pytest.mark.parametrize(("setting", "workers"), [({}, 2), ({"STT_POCKETSPHINX_WORKERS": "3"}, 3)])
def test_workers(setting: dict[str, str], workers: int) -> None:
    """As many as the setting says, else one a core."""
    assert workers_of(setting, [4, 5]) == workers
