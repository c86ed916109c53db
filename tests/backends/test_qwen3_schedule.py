"""When the qwen3 engine decodes, and what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.schedule import (
    AbortDecode,
    Command,
    Decode,
    DecodeResult,
    Ending,
    PublishFinal,
    PublishPartial,
    Purpose,
    Schedule,
    ScheduleOptions,
    StartDecode,
)
from protocol.pcm import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 2


def schedule(*, live: bool = True, max_tokens: int = 512) -> Schedule:
    return Schedule(ScheduleOptions(live, max_tokens, lambda tokens: tokens[:-5]))


def started(commands: list[Command]) -> Decode:
    """The only decode that the commands start."""
    (begin,) = (command for command in commands if isinstance(command, StartDecode))
    return begin.decode


def push(plan: Schedule, samples: int, spacing: int | None = CHUNK) -> list[Command]:
    return plan.pushed(samples, 0, spacing)


def run_refreshes(plan: Schedule, count: int, tokens: tuple[int, ...] = tuple(range(12))) -> None:
    """Let `count` refreshes run: the first at 1 s, the others half a second apart."""
    for number in range(count):
        decode = started(push(plan, SAMPLE_RATE + number * CHUNK))
        plan.decoded(decode.number, DecodeResult(tokens[len(decode.prefix) :]), CHUNK)


# refreshes


def test_the_first_refresh_has_a_second_of_audio() -> None:
    """No refresh starts before there is 1 s of audio, however small the spacing."""
    plan = schedule()
    assert push(plan, SAMPLE_RATE - 1, 1) == []
    decode = started(push(plan, SAMPLE_RATE + 7, 1))
    assert (decode.purpose, decode.samples, decode.prefix) == (Purpose.REFRESH, SAMPLE_RATE + 7, ())


def test_a_refresh_each_chunk() -> None:
    """Later refreshes start with a chunk of new speech and cover all of it."""
    plan = schedule()
    run_refreshes(plan, 1)
    assert push(plan, SAMPLE_RATE + CHUNK - 1) == []
    assert started(push(plan, SAMPLE_RATE + CHUNK + 7)).samples == SAMPLE_RATE + CHUNK + 7


def test_one_decode_in_flight() -> None:
    """Audio that arrives during a refresh is covered by the next one."""
    plan = schedule()
    first = started(push(plan, 2 * CHUNK))
    assert [push(plan, (3 + step) * CHUNK) for step in range(3)] == [[], [], []]
    shown, begin = plan.decoded(first.number, DecodeResult((1, 2)), CHUNK)
    assert shown == PublishPartial((1, 2), 0.0)
    assert started([begin]).samples == 5 * CHUNK


def test_refreshes_are_not_queued() -> None:
    """A refresh that cannot start is dropped, and later samples start one."""
    plan = schedule()
    assert push(plan, 2 * CHUNK, None) == []
    assert push(plan, 2 * CHUNK + 100, 4 * CHUNK) == []
    assert started(push(plan, 2 * CHUNK + 200)).samples == 2 * CHUNK + 200


def test_the_prefix_comes_after_four_seconds() -> None:
    """A refresh continues the text, without five tokens, once the text covers 4 s; its limit is for the new audio."""
    plan = schedule()
    run_refreshes(plan, 6)
    assert started(push(plan, 4 * SAMPLE_RATE)).prefix == ()
    plan = schedule()
    run_refreshes(plan, 7)
    continued = started(push(plan, 4 * SAMPLE_RATE + CHUNK))
    assert continued.prefix == tuple(range(7))
    assert continued.max_tokens < started(push(schedule(), 4 * SAMPLE_RATE + CHUNK)).max_tokens
    assert plan.decoded(continued.number, DecodeResult((50,)), CHUNK)[0] == PublishPartial((*range(7), 50), 0.0)


def test_the_prefix_comes_after_two_refreshes() -> None:
    """With refreshes far apart, the text of the first one is not continued, however much audio it covers."""
    plan = schedule()
    first = started(push(plan, 6 * SAMPLE_RATE))
    plan.decoded(first.number, DecodeResult(tuple(range(12))), CHUNK)
    second = started(push(plan, 12 * SAMPLE_RATE))
    assert second.prefix == ()
    plan.decoded(second.number, DecodeResult(tuple(range(12))), CHUNK)
    assert started(push(plan, 18 * SAMPLE_RATE)).prefix == tuple(range(7))


def test_a_truncated_refresh_is_repeated_without_prefix() -> None:
    """Its text is not published. If it is truncated again, it is published without its loop and is no prefix."""
    plan = schedule()
    run_refreshes(plan, 7)
    end = 4 * SAMPLE_RATE + CHUNK
    continued = started(push(plan, end))
    repeated = started(plan.decoded(continued.number, DecodeResult((9,) * 30, Ending.LOOP), CHUNK))
    assert (repeated.prefix, repeated.samples) == ((), end)
    looping = DecodeResult((3, *(9,) * 30), Ending.LOOP)
    assert plan.decoded(repeated.number, looping, CHUNK) == [PublishPartial((3, 9), 0.0)]
    assert started(push(plan, end + CHUNK)).prefix == ()


def test_digital_silence_is_not_decoded() -> None:
    """Samples that are all zero are never decoded."""
    plan = schedule()
    assert plan.pushed(10 * CHUNK, None, CHUNK) == [] == plan.paused()
    assert plan.finished(10 * CHUNK) == [PublishFinal((), 0.0)]


# finals


def test_a_pause_starts_the_final() -> None:
    """The final decode covers everything without a prefix, and aborts the refresh in flight."""
    plan = schedule()
    run_refreshes(plan, 2)
    running = started(push(plan, 4 * CHUNK))
    abort, begin = plan.paused()
    assert abort == AbortDecode(running.number)
    assert started([begin]).purpose is Purpose.FINAL
    assert (started([begin]).prefix, started([begin]).samples) == ((), 4 * CHUNK)


@pytest.mark.parametrize("done", [True, False])
def test_a_final_of_the_same_samples_is_used(done: bool) -> None:
    """A final decode that covers the finished utterance is published, done or not."""
    plan = schedule()
    push(plan, 100)
    decode = started(plan.paused())
    assert plan.paused() == []
    if done:
        assert plan.decoded(decode.number, DecodeResult((1,)), CHUNK) == []
        assert plan.finished(100) == [PublishFinal((1,), 0.0)]
    else:
        assert plan.finished(100) == []
        assert plan.decoded(decode.number, DecodeResult((1,)), CHUNK) == [PublishFinal((1,), 0.0)]


@pytest.mark.parametrize("done", [True, False])
def test_a_shorter_utterance_is_decoded_again(done: bool) -> None:
    """A final decode that covers other samples is not used."""
    plan = schedule()
    push(plan, 100)
    decode = started(plan.paused())
    if done:
        plan.decoded(decode.number, DecodeResult((1,)), CHUNK)
    commands = plan.finished(80)
    assert started(commands).samples == 80
    assert (AbortDecode(decode.number) in commands) is not done


@pytest.mark.parametrize("done", [True, False])
def test_new_samples_void_the_final(done: bool) -> None:
    """The final decode is aborted, or its result is not used."""
    plan = schedule()
    push(plan, 100)
    decode = started(plan.paused())
    if done:
        plan.decoded(decode.number, DecodeResult((1,)), CHUNK)
    assert push(plan, 200) == ([] if done else [AbortDecode(decode.number)])
    assert plan.decoded(decode.number, DecodeResult((1,)), CHUNK) == []
    assert started(plan.finished(200)).samples == 200


def test_a_resumed_speaker_is_refreshed_at_once() -> None:
    """The audio of a refresh that the pause aborted counts as new."""
    plan = schedule()
    push(plan, 2 * CHUNK)
    plan.paused()
    assert started(push(plan, 2 * CHUNK + 10)).samples == 2 * CHUNK + 10


def test_files_are_decoded_once() -> None:
    """A piece of a file is decoded once, at its end, with the lowest priority."""
    plan = schedule(live=False)
    assert push(plan, 9 * CHUNK) == [] == plan.paused()
    decode = started(plan.finished(9 * CHUNK))
    assert decode.purpose is Purpose.BATCH
    assert plan.decoded(decode.number, DecodeResult((4,)), CHUNK) == [PublishFinal((4,), 0.0)]


def test_the_text_is_limited() -> None:
    """The limit follows from the length of the audio and the longest text."""
    plan = schedule(max_tokens=100)
    push(plan, SAMPLE_RATE)
    assert started(plan.paused()).max_tokens == 46
    push(plan, 20 * SAMPLE_RATE)
    assert started(plan.paused()).max_tokens == 100


@pytest.mark.parametrize(("script", "tokens_per_second"), [("Hindi", 20.6), ("Greek", 19.6)])
def test_dense_scripts_fit(script: str, tokens_per_second: float) -> None:
    """Fast speech in the scripts with most tokens a word is below the limit of finals and refreshes."""
    plan = schedule(max_tokens=1000)
    refresh = started(push(plan, 10 * SAMPLE_RATE))
    final = started(plan.paused())
    assert min(refresh.max_tokens, final.max_tokens) > 10 * tokens_per_second, script


@pytest.mark.parametrize("live", [True, False])
def test_a_final_that_is_too_long_is_decoded_again(live: bool) -> None:
    """A final that reaches its limit is decoded once more, with the limit of the longest text."""
    plan = schedule(live=live, max_tokens=300)
    push(plan, SAMPLE_RATE)
    first = started(plan.finished(SAMPLE_RATE))
    text = tuple(range(first.max_tokens))
    again = started(plan.decoded(first.number, DecodeResult(text, Ending.LENGTH), CHUNK))
    assert (again.purpose, again.samples, again.prefix, again.max_tokens) == (first.purpose, first.samples, (), 300)
    longest = tuple(range(300))
    assert plan.decoded(again.number, DecodeResult(longest, Ending.LENGTH), CHUNK) == [PublishFinal(longest, 0.0)]


def test_a_looping_final_is_not_decoded_again() -> None:
    """A final that reaches its limit in a loop is published without the loop."""
    plan = schedule(max_tokens=300)
    push(plan, SAMPLE_RATE)
    decode = started(plan.finished(SAMPLE_RATE))
    looping = (1, *(2,) * (decode.max_tokens - 1))
    assert plan.decoded(decode.number, DecodeResult(looping, Ending.LENGTH), CHUNK) == [PublishFinal((1, 2), 0.0)]


def test_invalid_ends() -> None:
    """Finishing at more samples than were pushed, or twice, is a ValueError."""
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
        st.tuples(st.sampled_from(["pause", "done", "truncated"]), st.just(0)),
    ),
    max_size=40,
)


class Utterance:
    """A schedule whose decodes end when the test says so."""

    def __init__(self, *, live: bool) -> None:
        self.plan = schedule(live=live)
        self.samples = 0
        self.in_flight: dict[int, Decode] = {}
        self.finals: list[PublishFinal] = []

    def handle(self, what: str, size: int) -> None:
        self.samples += size
        if what == "push":
            self.execute(push(self.plan, self.samples))
        elif what == "pause":
            self.execute(self.plan.paused())
        else:
            self.complete(truncated=what == "truncated")

    def complete(self, *, truncated: bool) -> None:
        for number in list(self.in_flight):
            del self.in_flight[number]
            self.execute(
                self.plan.decoded(number, DecodeResult((1, 2) * 8, Ending.LOOP if truncated else Ending.STOP), CHUNK)
            )

    def execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartDecode(decode):
                    self.in_flight[decode.number] = decode
                    assert 0 < decode.samples <= self.samples
                    assert decode.max_tokens >= 1
                case AbortDecode(number):
                    del self.in_flight[number]
                case PublishFinal():
                    self.finals.append(command)
        assert len(self.in_flight) <= 1


@given(events, st.booleans())
def test_any_order_of_events(events_: list[tuple[str, int]], live: bool) -> None:
    """At most one decode is in flight, only of audio that was pushed, and there is exactly one final."""
    utterance = Utterance(live=live)
    for what, size in events_:
        utterance.handle(what, size)
    utterance.execute(utterance.plan.finished(utterance.samples))
    utterance.complete(truncated=False)
    assert len(utterance.finals) == 1
    assert not utterance.in_flight
