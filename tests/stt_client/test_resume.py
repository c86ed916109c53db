"""What is sent again after a connection ends, and which finals are handed out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt_client.events import AudioLost, Cleared, Event, Final, Partial, Word
from stt_client.messages import parse
from stt_client.resume import KEPT_SECONDS, ResumableStream

RATE = 1000
"""Hz: a sample is a ms, and 2 bytes."""
UTTERANCES = [(1000, 3000), (4000, 6500), (7500, 9000), (10_000, 13_000)]
"""Voiced spans of the stream that the server below recognises, in ms."""
OF_THE_OTHER = [(500, 1500), (2500, 4200), (6000, 12_000), (13_000, 14_000)]
"""The same of a second channel."""
LENGTH = 15_000


@dataclass
class SimulatedServer:
    """Recognises `utterances` by the position of the audio; speaks the protocol's messages."""

    utterances: Sequence[tuple[int, int]] = tuple(UTTERANCES)
    channel: int = 0
    base: int = -1
    """Stream position in ms of the connection's first sample; -1: not yet known."""
    heard_from: int = 0
    """Stream position in ms up to which there was only silence."""
    received: int = 0
    seq: int = 0
    done: set[int] = field(default_factory=set)

    def push(self, audio: bytes) -> Iterator[str]:
        if self.base < 0:
            self.base = int.from_bytes(audio[:2], "little")
        self.received += len(audio) // 2
        for number, (start, end) in enumerate(self.utterances):
            covered = max(self.base, self.heard_from) <= start and number not in self.done
            if covered and self.here >= end + 500:
                yield self.final(number, end, "endpoint", f"u{number}")
            elif covered and start + 500 < self.here < end:
                partial = {"type": "partial", "segment_seq": self.seq, "text": f"part of u{number}"}
                yield json.dumps(partial | {"channel": self.channel})

    @property
    def here(self) -> int:
        return self.base + self.received

    def final(self, number: int, end: int, reason: str, text: str) -> str:
        self.done.add(number)
        self.seq += 1
        start = self.utterances[number][0]
        message = {"type": "final", "segment_seq": self.seq - 1, "text": text, "reason": reason}
        times = {"start_ms": start - self.base, "end_ms": end - self.base}
        return json.dumps(message | times | {"channel": self.channel})

    def stop(self, reason: str) -> Iterator[str]:
        """Its last words: the final of the utterance that is open."""
        for number, (start, end) in enumerate(self.utterances):
            begin = max(self.base, self.heard_from)
            if self.base >= 0 and begin <= start < self.here < end + 500 and number not in self.done:
                complete = self.here >= end
                yield self.final(number, min(end, self.here), reason, f"u{number}" if complete else f"cut u{number}")


class TwoChannels:
    """A server for each channel of interleaved audio."""

    def __init__(self) -> None:
        self.channels = [SimulatedServer(), SimulatedServer(OF_THE_OTHER, 1)]
        for each in self.channels:
            each.heard_from = 2 * LENGTH

    def push(self, audio: bytes) -> Iterator[str]:
        samples = memoryview(audio).cast("H")
        base = max(samples[0], samples[1])
        for channel, server in enumerate(self.channels):
            server.base = base if server.base < 0 else server.base
            server.heard_from = min(server.heard_from, next(filter(None, samples[channel::2]), server.heard_from))
            yield from server.push(samples[channel::2].tobytes())

    def stop(self, reason: str) -> Iterator[str]:
        for server in self.channels:
            yield from server.stop(reason)


def both(start: int, end: int) -> bytes:
    """Two channels whose samples are their own positions."""
    return b"".join(2 * position.to_bytes(2, "little") for position in range(start, end))


def pcm(start: int, end: int) -> bytes:
    """Audio whose samples are their own positions."""
    return b"".join(position.to_bytes(2, "little") for position in range(start, end))


def spoken(stream: ResumableStream, server: SimulatedServer | TwoChannels) -> list[Event]:
    """Send everything that is due, and receive the answers."""
    events: list[Event] = []
    while stream.delay(1000) is not None:
        message = stream.take()
        if isinstance(message, bytes):
            answers = list(server.push(message))
        elif json.loads(message)["type"] == "finish":
            answers = [*server.stop("finish"), '{"type": "finished"}']
        else:
            answers = []
        events += received(stream, answers)
    return events


def received(stream: ResumableStream, answers: Sequence[str]) -> list[Event]:
    events: list[Event] = []
    for answer in answers:
        message = parse(answer)
        assert message is not None
        events += stream.received(message)
    return events


def finals(events: Sequence[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def opened(stream: ResumableStream) -> SimulatedServer:
    stream.opened()
    return SimulatedServer()


def final(start: int, end: int, text: str = "text", **fields: object) -> Final:
    reason = str(fields.pop("reason", "endpoint"))
    return Final.model_validate(
        {"segment_seq": 7, "text": text, "start_ms": start, "end_ms": end, "reason": reason} | fields
    )


@given(
    st.lists(
        st.tuples(st.integers(100, LENGTH - 1), st.sampled_from(["drain", "closing", "kill"]), st.integers(0, 900)),
        max_size=12,
    )
)
def test_every_utterance_has_one_final_however_often_the_server_goes(ends: list[tuple[int, str, int]]) -> None:
    """Servers that end anywhere cost no word, say none twice, and leave numbers and times as one server gives them."""
    stream, events, sent = ResumableStream(RATE, 2), [], 0
    server = opened(stream)
    for position, end, backlog in sorted(ends):
        stream.append(pcm(sent, position))
        sent = position
        if backlog < 100:  # the next server goes while it is sent the backlog
            for _ in range(min(backlog, 3)):
                message = stream.take() if stream.delay(1000) is not None else b""
                events += received(stream, list(server.push(message)) if message and isinstance(message, bytes) else [])
        else:
            events += spoken(stream, server)
        if end != "kill":
            events += received(stream, list(server.stop(end)))
        events += stream.closed({"drain": 1012, "closing": 1013, "kill": 1006}[end])
        server = opened(stream)
    stream.append(pcm(sent, LENGTH))
    stream.finish()
    events += spoken(stream, server)

    assert [each.text for each in finals(events)] == ["u0", "u1", "u2", "u3"]
    assert [(each.start_ms, each.end_ms) for each in finals(events)] == UTTERANCES
    assert [each.segment_seq for each in finals(events)] == [0, 1, 2, 3]
    assert stream.finished


ENDS = st.lists(
    st.tuples(st.integers(100, LENGTH - 1), st.sampled_from(["drain", "closing", "kill"]), st.booleans()), max_size=12
)


@given(ENDS)
def test_each_channel_has_each_of_its_finals_once_however_often_the_server_goes(
    ends: list[tuple[int, str, bool]],
) -> None:
    """The audio is sent again from the earliest point that a channel needs, and no final of the other comes twice."""
    stream, events, sent = ResumableStream(RATE, 2, channels=2), [], 0
    stream.opened()
    server = TwoChannels()
    for position, end, answers in sorted(ends):
        stream.append(both(sent, position))
        sent = position
        if answers:
            events += spoken(stream, server)
        if end != "kill":
            events += received(stream, list(server.stop(end)))
        events += stream.closed({"drain": 1012, "closing": 1013, "kill": 1006}[end])
        stream.opened()
        server = TwoChannels()
    stream.append(both(sent, LENGTH))
    stream.finish()
    events += spoken(stream, server)

    for channel, spans in enumerate((UTTERANCES, OF_THE_OTHER)):
        of_channel = [each for each in finals(events) if each.channel == channel]
        assert [each.text for each in of_channel] == ["u0", "u1", "u2", "u3"]
        assert [(each.start_ms, each.end_ms) for each in of_channel] == spans
        assert [each.segment_seq for each in of_channel] == [0, 1, 2, 3]
    assert stream.finished


def test_a_commit_that_one_channel_has_not_answered_is_sent_again_and_answered_once_in_each() -> None:
    """The other channel's second answer is not handed out."""
    stream = ResumableStream(RATE, 2, channels=2)
    stream.opened()
    stream.append(both(0, 1000))
    stream.command("commit", id=1)
    events = stream.received(final(100, 900, reason="commit", id=1, channel=0))
    stream.closed(1006)
    stream.opened()
    sent = [stream.take(), stream.take()]
    events += stream.received(final(1000, 1000, "", reason="commit", id=1, channel=0))
    events += stream.received(final(200, 800, reason="commit", id=1, channel=1))
    stream.closed(1006)
    stream.opened()

    assert sent[1] == '{"type": "commit", "id": 1}'
    assert [(each.channel, each.id, each.end_ms) for each in finals(events)] == [(0, 1, 900), (1, 1, 800)]
    assert isinstance(stream.take(), bytes)
    assert stream.delay(0) is None


@given(st.lists(st.integers(1, 900), max_size=6))
def test_a_settled_channel_is_sent_again_as_silence(cuts: list[int]) -> None:
    """However the caller's audio is cut: in the other channel every sample comes again."""
    stream = ResumableStream(RATE, 2, channels=2)
    stream.opened()
    audio = both(0, 1000)
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(audio)], strict=True):
        stream.append(audio[first:last])
        while stream.delay(0) is not None:
            stream.take()
    stream.received(final(100, 600, channel=1))
    stream.closed(1006)
    stream.opened()
    again = b""
    while stream.delay(0) is not None:
        message = stream.take()
        assert isinstance(message, bytes)
        again += message

    samples = memoryview(again).cast("H")
    assert list(samples[0::2]) == list(range(1000))
    assert list(samples[1::2]) == [0] * 600 + list(range(600, 1000))


def test_a_provisional_final_is_handed_out_if_no_server_takes_the_stream() -> None:
    """What a server said as it went is the last word if no other takes the stream."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 2000))

    assert stream.received(final(1000, 1900, "half a", reason="drain")) == []
    assert stream.closed(1012) == []
    assert [(each.text, each.segment_seq) for each in finals(stream.abandoned())] == [("half a", 0)]


@pytest.mark.parametrize(("code", "handed_out"), [(1008, 1), (1009, 1), (1000, 1), (1011, 0), (1012, 0), (1013, 0)])
def test_a_closing_final_is_provisional_where_the_client_connects_again(code: int, handed_out: int) -> None:
    """A final with reason `closing` is the last word unless the close code is one after which the stream goes on."""
    stream = ResumableStream(RATE, 2)
    stream.opened()

    assert stream.received(final(100, 900, reason="closing")) == []
    assert len(stream.closed(code)) == handed_out


def test_a_provisional_final_that_no_server_confirms_is_not_lost() -> None:
    """If the next server finds nothing where a provisional final was, that final comes before the next one."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 5000))
    stream.received(final(1000, 1900, "first", reason="drain"))
    stream.closed(1012)
    stream.opened()

    events = finals(stream.received(final(2300, 3300, "second")))  # on a connection that began at 700 ms
    assert [(each.text, each.segment_seq, each.start_ms) for each in events] == [
        ("first", 0, 1000),
        ("second", 1, 3000),
    ]


def test_the_next_server_is_sent_the_utterance_from_300_ms_before_its_start() -> None:
    """A provisional final's audio begins again 300 ms before it; after any other final audio begins at its end."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 5000))
    while stream.delay(0) is not None:
        stream.take()
    stream.received(final(100, 900))
    stream.closed(1006)
    stream.opened()
    assert stream.take()[:2] == pcm(900, 901)
    stream.received(final(1100, 2000, reason="drain"))  # 2000 to 2900 ms of the stream
    stream.closed(1012)
    stream.opened()

    assert stream.take()[:2] == pcm(1700, 1701)


def test_the_audio_of_a_final_is_never_sent_again_with_the_next_one() -> None:
    """The 300 ms before a provisional final do not reach into the final before it."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 3000))
    stream.received(final(0, 1000, reason="max_length"))
    stream.received(final(1050, 2000, reason="drain"))
    stream.closed(1012)
    stream.opened()

    assert stream.take()[:2] == pcm(1000, 1001)


def test_an_unanswered_commit_is_sent_again_at_its_place_and_an_answered_one_is_not() -> None:
    """Each commit is answered once, by the final of the audio before it."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 1000))
    stream.command("commit", id=1)
    stream.append(pcm(1000, 2000))
    stream.command("commit", id=2)
    stream.received(final(100, 900, reason="commit", id=1))
    stream.closed(1006)
    stream.opened()
    stream.append(pcm(2000, 2500))
    messages = []
    while stream.delay(0) is not None:
        messages.append(stream.take())

    lengths = [len(each) for each in messages if isinstance(each, bytes)]
    commits = [json.loads(each) for each in messages if isinstance(each, str)]
    assert commits == [{"type": "commit", "id": 2}]
    assert messages[-2:] == ['{"type": "commit", "id": 2}', pcm(2000, 2500)]
    assert sum(lengths) == 2 * (2500 - 900)


def test_a_clear_is_repeated_with_the_audio_before_it_and_answered_once() -> None:
    """What the caller dropped stays dropped on the next server, and `Cleared` comes once."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 1000))
    stream.command("clear")
    assert stream.received(Cleared()) == [Cleared()]
    stream.closed(1006)
    stream.opened()

    assert [stream.take(), stream.take()] == [pcm(0, 1000), '{"type": "clear"}']
    assert stream.received(Cleared()) == []
    assert stream.received(Cleared()) == [Cleared()]


def test_settings_are_sent_to_the_next_server_first() -> None:
    """A new connection begins with the settings that `configure` changed, and their answer is not handed out."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.command("configure", vad_silence_ms=300)
    configured = parse('{"type": "configured", "language": "de", "hotwords": ["a"], "vad_silence_ms": 300}')
    assert configured is not None
    assert len(stream.received(configured)) == 1
    stream.closed(1012)

    (message,) = stream.opened().messages
    assert json.loads(message) == {
        "type": "configure", "language": "de", "hotwords": ["a"], "vad_silence_ms": 300, "endpointing": True
    }  # fmt: skip
    assert stream.received(configured) == []
    assert stream.delay(0) is None


def test_times_of_words_are_those_of_the_stream() -> None:
    """Words move with their final."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(pcm(0, 5000))
    stream.received(final(0, 2000))
    stream.closed(1006)
    stream.opened()
    word = Word(word="a", start_ms=100, end_ms=200, confidence=1)

    (event,) = finals(stream.received(final(100, 900).model_copy(update={"words": (word,)})))
    assert event.words == (Word(word="a", start_ms=2100, end_ms=2200, confidence=1),)


def test_audio_of_an_open_utterance_that_is_no_longer_kept_is_reported() -> None:
    """Speech longer than what is kept cannot be sent again whole, and the caller is told which part is missing."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    for second in range(KEPT_SECONDS + 5):
        assert stream.accepts(2 * RATE)
        stream.append(bytes(2 * RATE))
        while stream.delay(1000) is not None:
            stream.take()
        if second == 1:
            stream.received(Partial(segment_seq=0, text="well"))
    stream.closed(1006)

    assert stream.opened().lost == [AudioLost(start_ms=0, end_ms=5000)]


def test_silence_that_is_no_longer_kept_is_not_reported() -> None:
    """Audio in which nobody spoke is forgotten without a word."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    for _ in range(KEPT_SECONDS + 5):
        stream.append(bytes(2 * RATE))
        while stream.delay(1000) is not None:
            stream.take()
    stream.closed(1006)

    opening = stream.opened()
    assert opening.lost == []
    assert opening.resent_ms == KEPT_SECONDS * 1000


def test_audio_that_no_server_was_sent_is_never_forgotten() -> None:
    """Without a connection the stream takes 60 s and then no more."""
    stream = ResumableStream(RATE, 2)
    for _ in range(KEPT_SECONDS):
        assert stream.accepts(2 * RATE)
        stream.append(bytes(2 * RATE))

    assert not stream.accepts(2)


def test_a_stream_is_sent_at_most_20_s_ahead_of_real_time() -> None:
    """A file that is at hand at once is held back, so that what a server has not processed is still kept."""
    stream = ResumableStream(RATE, 2)
    stream.opened()
    stream.append(bytes(2 * RATE * 30))
    sent = 0
    while stream.delay(0) == 0:
        sent += len(stream.take())

    assert sent == 2 * RATE * 21
    assert stream.delay(0) == 1
    assert stream.delay(1) == 0
