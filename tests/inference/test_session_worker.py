"""A session's worker: audio and commands in, events out, with engines that answer when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import cycle, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import ASRResult, EngineError, StreamOptions, Word
from inference.session_channel import MAX_FINALS
from inference.session_worker import POLL_IDLE_SECONDS, POLL_SPEECH_SECONDS
from protocol import events
from protocol.events import Reason
from protocol.native import MAX_MESSAGE_BYTES
from protocol.pcm import FRAME_SAMPLES, ms
from tests.inference.fakes import Clock, Engine, FakeSession, FakeStream, Message, draw

UTTERANCE = "VVVVV" + "." * 25
"""Voice for 100 ms, and the silence that ends it."""


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    """What the worker takes for the time."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr("inference.session_worker.time", clock)
        patch.setattr("inference.session_channel.time", clock)
        yield clock


@pytest.fixture
def session(clock: Clock) -> FakeSession:
    return FakeSession(clock)


def nothing() -> None:
    pass


def shown(session: FakeSession) -> list[str]:
    """What was sent, as short lines."""
    return [_line(event) for event in session.sent]


def _line(event: Message) -> str:
    match event:
        case events.Hypothesis():
            return f"{event.segment_seq} ... {event.text}".rstrip()
        case events.Final():
            return f"{event.segment_seq} {event.reason} {event.text}".rstrip()
        case _:
            return type(event).__name__


def say(session: FakeSession, index: int, text: str, after: float = 0.0) -> Callable[[], None]:
    """The engine's stream number `index` has a new hypothesis, some seconds later."""

    def happen() -> None:
        session.clock.tick(after)
        session.engine.streams[index].say(text)

    return happen


def answer(session: FakeSession, index: int, text: str = "") -> Callable[[], None]:
    return lambda: session.answer(index, text)


def both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def happen() -> None:
        first()
        second()

    return happen


# Waiting


def test_idle(session: FakeSession) -> None:
    """With nothing to hear the worker looks once and waits 200 ms."""
    session.run(nothing)
    assert session.waits == [POLL_IDLE_SECONDS] * 2
    assert session.takes == 2


def test_busy(session: FakeSession) -> None:
    """While there is speech, or a final is being decoded, it waits 50 ms; afterwards 200 ms again."""
    session.speak("V")
    session.run(lambda: session.speak("VVVV" + "." * 25), answer(session, 0, "a"), nothing)
    assert session.waits == [POLL_SPEECH_SECONDS, POLL_SPEECH_SECONDS, POLL_IDLE_SECONDS, POLL_IDLE_SECONDS]


def test_result_wakes(session: FakeSession) -> None:
    """A final that is ready ends the worker's wait."""
    session.speak(UTTERANCE)
    session.run(answer(session, 0, "a"))
    assert session.wakes == 1


def test_tiny_messages(session: FakeSession) -> None:
    """Messages of no or half a sample are no reason to hear anything, nor not to wait."""
    for _ in range(5):
        session.send(b"")
        session.send(b"\0")
    session.run()
    assert session.sent == []
    assert session.takes == 2


# Partials


def test_partial_throttle(session: FakeSession) -> None:
    """Partials are `partial_ms` apart; the newest text is shown, and only if it changed."""
    session.speak("VVV")
    session.run(
        say(session, 0, "a"),
        say(session, 0, "a b", after=0.05),
        say(session, 0, "a b c", after=0.03),
        say(session, 0, "a b c", after=0.03),
        say(session, 0, "a b c", after=9.0),
        say(session, 0, "a b c d", after=0.01),
    )
    assert shown(session) == ["0 ... a", "0 ... a b c", "0 ... a b c d"]


def test_empty_hypothesis(session: FakeSession) -> None:
    """A hypothesis of no words is not shown, unless it takes shown words back."""
    session.speak("VVV")
    session.run(say(session, 0, ""), say(session, 0, "a", after=1.0), say(session, 0, "", after=1.0))
    assert shown(session) == ["0 ... a", "0 ..."]


def test_next_partials_wait(session: FakeSession) -> None:
    """The next utterance's partials wait for the previous final, and then have its number."""
    session.speak(UTTERANCE + "VVV")
    session.run(say(session, 1, "next"), say(session, 1, "next one", after=9.0), answer(session, 0, "first"))
    assert shown(session) == ["0 endpoint first", "1 ... next one"]


def test_next_partials_wait_for_nothing(session: FakeSession) -> None:
    """If the previous utterance is found empty, the next one's partials take its number."""
    session.speak(UTTERANCE + "VVV")
    session.run(say(session, 1, "next"), answer(session, 0, ""))
    assert shown(session) == ["0 ... next"]


def test_refused_partial(session: FakeSession) -> None:
    """A partial that found no room is counted, was not shown, and is tried again when the next is due."""
    session.partials_fit = False
    session.speak("VVV")

    def make_room() -> None:
        session.clock.tick(0.2)
        session.partials_fit = True

    session.run(say(session, 0, "a"), nothing, make_room)
    assert shown(session) == ["0 ... a"]
    assert session.metrics.dropped_partials._value.get() == 1  # noqa: SLF001 - prometheus_client has no other way


# Events


def test_speech_events(session: FakeSession) -> None:
    """Every utterance is reported as it begins and as its endpoint is known, though no word comes of it."""
    session.speak("." * 20 + UTTERANCE)
    session.run()
    assert session.speech == [events.SpeechStarted(400), events.SpeechStopped(500)]
    assert session.sent == []


# Finals


def test_final(session: FakeSession) -> None:
    """A final tells where the voice was, how long it took, and what was said when."""
    session.speak("." * 20 + UTTERANCE)
    said = {"language": "en", "words": (Word("hi", 310, 390, 0.5),)}
    session.run(lambda: session.clock.tick(0.25), lambda: session.answer(0, "hi", **said))
    (final,) = session.finals
    assert final == events.Final(
        segment_seq=0,
        text="hi",
        start_ms=400,
        end_ms=500,
        reason=Reason.ENDPOINT,
        language="en",
        first_token_ms=250,
        ended=session.clock.now - 0.25,
        latency_ms=250,
        words=(events.Word("hi", 410, 490, 0.5),),
    )


def test_finals_in_order(session: FakeSession) -> None:
    """Finals leave in the order of speech, whichever is decoded first."""
    session.speak(UTTERANCE * 2)
    session.run(answer(session, 1, "second"), nothing, answer(session, 0, "first"))
    assert shown(session) == ["0 endpoint first", "1 endpoint second"]


def test_empty_endpoint(session: FakeSession) -> None:
    """An endpoint without text sends nothing and does not count."""
    session.speak(UTTERANCE * 2)
    session.run(answer(session, 0), answer(session, 1, "a"))
    assert shown(session) == ["0 endpoint a"]


def test_empty_after_a_partial(session: FakeSession) -> None:
    """An endpoint without text is sent if a partial of it was shown."""
    session.speak("VVV")
    session.run(say(session, 0, "a"), lambda: session.speak("." * 25), answer(session, 0))
    assert shown(session) == ["0 ... a", "0 endpoint"]


def test_empty_after_a_refused_partial(session: FakeSession) -> None:
    """A partial that found no room does not make an empty endpoint count."""
    session.partials_fit = False
    session.speak("VVV")
    session.run(say(session, 0, "a"), lambda: session.speak("." * 25), answer(session, 0))
    assert shown(session) == []


# Commits


def test_commit_in_silence(session: FakeSession) -> None:
    """A commit with nothing said is answered at once, at the last sample."""
    session.speak("." * 10)
    session.commit()
    session.run()
    (final,) = session.finals
    assert (final.reason, final.text, final.start_ms, final.end_ms) == ("commit", "", 200, 200)
    assert (final.first_token_ms, final.latency_ms) == (0, 0)
    assert session.engine.streams == []


def test_commit_in_speech(session: FakeSession) -> None:
    """A commit ends the utterance; what follows in the same breath is a new one."""
    session.speak("VVVV")
    session.commit()
    session.speak("VVVV")
    session.commit()
    session.run(answer(session, 0, "one"), answer(session, 1, "two"))
    assert shown(session) == ["0 commit one", "1 commit two"]
    assert [(final.start_ms, final.end_ms) for final in session.finals] == [(0, 80), (80, 160)]


def test_commit_while_an_endpoint_is_pending(session: FakeSession) -> None:
    """A commit with nothing said since the endpoint gets its own final, after the endpoint's."""
    session.speak(UTTERANCE)
    session.commit()
    session.run(nothing, answer(session, 0, "a"))
    assert shown(session) == ["0 endpoint a", "1 commit"]


def test_commit_after_an_empty_endpoint(session: FakeSession) -> None:
    """The commit's final takes the number that an empty endpoint did not."""
    session.speak(UTTERANCE)
    session.commit()
    session.run(answer(session, 0))
    assert shown(session) == ["0 commit"]


def test_many_commits(session: FakeSession) -> None:
    """Every commit is answered, in order, also those that come at once."""
    session.speak("VVVV")
    for _ in range(5):
        session.commit()
    session.run(nothing, answer(session, 0, "a"))
    assert shown(session) == ["0 commit a", "1 commit", "2 commit", "3 commit", "4 commit"]


@pytest.mark.parametrize("silence_ms", [100, 110, 250, 500])
@pytest.mark.parametrize("samples", [1, 160, 319])
def test_commit_as_the_silence_ends(clock: Clock, silence_ms: int, samples: int) -> None:
    """A commit whose last samples complete the silence of an endpoint is answered."""
    session = FakeSession(clock, silence_ms=silence_ms)
    session.speak("VVV" + "." * (silence_ms // 20))
    session.send(np.zeros(samples, np.int16))
    session.commit()
    session.run(answer(session, 0, "a"))
    assert [final.reason for final in session.finals].count(Reason.COMMIT) == 1


def test_commit_ends_onset(session: FakeSession) -> None:
    """A single voiced frame before a commit is decoded."""
    session.speak("V")
    session.commit()
    session.run(answer(session, 0, "k"))
    assert shown(session) == ["0 commit k"]


def test_commit_between_halves_of_a_sample(session: FakeSession) -> None:
    """A commit after an odd byte leaves that sample to what follows."""
    data = draw("VVVVVVVV").astype("<i2").tobytes()
    session.send(data[:2001])
    session.commit()
    session.send(data[2001:])
    session.commit()
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert [len(stream.audio) for stream in session.engine.streams] == [1000, 1560]


# Stalls


def test_stalled(session: FakeSession) -> None:
    """An utterance whose audio stalls ends at the last sample, and what comes later is a new one, at the next."""
    session.speak("VVVV")
    session.command(events.Stall())
    session.speak("VVVV")
    session.commit()
    session.run(answer(session, 0, "one"), answer(session, 1, "two"))
    assert shown(session) == ["0 stalled one", "1 commit two"]
    assert [(final.start_ms, final.end_ms) for final in session.finals] == [(0, 80), (80, 160)]


def test_stalled_after_an_endpoint(session: FakeSession) -> None:
    """A stall ends nothing where no utterance is open, an onset neither."""
    session.speak(UTTERANCE + "V")
    session.command(events.Stall())
    session.run(answer(session, 0, "a"))
    assert shown(session) == ["0 endpoint a"]
    assert len(session.engine.streams) == 1


def test_stalled_without_words(session: FakeSession) -> None:
    """As with an endpoint, no final is sent where nothing was recognised."""
    session.speak("VVVV")
    session.command(events.Stall())
    session.run(answer(session, 0, ""))
    assert session.sent == []


@pytest.mark.parametrize("reason", ["configured", "configured late"])
def test_no_stall_without_endpointing(session: FakeSession, reason: str) -> None:
    """A stall ends no utterance that silence may not end, also when it was about the one before."""
    before = UTTERANCE if reason == "configured late" else ""
    session.speak(before)
    session.command(events.Configure(endpointing=False))
    session.speak("VVVV")
    session.command(events.Stall())
    session.commit()
    session.run(*[answer(session, number, "a") for number in range(2 if before else 1)])
    assert session.finals[-1].reason == "commit"
    assert "stalled" not in [final.reason for final in session.finals]
    assert session.stall_seconds == []


@pytest.mark.parametrize(("silence_ms", "seconds"), [(100, 1.2), (900, 1.2), (901, 1.201), (5000, 5.3)])
def test_when_a_stall_is_looked_for(clock: Clock, silence_ms: int, seconds: float) -> None:
    """While an utterance is open: after its silence and 300 ms, and no sooner than a busy browser page is late."""
    session = FakeSession(clock, silence_ms=silence_ms)
    session.speak("VVVV")
    session.run(lambda: session.command(events.Clear()))
    assert session.stall_seconds == [seconds, None]


# Other commands


def test_commit_id(session: FakeSession) -> None:
    """A commit's id comes back in its own final only."""
    session.speak(UTTERANCE + "VVVV")
    session.commit(commit_id="x")
    session.commit()
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert [final.commit_id for final in session.finals] == [None, "x", None]


def test_finish(session: FakeSession) -> None:
    """The open utterance gets its final, then `Finished` ends the worker; what comes behind it is not read."""
    session.speak(UTTERANCE + "VVVV")
    session.command(events.Finish())
    session.speak(UTTERANCE)
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert shown(session) == ["0 endpoint a", "1 finish b", "Finished"]
    assert len(session.engine.streams) == 2
    assert not session.cancelled


def test_finish_in_silence(session: FakeSession) -> None:
    """There is nothing to end, so no final."""
    session.speak("...")
    session.command(events.Finish())
    session.run()
    assert shown(session) == ["Finished"]


def test_clear(session: FakeSession) -> None:
    """The open utterance is dropped; a final being decoded still comes, and numbers and times go on."""
    session.speak(UTTERANCE + "VVVV")
    session.command(events.Clear())
    session.speak("VVVV")
    session.commit()
    session.run(answer(session, 0, "a"), answer(session, 2, "b"))
    assert shown(session) == ["Cleared", "0 endpoint a", "1 commit b"]
    assert session.engine.streams[1].cancelled
    assert [final.start_ms for final in session.finals] == [0, 20 * (len(UTTERANCE) + 4)]


def test_clear_in_silence(session: FakeSession) -> None:
    """It is answered all the same, and an onset before it is forgotten."""
    session.speak("...V")
    session.command(events.Clear())
    session.speak("." * 30)
    session.commit()
    session.run()
    assert shown(session) == ["Cleared", "0 commit"]
    assert session.engine.streams == []


@pytest.mark.parametrize("samples", [1, 319])
def test_clear_between_frames(session: FakeSession, samples: int) -> None:
    """Samples under a frame before it belong to what was cleared; times stay exact."""
    session.send(np.concatenate((draw("VVVV"), np.full(samples, 3000, np.int16))))
    session.command(events.Clear())
    session.speak("." * 10 + UTTERANCE)
    session.run(answer(session, 1, "a"))
    assert [final.start_ms for final in session.finals] == [ms(samples + 14 * FRAME_SAMPLES)]


def test_configure(session: FakeSession) -> None:
    """Settings change from the next utterance on, and are reported in full."""
    session.speak("VVVV")
    session.command(events.Configure(language="de", hotwords=("a",), silence_ms=1000))
    session.speak("." * 25 + "VVVV" + "." * 49)
    session.run(answer(session, 0, "one"), lambda: session.speak("."), answer(session, 1, "two"))
    assert session.sent[0] == events.Configured("de", ("a",), 1000, endpointing=True)
    assert shown(session)[1:] == ["0 endpoint one", "1 endpoint two"]
    assert [final.language for final in session.finals] == ["auto", "de"]
    assert [(options.language, options.hotwords) for options in session.engine.options] == [(None, ()), ("de", ("a",))]


def test_configure_what_it_names_only(session: FakeSession) -> None:
    """None leaves a setting as it is."""
    session.command(events.Configure(hotwords=("a",)))
    session.command(events.Configure(language="de"))
    session.command(events.Configure(language="auto", endpointing=False))
    session.run()
    assert session.sent == [
        events.Configured("auto", ("a",), 500, endpointing=True),
        events.Configured("de", ("a",), 500, endpointing=True),
        events.Configured("auto", ("a",), 500, endpointing=False),
    ]


def test_no_endpointing(clock: Clock) -> None:
    """Silence then ends no utterance, a commit does, and the longest length still bounds it."""
    session = FakeSession(clock, max_segment_ms=10_000, endpointing=False)
    session.speak("VVVV" + "." * 300 + "VVVV")
    session.commit()
    session.speak("VVVV" + "." * 600)
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert shown(session) == ["0 commit a", "1 max_length b"]
    assert [(final.start_ms, final.end_ms) for final in session.finals] == [(0, 6160), (6160, 6240)]


def test_reject(session: FakeSession) -> None:
    """What cannot be done is a warning, in its place among the other events."""
    refused = events.WarningCode.CONFIGURE_REFUSED
    session.commit()
    session.command(events.Reject(refused, "why"))
    session.run()
    assert shown(session) == ["0 commit", "Warning"]
    assert session.sent[1] == events.Warning(refused, "why")


# Back-pressure


def test_two_finals_in_work(session: FakeSession) -> None:
    """With two finals being decoded the worker takes nothing more, until one is delivered."""
    takes: list[int] = []

    def note() -> None:
        takes.append(session.takes)

    session.speak(UTTERANCE)
    session.run(
        lambda: session.speak(UTTERANCE),
        both(lambda: session.speak(UTTERANCE), note),
        note,
        answer(session, 1, "second"),
        both(note, answer(session, 0, "first")),
        both(note, answer(session, 2, "third")),
    )
    assert takes[0] == takes[1] == takes[2] < takes[3]
    assert shown(session) == ["0 endpoint first", "1 endpoint second", "2 endpoint third"]


@pytest.mark.parametrize("silence_ms", [100, 260])
def test_long_message_of_many_utterances(clock: Clock, silence_ms: int) -> None:
    """However many utterances a message of 256 KiB holds, at most two are decoded at once."""
    session = FakeSession(clock, silence_ms=silence_ms)
    data = np.resize(draw("VVV" + "." * (silence_ms // 20)), MAX_MESSAGE_BYTES // 2)
    session.send(data)
    utterances = len(data) // (FRAME_SAMPLES * (3 + silence_ms // 20))
    session.run(*(answer(session, index, str(index)) for index in range(utterances)))
    assert [final.text for final in session.finals] == [str(index) for index in range(utterances)]
    assert session.peak_in_work == MAX_FINALS


@given(
    st.sampled_from([100, 200, 260]),
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from(".V259V")), min_size=1, max_size=60),
)
def test_never_three_finals_in_work(clock: Clock, silence_ms: int, runs: list[tuple[int, str]]) -> None:
    """Nor does a cut for length, close to an endpoint, ever bring a third."""
    session = FakeSession(clock, silence_ms=silence_ms, max_segment_ms=1000)
    frames = "".join(each * count for count, each in runs)
    loud = {"V": 3000, ".": 0, "2": 20, "5": 50, "9": 250}
    session.send(np.repeat([loud[each] for each in frames], FRAME_SAMPLES).astype(np.int16))
    session.drain()

    def answer_oldest() -> None:
        for stream in session.engine.streams:
            if stream.in_work:
                stream.result.set_result(ASRResult("a"))
                return

    session.run(*[answer_oldest] * len(frames))
    assert not session.cancelled
    assert session.peak_in_work <= MAX_FINALS
    assert [final.segment_seq for final in session.finals] == list(range(len(session.engine.streams)))


# Endings


def test_drain(session: FakeSession) -> None:
    """When the server drains, all that was sent is heard, the open utterance ends, and finals are delivered."""
    session.speak(UTTERANCE)
    session.commit()
    session.speak("VVVV")
    session.drain()
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert shown(session) == ["0 endpoint a", "1 commit", "2 drain b"]
    assert not session.cancelled


def test_closing(session: FakeSession) -> None:
    """Another end that the server decides gives the open utterance its final too, with its own reason."""
    session.speak("VVVV")
    session.drain(Reason.CLOSING)
    session.run(answer(session, 0, "a"))
    assert shown(session) == ["0 closing a"]


def test_must_finish(session: FakeSession) -> None:
    """When time is up the newest hypothesis takes the place of a final that is not ready."""

    def give_up() -> None:
        session.must_finish = True

    session.speak("VVVV")
    session.run(say(session, 0, "so far"), session.drain, give_up)
    assert shown(session) == ["0 ... so far", "0 drain so far"]
    assert session.engine.streams[0].cancelled


def test_drain_of_nothing(session: FakeSession) -> None:
    """A drain in silence sends nothing."""
    session.speak("...")
    session.drain()
    assert session.run() == []
    assert session.waits == []


def test_drain_of_an_empty_utterance(session: FakeSession) -> None:
    """An utterance without text that a drain ended sends nothing."""
    session.speak("VVVV")
    session.drain()
    assert session.run(answer(session, 0)) == []


def test_drain_while_two_finals_are_in_work(session: FakeSession) -> None:
    """What is still queued as the drain begins is heard once a final has left."""
    session.speak(UTTERANCE * 2)
    session.run(
        both(lambda: session.speak("VVVV"), session.drain),
        answer(session, 0, "a"),
        answer(session, 1, "b"),
        answer(session, 2, "c"),
    )
    assert shown(session) == ["0 endpoint a", "1 endpoint b", "2 drain c"]
    assert not session.cancelled


def test_cancel(session: FakeSession) -> None:
    """A client that is gone cancels the open utterance and every running final; nothing more is sent."""
    session.speak(UTTERANCE + "VVVV")
    assert session.run(session.cancel) == []
    assert [stream.cancelled for stream in session.engine.streams] == [True, True]


def test_sink_closed(session: FakeSession) -> None:
    """A final that nobody will send is a normal ending, and cancels the rest."""
    session.sink_closed = True
    session.speak(UTTERANCE + "VVVV")
    assert session.run(answer(session, 0, "a")) == []
    assert session.engine.streams[1].cancelled


def test_engine_error_in_a_final(session: FakeSession) -> None:
    """An utterance that cannot be decoded ends the worker, and cancels the rest."""
    session.speak(UTTERANCE * 2 + "VVVV")
    with pytest.raises(EngineError, match="broken"):
        session.run(lambda: session.engine.streams[0].result.set_exception(EngineError("broken")))
    assert session.engine.streams[1].cancelled


@pytest.mark.parametrize("method", ["push", "partial", "pause", "finish"])
def test_engine_error(clock: Clock, method: str) -> None:
    """An engine that fails at anything ends the worker, and every stream is cancelled."""

    def fail(*_: object) -> None:
        raise EngineError("broken")

    def script(stream: FakeStream) -> None:
        if len(engine.streams) == 2:
            setattr(stream, method, fail)

    engine = Engine(script)
    session = FakeSession(clock, engine)
    session.speak(UTTERANCE * 2)
    with pytest.raises(EngineError, match="broken"):
        session.run()
    assert [stream.cancelled for stream in session.engine.streams] == [True, True]


def test_engine_error_on_opening(clock: Clock) -> None:
    """An engine that cannot open the next utterance ends the worker, and the one before is cancelled."""

    def script(_: FakeStream) -> None:
        if len(engine.streams) == 2:
            raise EngineError("broken")

    engine = Engine(script)
    session = FakeSession(clock, engine, max_segment_ms=1000)
    session.speak("V" * 60)
    with pytest.raises(EngineError, match="broken"):
        session.run()
    assert session.engine.streams[0].cancelled


# Times


def test_latency_of_a_late_worker(clock: Clock) -> None:
    """Latency counts from the arrival of the message that completed the endpoint, however late it is heard."""
    session = FakeSession(clock)
    came = clock.now - 10
    for number, frame in enumerate(UTTERANCE + "." * 20):
        session.send(draw("V" if frame == "V" else "."), came + number / 50)
    session.run(answer(session, 0, "a"))
    (final,) = session.finals
    assert final.latency_ms == 10_000 - 20 * 29
    assert final.first_token_ms == 10_000


def test_latency_before_a_long_message(clock: Clock) -> None:
    """A message of 8 s behind it does not make an endpoint look as if it had just come."""
    session = FakeSession(clock)
    session.speak(UTTERANCE, arrived=clock.now - 10)
    session.speak("." * 400, arrived=clock.now - 1)
    session.run(answer(session, 0, "a"))
    assert [final.latency_ms for final in session.finals] == [10_000]


def test_latency_of_a_long_utterance(clock: Clock) -> None:
    """Latency never contains the speech."""
    session = FakeSession(clock)
    for _ in range(200):
        session.speak("V", arrived=clock.now)
        clock.tick(0.02)
    session.speak("." * 25)
    session.run(lambda: clock.tick(0.3), answer(session, 0, "a"))
    (final,) = session.finals
    assert final.latency_ms == 300
    assert final.first_token_ms == 4300


def test_latency_of_a_commit(clock: Clock) -> None:
    """A commit's latency counts from its own arrival, with and without speech."""
    session = FakeSession(clock)
    session.speak("VVVV", arrived=clock.now - 8)
    session.commit(arrived=clock.now - 3)
    session.commit(arrived=clock.now - 2)
    session.run(answer(session, 0, "a"))
    assert [final.latency_ms for final in session.finals] == [3000, 2000]


def test_latency_of_a_drain(session: FakeSession) -> None:
    """A drained utterance's latency counts from where the worker came to its end."""
    session.speak("VVVV", arrived=session.clock.now - 8)
    session.drain()
    session.run(lambda: session.clock.tick(0.5), answer(session, 0, "a"))
    assert [final.latency_ms for final in session.finals] == [500]


def test_latency_behind_another_final(session: FakeSession) -> None:
    """The wait for the final before it is part of a final's latency."""
    session.speak(UTTERANCE * 2)
    session.run(answer(session, 1, "b"), lambda: session.clock.tick(2), answer(session, 0, "a"))
    assert [final.latency_ms for final in session.finals] == [2000, 2000]


def test_first_token_of_a_partial(session: FakeSession) -> None:
    """The first text may be a hypothesis, shown or not."""
    session.speak(UTTERANCE + "VVV", arrived=session.clock.now - 1)
    session.run(
        say(session, 1, "b"),
        lambda: session.clock.tick(3),
        answer(session, 0, "a"),
        lambda: session.speak("." * 25),
        answer(session, 1, "b"),
    )
    assert [final.first_token_ms for final in session.finals] == [4000, 1000]


@pytest.mark.parametrize("size", [1, 2, 3, 640, 12_345, 3_200_000, 10_000_001])
@pytest.mark.parametrize("before", [0, 640, 641])
def test_dropped_audio(clock: Clock, size: int, before: int) -> None:
    """Audio dropped from a full queue counts in every time, by odd numbers of bytes too."""
    session = FakeSession(clock)
    session.send(bytes(before))
    session.lose(size)
    pad = -(before + size) % 32
    session.send(bytes(pad))
    session.speak("." * 15 + UTTERANCE + ".")
    session.run(answer(session, 0, "a"))
    (final,) = session.finals
    voice = (before + size + pad) // 2 + 15 * FRAME_SAMPLES
    # Voice starts inside a frame of the connection's, so to the nearest frame.
    assert abs(final.start_ms - ms(voice)) <= 20
    assert abs(final.end_ms - ms(voice + 5 * FRAME_SAMPLES)) <= 20


def test_dropped_audio_is_silence(session: FakeSession) -> None:
    """A second lost in the middle of speech ends the utterance."""
    session.speak("VVVV")
    session.lose(32_000)
    session.speak("VVVV")
    session.commit()
    session.run(answer(session, 0, "a"), answer(session, 1, "b"))
    assert [(final.start_ms, final.end_ms) for final in session.finals] == [(0, 80), (1080, 1160)]


# Any chunking


class Echo(FakeStream):
    """Says at once which samples it heard."""

    def finish(self, samples: int) -> Future[ASRResult]:
        future = super().finish(samples)
        future.set_result(ASRResult(f"{samples} {hash(self.audio.tobytes())}"))
        return future


class EchoEngine(Engine):
    def open(self, options: StreamOptions) -> FakeStream:
        self.streams.append(Echo())
        return self.streams[-1]


def finals_of(clock: Clock, data: bytes, sizes: list[int], commits: set[int]) -> list[tuple[object, ...]]:
    session = FakeSession(clock, EchoEngine(), max_segment_ms=1500)
    first = 0
    for end in sorted({0, len(data), *islice(cycle(np.cumsum(sizes).tolist()), len(sizes)), *commits}):
        if end > len(data):
            break
        session.send(data[first:end])
        first = end
        if end in commits:
            session.commit()
    session.send(data[first:])
    session.drain()
    session.run()
    return [(each.segment_seq, each.text, each.start_ms, each.end_ms, each.reason) for each in session.finals]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from("..V")), min_size=1, max_size=12),
    st.lists(st.integers(1, 30_000), min_size=1, max_size=40),
    st.sets(st.integers(0, 100_000), max_size=4),
)
def test_any_chunking(clock: Clock, runs: list[tuple[int, str]], sizes: list[int], commits: set[int]) -> None:
    """However audio is cut into messages, odd bytes included, the finals are the same."""
    data = draw("".join(each * count for count, each in runs)).astype("<i2").tobytes()
    commits = {commit for commit in commits if commit <= len(data)}
    assert finals_of(clock, data, [len(data)], commits) == finals_of(clock, data, sizes, commits)
