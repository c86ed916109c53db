"""The plans of the pocketsphinx engine, and its desks and streams, without any process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from backends.base import ASRResult, EngineError, StreamOptions
from backends.pocketsphinx import hypothesis, passes, slots
from backends.pocketsphinx.finals import FinalDesk
from backends.pocketsphinx.partials import StreamingDesk
from backends.pocketsphinx.passes import Pass, PassQueue
from backends.pocketsphinx.slots import Slots, Stretch
from backends.pocketsphinx.stream import PocketsphinxStream
from protocol.pcm import Signal, samples_of

SECOND = samples_of(1000)
LEAST = slots.LEAST_SAMPLES
MOST = slots.MOST_SAMPLES


# Second passes


def take(queue: PassQueue[str]) -> Pass:
    work = queue.take()
    assert work is not None
    return work


def test_finals_go_in_order_of_finish_and_ahead_of_speculation() -> None:
    """A pass that may be for nothing waits for all that are not."""
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    queue.want(2, 100)
    queue.want(3, 100)

    order = [take(queue).utterance for _ in range(3)]

    assert order == [2, 3, 1]
    assert queue.take() is None
    assert not queue.ready()


def test_a_waiting_speculation_that_finish_confirms_joins_the_finals() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    queue.speculate(2, 100)
    queue.want(3, 100)

    assert queue.want(2, 100) is None
    assert [take(queue).utterance for _ in range(3)] == [3, 2, 1]


def test_a_running_speculation_that_finish_confirms_is_delivered() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    work = take(queue)

    assert queue.want(1, 100) is None
    assert not queue.ready()
    assert queue.done(work, "text") is True


def test_a_speculation_done_before_finish_is_the_final() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)

    assert queue.done(take(queue), "text") is False
    assert queue.want(1, 100) == "text"
    assert not queue.ready()


@pytest.mark.parametrize("state", ["waiting", "running", "done"])
def test_a_speculation_over_other_samples_is_void(state: str) -> None:
    """Whatever its state, the final is a new pass, and only that is delivered."""
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    old = None
    if state != "waiting":
        old = take(queue)
    if state == "done" and old is not None:
        queue.done(old, "old")

    assert queue.want(1, 90) is None
    new = take(queue)

    assert new.samples == 90
    assert queue.take() is None
    if state == "running" and old is not None:
        assert queue.done(old, "old") is False
    assert queue.done(new, "new") is True


def test_a_void_pass_that_ends_late_is_not_taken_for_the_new_one_over_as_many_samples() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    old = take(queue)
    queue.void(1)
    queue.want(1, 100)
    new = take(queue)

    assert queue.done(old, "old") is False
    assert queue.done(new, "new") is True


def test_a_second_pause_over_the_same_audio_changes_nothing() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    queue.speculate(1, 100)

    take(queue)

    assert queue.take() is None


def test_a_pass_whose_worker_died_is_the_next_one_again() -> None:
    queue = PassQueue[str](4)
    queue.want(1, 100)
    queue.want(2, 100)
    first = take(queue)

    assert queue.died(first) is False
    assert take(queue) == first


def test_a_final_fails_when_its_utterance_killed_too_many_workers() -> None:
    queue = PassQueue[str](4)
    queue.want(1, 100)

    assert [queue.died(take(queue)) for _ in range(passes.ATTEMPTS)] == [False, False, True]
    assert not queue.ready()


def test_a_deadly_speculation_fails_nothing_yet() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)

    assert not any(queue.died(take(queue)) for _ in range(passes.ATTEMPTS))
    assert not queue.ready()
    assert queue.want(1, 100) is None
    assert take(queue).utterance == 1


def test_a_void_pass_whose_worker_died_is_forgotten() -> None:
    queue = PassQueue[str](4)
    queue.speculate(1, 100)
    work = take(queue)
    queue.void(1)

    assert queue.died(work) is False
    assert not queue.ready()


def test_giving_up_fails_finals_that_wait_and_spares_those_in_work() -> None:
    queue = PassQueue[str](4)
    queue.want(1, 100)
    running = take(queue)
    queue.want(2, 100)
    queue.speculate(3, 100)

    assert queue.give_up() == [2]
    assert not queue.ready()
    assert queue.done(running, "text") is True


# Second passes nobody waits for, in the way of finals


def running(queue: PassQueue[str], utterance: int, *, wanted: bool = False) -> Pass:
    """Have a worker begin a pass."""
    if wanted:
        queue.want(utterance, SECOND)
    else:
        queue.speculate(utterance, SECOND)
    return take(queue)


def test_a_pass_that_becomes_void_is_aborted_at_once() -> None:
    """Once, and whether anybody waits for its worker or not."""
    queue = PassQueue[str](4)
    void, other = running(queue, 1), running(queue, 2)
    queue.void(1)

    assert queue.abort() == [void]
    assert queue.abort() == []
    assert queue.died(void) is False
    assert queue.take() is None
    assert queue.want(2, SECOND) is None
    assert queue.done(other, "text") is True


def test_a_final_without_a_worker_gets_that_of_the_speculative_pass_begun_last() -> None:
    queue = PassQueue[str](3)
    passes_begun = [running(queue, 1), running(queue, 2, wanted=True), running(queue, 3)]
    aborted = []
    for utterance in (4, 5, 6):
        queue.want(utterance, SECOND)
        aborted.append(queue.abort())

    assert aborted == [[passes_begun[2]], [passes_begun[0]], []]


def test_no_pass_is_aborted_for_a_final_that_gets_a_worker_anyway() -> None:
    queue = PassQueue[str](2)
    speculative, void = running(queue, 1), running(queue, 2)
    queue.want(3, SECOND)
    queue.void(2)
    assert queue.abort() == [void]  # its worker is the final's
    queue.want(4, SECOND)

    assert queue.abort() == [speculative]


@pytest.mark.parametrize("late", [False, True])
def test_a_speculative_pass_that_was_aborted_begins_again_after_the_finals(late: bool) -> None:
    """Also if its worker had its answer ready when it was ended: that one counts for nothing."""
    queue = PassQueue[str](1)
    aborted = running(queue, 1)
    queue.want(2, SECOND)
    assert queue.abort() == [aborted]
    if late:
        assert queue.done(aborted, "late") is False
    else:
        assert queue.died(aborted) is False
    assert take(queue).utterance == 2
    assert queue.want(1, SECOND) is None
    again = take(queue)

    assert (again.utterance, again.samples) == (1, SECOND)
    assert queue.done(again, "text") is True


def test_a_wanted_pass_is_never_aborted() -> None:
    queue = PassQueue[str](1)
    running(queue, 1, wanted=True)
    queue.want(2, SECOND)

    assert queue.abort() == []


# Streaming passes


def take_stretch(plan: Slots, worker: int) -> Stretch:
    work = plan.take(worker)
    assert work is not None
    return work


def test_each_utterance_has_a_worker_of_its_own() -> None:
    plan = Slots(2)
    woken = []
    for utterance in range(3):
        plan.open(utterance, LEAST)
        woken.append(plan.pushed(utterance, LEAST))

    assert woken == [0, 1, None]
    assert [take_stretch(plan, worker).utterance for worker in (0, 1)] == [0, 1]


def test_audio_is_no_job_until_it_is_worth_one() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)

    assert plan.pushed(1, LEAST - 1) is None
    assert plan.take(0) is None
    assert plan.pushed(1, LEAST) == 0
    assert plan.take(0) == Stretch(1, start=0, stop=LEAST)


def test_a_job_has_all_audio_since_the_last_up_to_the_limit() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)
    plan.pushed(1, MOST + LEAST)
    spans = []
    while (work := plan.take(0)) is not None:
        spans.append((work.start, work.stop))
        plan.done(work, words=True)

    assert spans == [(0, MOST), (MOST, MOST + LEAST)]


@pytest.mark.parametrize(("every", "step"), [(0, LEAST), (2 * LEAST, 2 * LEAST), (MOST, MOST), (20 * MOST, MOST)])
def test_once_there_are_words_a_job_waits_for_as_much_as_the_speaker_waits_for_partials(every: int, step: int) -> None:
    plan = Slots(1)
    plan.open(1, every)
    plan.pushed(1, LEAST)
    plan.done(take_stretch(plan, 0), words=False)
    plan.pushed(1, 2 * LEAST)
    plan.done(take_stretch(plan, 0), words=True)

    assert plan.pushed(1, 2 * LEAST + step - 1) is None
    assert plan.pushed(1, 2 * LEAST + step) == 0
    assert take_stretch(plan, 0).stop == 2 * LEAST + step


def test_a_hypothesis_that_lost_its_words_is_renewed_soon() -> None:
    plan = Slots(1)
    plan.open(1, MOST)
    plan.pushed(1, LEAST)
    plan.done(take_stretch(plan, 0), words=True)
    plan.pushed(1, LEAST + MOST)
    plan.done(take_stretch(plan, 0), words=False)

    assert plan.pushed(1, MOST + 2 * LEAST) == 0


def test_an_utterance_beyond_the_workers_waits_for_one_and_catches_up() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)
    plan.open(2, LEAST)
    assert plan.pushed(2, SECOND) is None

    assert plan.close(1) == 0
    assert plan.take(0) == Stretch(2, start=0, stop=MOST)


def test_an_utterance_that_ends_while_it_waits_leaves_nothing() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)
    plan.open(2, LEAST)
    plan.close(2)
    plan.open(3, LEAST)
    plan.pushed(3, SECOND)
    plan.close(1)

    assert take_stretch(plan, 0).utterance == 3
    assert plan.close(2) is None


def test_a_hypothesis_for_an_ended_utterance_is_nobodys() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)
    plan.pushed(1, SECOND)
    work = take_stretch(plan, 0)
    plan.close(1)

    assert plan.done(work, words=True) is False


def test_the_utterance_of_a_renewed_worker_begins_again() -> None:
    plan = Slots(2)
    for utterance in range(2):
        plan.open(utterance, LEAST)
        plan.pushed(utterance, LEAST)
        plan.done(take_stretch(plan, utterance), words=True)
        plan.pushed(utterance, 2 * LEAST)
    plan.renewed(0)

    assert [take_stretch(plan, worker).start for worker in range(2)] == [0, LEAST]


def test_an_utterance_that_kills_workers_gets_no_more_partials_and_frees_its_worker() -> None:
    plan = Slots(1)
    plan.open(1, LEAST)
    plan.pushed(1, SECOND)
    plan.open(2, LEAST)
    plan.pushed(2, SECOND)
    for _ in range(slots.ATTEMPTS):
        plan.died(take_stretch(plan, 0))
        plan.renewed(0)

    assert take_stretch(plan, 0).utterance == 2
    assert plan.pushed(1, 2 * SECOND) is None


# Streams and desks


def nothing() -> None:
    pass


class Room:
    """Both desks, whose workers the test plays."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.finals = FinalDesk(self.lock, 1)
        self.partials = StreamingDesk(self.lock, 1)
        self.streamer = self.partials.at(0)
        self._opened = 0

    def open(self, *, live: bool = True, notify: Callable[[], None] = nothing) -> PocketsphinxStream:
        self._opened += 1
        options = StreamOptions(partial_ms=100, notify=notify)
        return PocketsphinxStream(self._opened, self.lock, self.finals, self.partials if live else None, options)

    def decode(self) -> int:
        """Do one second pass, whose text is its number of samples; return that."""
        taken = self.finals.take(nothing)
        assert taken is not None
        work, (action, pcm) = taken
        assert action == "decode"
        samples = len(pcm) // 2
        self.finals.deliver(work, (((str(samples), 0, 0, 0.5),), 0.25))
        return samples

    def feed(self, text: str | None) -> tuple[bool, int]:
        """Answer one streaming job; return whether it began a pass, and its number of samples."""
        taken = self.streamer.take(nothing)
        assert taken is not None
        work, (action, fresh, pcm) = taken
        assert action == "feed"
        self.streamer.deliver(work, (text, 0.125))
        return fresh, len(pcm) // 2


def audio(samples: int) -> Signal:
    return np.full(samples, 0.5, np.float32)


def text(future: Future[ASRResult]) -> str:
    assert future.done()
    return future.result().text


def test_a_pass_begun_in_the_pause_is_the_final() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(1000))
    stream.pause()
    room.decode()

    assert text(stream.finish(1000)) == "1000"
    assert room.finals.take(nothing) is None


@pytest.mark.parametrize("decoded", [False, True])
def test_speech_that_resumes_voids_the_pass(decoded: bool) -> None:
    """The final covers all audio, whether the void pass was done or not."""
    room = Room()
    stream = room.open()
    stream.push(audio(1000))
    stream.pause()
    if decoded:
        room.decode()
    stream.push(audio(500))
    future = stream.finish(1500)
    room.decode()

    assert text(future) == "1500"
    assert room.finals.take(nothing) is None


def test_the_final_covers_exactly_the_samples_of_finish() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(1000))
    stream.pause()
    future = stream.finish(600)
    room.decode()

    assert text(future) == "600"


def test_a_piece_of_a_file_has_no_partials_and_no_speculation() -> None:
    room = Room()
    stream = room.open(live=False)
    stream.push(audio(SECOND))
    stream.pause()

    assert room.finals.take(nothing) is None
    assert room.streamer.take(nothing) is None
    future = stream.finish(SECOND)
    room.decode()
    assert text(future) == str(SECOND)


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        (None, "go", "go"),
        ("go", "go forward(2) <sil>", "go forward"),
        ("go", None, ""),
        ("go", "go", None),
        (None, None, None),
    ],
)
def test_a_partial_is_what_is_new_and_is_taken_once(before: str | None, now: str | None, taken: str | None) -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(LEAST))
    room.feed(before)
    stream.partial()
    stream.push(audio(LEAST))
    room.feed(now)

    assert stream.partial() == (None if taken is None else ASRResult(taken, "en", inference_seconds=0.125))
    assert stream.partial() is None


def test_after_finish_no_partial_comes() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(LEAST))
    taken = room.streamer.take(nothing)
    assert taken is not None
    stream.finish(LEAST)
    room.streamer.deliver(taken[0], ("late", 0.1))

    assert stream.partial() is None
    assert room.streamer.take(nothing) is None


def test_cancel_leaves_nothing_and_can_be_repeated() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(SECOND))
    future = stream.finish(SECOND)
    stream.cancel()
    stream.cancel()
    stream.push(audio(SECOND))
    stream.pause()

    assert future.cancelled()
    assert room.finals.take(nothing) is None
    assert room.streamer.take(nothing) is None
    assert stream.finish(SECOND).cancelled()


def test_cancel_during_a_pass_drops_its_result() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(SECOND))
    future = stream.finish(SECOND)
    taken = room.finals.take(nothing)
    assert taken is not None
    stream.cancel()
    room.finals.deliver(taken[0], ((), 0.1))

    assert future.cancelled()


def test_cancel_after_the_result_keeps_it() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(SECOND))
    future = stream.finish(SECOND)
    room.decode()
    stream.cancel()

    assert text(future) == str(SECOND)


def test_a_callback_of_the_future_may_use_its_stream() -> None:
    """Futures are settled outside the lock."""
    room = Room()
    stream = room.open()
    stream.push(audio(SECOND))
    future = stream.finish(SECOND)
    future.add_done_callback(lambda _: stream.cancel())
    room.decode()

    assert text(future) == str(SECOND)


def test_a_future_that_someone_cancelled_harms_nobody() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(SECOND))
    future = stream.finish(SECOND)
    future.cancel()
    room.decode()
    stream.cancel()

    assert future.cancelled()


@pytest.mark.parametrize("samples", [-1, 1001])
def test_finish_refuses_samples_that_were_not_pushed(samples: int) -> None:
    stream = Room().open()
    stream.push(audio(1000))

    with pytest.raises(ValueError, match="of 1000 samples"):
        stream.finish(samples)


def test_finish_twice_is_refused() -> None:
    stream = Room().open()
    stream.push(audio(1000))
    stream.finish(1000)

    with pytest.raises(ValueError, match="cannot finish"):
        stream.finish(1000)


def test_a_deadly_utterance_fails_its_final() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(1000))
    future = stream.finish(1000)
    for _ in range(passes.ATTEMPTS):
        taken = room.finals.take(nothing)
        assert taken is not None
        room.finals.died(taken[0])

    with pytest.raises(EngineError, match="3 worker processes died"):
        future.result(0)


def test_a_streaming_pass_begins_again_in_a_new_process_and_no_partial_shrinks_by_that() -> None:
    room = Room()
    stream = room.open()
    stream.push(audio(MOST + LEAST))
    room.feed("a")
    room.feed("a b")
    assert stream.partial() is not None
    stream.push(audio(LEAST))
    taken = room.streamer.take(nothing)
    assert taken is not None
    room.streamer.died(taken[0])
    room.streamer.renewed()

    assert room.feed("a") == (True, MOST)
    assert stream.partial() is None
    assert room.feed("a b c") == (False, 2 * LEAST)
    assert stream.partial() == ASRResult("a b c", "en", inference_seconds=0.125)


def test_closing_cancels_what_is_pending_and_ends_every_wait() -> None:
    room = Room()
    paused, finished = room.open(), room.open()
    for stream in (paused, finished):
        stream.push(audio(1000))
    paused.pause()
    future = finished.finish(1000)
    room.finals.close()
    room.finals.close()
    room.partials.close()

    assert future.cancelled()
    assert paused.finish(1000).cancelled()
    assert room.finals.wait(None) is False
    assert room.streamer.wait(None) is False


@pytest.mark.parametrize("end", ["resumes", "is cancelled", "finishes elsewhere"])
def test_a_pass_that_becomes_void_has_its_process_ended(end: str) -> None:
    room = Room()
    stream = room.open()
    killed: list[str] = []
    stream.push(audio(SECOND))
    stream.pause()
    taken = room.finals.take(lambda: killed.append("the process"))
    assert taken is not None
    if end == "resumes":
        stream.push(audio(LEAST))
    elif end == "is cancelled":
        stream.cancel()
    else:
        stream.finish(LEAST)
    assert killed == ["the process"]
    room.finals.died(taken[0])
    if end == "resumes":
        future = stream.finish(SECOND)
        room.decode()
        assert text(future) == str(SECOND)

    assert killed == ["the process"]


def test_a_pass_in_the_way_of_a_final_has_its_process_ended() -> None:
    room = Room()
    paused, finished = room.open(), room.open()
    killed: list[str] = []
    paused.push(audio(2 * SECOND))
    paused.pause()
    taken = room.finals.take(lambda: killed.append("the process"))
    assert taken is not None
    finished.push(audio(SECOND))
    future = finished.finish(SECOND)
    assert killed == ["the process"]
    room.finals.died(taken[0])
    room.decode()

    assert text(future) == str(SECOND)
    assert room.decode() == 2 * SECOND
    assert text(paused.finish(2 * SECOND)) == str(2 * SECOND)


def test_a_pass_that_was_handed_in_has_no_process_to_kill() -> None:
    room = Room()
    paused, finished = room.open(), room.open()
    paused.push(audio(25 * SECOND))
    paused.pause()
    taken = room.finals.take(lambda: pytest.fail("its process has gone on to something else"))
    assert taken is not None
    room.finals.deliver(taken[0], ((), 0.1))
    finished.push(audio(SECOND))
    finished.finish(SECOND)
    paused.push(audio(LEAST))
    paused.cancel()


def test_each_new_hypothesis_is_told_once_without_the_lock() -> None:
    room = Room()
    heard: list[str] = []

    def look() -> None:
        partial = stream.partial()
        assert partial is not None
        heard.append(partial.text)

    stream = room.open(notify=look)
    for hypothesis_of_all in ("go", "go", None, "go forward"):
        stream.push(audio(LEAST))
        room.feed(hypothesis_of_all)

    assert heard == ["go", "", "go forward"]


@pytest.mark.parametrize("end", ["finish", "cancel"])
def test_nothing_is_told_of_an_utterance_that_ended(end: str) -> None:
    room = Room()
    stream = room.open(notify=lambda: pytest.fail("told"))
    stream.push(audio(LEAST))
    taken = room.streamer.take(nothing)
    assert taken is not None
    if end == "finish":
        stream.finish(LEAST)
    else:
        stream.cancel()

    room.streamer.deliver(taken[0], ("late", 0.1))


def test_a_speaker_whose_notify_fails_harms_nobody() -> None:
    room = Room()

    def fail() -> None:
        raise RuntimeError("the loop is closed")

    stream = room.open(notify=fail)
    stream.push(audio(LEAST))
    room.feed("go")

    assert stream.partial() is not None


# Hypotheses


def test_fillers_and_pronunciations_are_no_text() -> None:
    raw = "<s> the(2) <sil> cat's [NOISE] ++BREATH++ a(3) </s>"

    assert hypothesis.partial(raw, 0.5) == ASRResult("the cat's a", "en", inference_seconds=0.5)
    assert hypothesis.partial(None, 0.0).text == ""


def test_words_lie_within_the_utterance_and_confidences_in_0_to_1() -> None:
    segments = [("<s>", 0, 4, 1.0), ("the(2)", 5, 9, 1.0001), ("[NOISE]", 10, 11, 0.2), ("cat", 12, 30, -1e-9)]

    result = hypothesis.final(segments, samples_of(300), 0.5)

    assert result.text == "the cat"
    assert result.words is not None
    assert [(word.word, word.start_ms, word.end_ms, word.confidence) for word in result.words] == [
        ("the", 50, 100, 1.0),
        ("cat", 120, 300, 0.0),
    ]
