"""When the qwen3 engine decodes, and what: events in, commands out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.load import Load
from backends.qwen3.schedule import Abort, Begin, Command, Decode, Decoded, Purpose, Rules, Schedule, Settle, Show
from backends.qwen3.windows import LEAST, NEAR, WINDOW, layout, reach
from protocol.pcm import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 2


def schedule(*, live: bool = True, max_tokens: int = 512) -> Schedule:
    return Schedule(Rules(live, max_tokens, lambda tokens: tokens[:-5]))


def begun(commands: list[Command]) -> Decode:
    """The one decode that commands begin."""
    (begin,) = (command for command in commands if isinstance(command, Begin))
    return begin.decode


def push(plan: Schedule, samples: int, spacing: int | None = CHUNK) -> list[Command]:
    return plan.pushed(samples, 0, spacing)


def refreshed(plan: Schedule, count: int, tokens: tuple[int, ...] = tuple(range(12))) -> None:
    """Run `count` refreshes of half a second each."""
    for number in range(1, count + 1):
        decode = begun(push(plan, number * CHUNK))
        plan.decoded(decode.number, Decoded(tokens[len(decode.prefix) :]), CHUNK)


# refreshes


def test_a_refresh_each_chunk() -> None:
    """Not before there is a chunk of new speech, and then over all of it."""
    plan = schedule()
    assert push(plan, CHUNK - 1) == []
    decode = begun(push(plan, CHUNK + 7))
    assert (decode.purpose, decode.samples, decode.prefix) == (Purpose.REFRESH, CHUNK + 7, ())


def test_one_in_flight_and_the_newest_audio_wins() -> None:
    """Audio that arrives meanwhile waits, and goes together."""
    plan = schedule()
    first = begun(push(plan, CHUNK))
    assert [push(plan, (2 + step) * CHUNK) for step in range(3)] == [[], [], []]
    shown, begin = plan.decoded(first.number, Decoded((1, 2)), CHUNK)
    assert shown == Show((1, 2), 0.0)
    assert begun([begin]).samples == 4 * CHUNK


def test_no_room_no_queue() -> None:
    """A refresh that has no room is forgotten: the next samples ask again."""
    plan = schedule()
    assert push(plan, CHUNK, None) == []
    assert push(plan, CHUNK + 100, 2 * CHUNK) == []
    assert begun(push(plan, CHUNK + 200)).samples == CHUNK + 200


def test_the_prefix_comes_after_two_refreshes() -> None:
    """The third begins with the hypothesis minus five tokens, and may write what the new audio can hold."""
    plan = schedule()
    refreshed(plan, 2)
    third = begun(push(plan, 3 * CHUNK))
    assert third.prefix == tuple(range(7))
    assert third.max_tokens < begun(push(schedule(), 3 * CHUNK)).max_tokens
    assert plan.decoded(third.number, Decoded((50,)), CHUNK)[0] == Show((*range(7), 50), 0.0)


def test_a_runaway_is_redone_once_without_the_prefix() -> None:
    """What it says is not shown; when it runs away again, it is shown without its loop, and not trusted."""
    plan = schedule()
    refreshed(plan, 2)
    third = begun(push(plan, 3 * CHUNK))
    redone = begun(plan.decoded(third.number, Decoded((9,) * 30, runaway=True), CHUNK))
    assert (redone.prefix, redone.samples) == ((), 3 * CHUNK)
    assert plan.decoded(redone.number, Decoded((3, *(9,) * 30), runaway=True), CHUNK) == [Show((3, 9), 0.0)]
    assert begun(push(plan, 4 * CHUNK)).prefix == ()


def test_digital_silence_is_not_decoded() -> None:
    """Zeros have no words in them."""
    plan = schedule()
    assert plan.pushed(10 * CHUNK, None, CHUNK) == [] == plan.paused()
    assert plan.finished(10 * CHUNK) == [Settle((), 0.0)]


# finals


def test_a_pause_begins_the_final() -> None:
    """Afresh, first in the engine, over everything; the refresh in flight makes way."""
    plan = schedule()
    refreshed(plan, 3)
    running = begun(push(plan, 4 * CHUNK))
    abort, begin = plan.paused()
    assert abort == Abort(running.number)
    assert begun([begin]).purpose is Purpose.FINAL
    assert (begun([begin]).prefix, begun([begin]).samples) == ((), 4 * CHUNK)


@pytest.mark.parametrize("done", [True, False])
def test_a_final_of_exactly_those_samples_is_used(done: bool) -> None:
    """Ready when it is wanted, or soon after."""
    plan = schedule()
    push(plan, 100)
    decode = begun(plan.paused())
    assert plan.paused() == []
    if done:
        assert plan.decoded(decode.number, Decoded((1,)), CHUNK) == []
        assert plan.finished(100) == [Settle((1,), 0.0)]
    else:
        assert plan.finished(100) == []
        assert plan.decoded(decode.number, Decoded((1,)), CHUNK) == [Settle((1,), 0.0)]


@pytest.mark.parametrize("done", [True, False])
def test_a_cut_before_the_pause_is_decoded_again(done: bool) -> None:
    """The final pass covers other samples, so it is of no use."""
    plan = schedule()
    push(plan, 100)
    decode = begun(plan.paused())
    if done:
        plan.decoded(decode.number, Decoded((1,)), CHUNK)
    commands = plan.finished(80)
    assert begun(commands).samples == 80
    assert (Abort(decode.number) in commands) is not done


@pytest.mark.parametrize("done", [True, False])
def test_a_speaker_who_resumes_voids_the_final(done: bool) -> None:
    """It is aborted, or its result dropped; refreshes go on where they were."""
    plan = schedule()
    push(plan, 100)
    decode = begun(plan.paused())
    if done:
        plan.decoded(decode.number, Decoded((1,)), CHUNK)
    assert push(plan, 200) == ([] if done else [Abort(decode.number)])
    assert plan.decoded(decode.number, Decoded((1,)), CHUNK) == []
    assert begun(plan.finished(200)).samples == 200


def test_a_resumed_speaker_is_refreshed_at_once() -> None:
    """The refresh that the pause aborted showed nothing of its audio."""
    plan = schedule()
    push(plan, CHUNK)
    plan.paused()
    assert begun(push(plan, CHUNK + 10)).samples == CHUNK + 10


def test_files_are_decoded_once() -> None:
    """After everything live, and without a guess in a silence."""
    plan = schedule(live=False)
    assert push(plan, 9 * CHUNK) == [] == plan.paused()
    decode = begun(plan.finished(9 * CHUNK))
    assert decode.purpose is Purpose.BATCH
    assert plan.decoded(decode.number, Decoded((4,)), CHUNK) == [Settle((4,), 0.0)]


def test_the_text_is_capped() -> None:
    """By the audio's length, and by the longest text there may be."""
    plan = schedule(max_tokens=100)
    push(plan, SAMPLE_RATE)
    assert begun(plan.paused()).max_tokens == 28
    push(plan, 20 * SAMPLE_RATE)
    assert begun(plan.paused()).max_tokens == 100


def test_illegal_ends() -> None:
    """More samples than there are, or a second end, are mistakes of the caller."""
    plan = schedule()
    push(plan, 10)
    with pytest.raises(ValueError, match="cannot finish at 11 of 10"):
        plan.finished(11)
    plan.finished(10)
    with pytest.raises(ValueError, match="cannot finish"):
        plan.finished(10)


events = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 3 * CHUNK)),
        st.tuples(st.sampled_from(["pause", "done", "runaway"]), st.just(0)),
    ),
    max_size=40,
)


class Utterance:
    """A schedule with an engine that does what it says."""

    def __init__(self, *, live: bool) -> None:
        self.plan = schedule(live=live)
        self.samples = 0
        self.flying: dict[int, Decode] = {}
        self.settled: list[Settle] = []

    def happens(self, what: str, size: int) -> None:
        self.samples += size
        if what == "push":
            self.follow(push(self.plan, self.samples))
        elif what == "pause":
            self.follow(self.plan.paused())
        else:
            self.land(runaway=what == "runaway")

    def land(self, *, runaway: bool) -> None:
        for number in list(self.flying):
            del self.flying[number]
            self.follow(self.plan.decoded(number, Decoded((1, 2) * 8, runaway), CHUNK))

    def follow(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Begin(decode):
                    self.flying[decode.number] = decode
                    assert 0 < decode.samples <= self.samples
                    assert decode.max_tokens >= 1
                case Abort(number):
                    del self.flying[number]
                case Settle():
                    self.settled.append(command)
        assert len(self.flying) <= 1


@given(events, st.booleans())
def test_whatever_happens(happenings: list[tuple[str, int]], live: bool) -> None:
    """One decode in flight at most, never of audio that is not there; every utterance settles, once."""
    utterance = Utterance(live=live)
    for what, size in happenings:
        utterance.happens(what, size)
    utterance.follow(utterance.plan.finished(utterance.samples))
    utterance.land(runaway=False)
    assert len(utterance.settled) == 1
    assert not utterance.flying


# windows


@given(st.integers(1, 600 * SAMPLE_RATE))
def test_windows(samples: int) -> None:
    """Items cover the audio once, in order; all but the last are whole windows, and the last is 1 s to 9 s."""
    items = layout(samples)
    assert (items[0].start, items[-1].stop) == (0, samples)
    assert all(before.stop == after.start for before, after in pairwise(items))
    assert all(item.stop - item.start == WINDOW for item in items[:-1])
    assert LEAST <= items[-1].samples < WINDOW + LEAST


@given(st.integers(1, 60 * SAMPLE_RATE), st.integers(0, 60 * SAMPLE_RATE))
def test_closed_windows_stay(samples: int, more: int) -> None:
    """More audio leaves them as they are, with the ids they have."""
    assert layout(samples + more)[: len(layout(samples)) - 1] == layout(samples)[:-1]


def test_a_refresh_at_a_window_end_is_the_window() -> None:
    """It ends there if that costs little of the new audio, so that the window is encoded once."""
    assert reach(WINDOW - CHUNK, WINDOW + NEAR) == WINDOW
    assert reach(WINDOW - CHUNK, WINDOW + NEAR + 1) == WINDOW + NEAR + 1
    assert reach(WINDOW, WINDOW + NEAR) == WINDOW + NEAR
    assert layout(WINDOW)[-1] == layout(WINDOW + LEAST)[0]


# load


def test_refreshes_spread_out() -> None:
    """As far apart as twice their length, if that is more than the chunk; none once three quarters are taken."""
    load = Load(4, 0.5, 2.0)
    assert load.spacing() == CHUNK
    load.refreshed(1.0)
    assert load.spacing() == 2 * SAMPLE_RATE

    steady = Load(4, 0.5, 0)
    steady.refreshed(1.0)
    assert steady.spacing() == SAMPLE_RATE // 2
    for _ in range(3):
        load.begun()
    assert load.spacing() is None
    load.ended()
    assert load.spacing() is not None
