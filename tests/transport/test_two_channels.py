"""Sessions of two channels on a real server: two speakers on one socket, each as if alone."""

from __future__ import annotations

import json
import signal
import time
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soxr

from protocol.pcm import SAMPLE_RATE
from protocol.stream_audio import StreamFormat
from tests.audio import interleaved, reference, silence, text_of
from tests.client import Message, conversation, refused, session
from tests.http_client import HTTP
from tests.server import Server, eventually
from tests.stream_formats import encoded, opus_file, opus_packets

CALLER = silence(300) + reference("hello") + silence(700) + reference("train") + silence(700)
AGENT = silence(1_700) + reference("price") + silence(900)
FORMATS = [StreamFormat(SAMPLE_RATE, "pcm_s16le"), StreamFormat(48_000, "pcm_f32le"), StreamFormat(8_000, "mulaw")]


def said(messages: list[Message], channel: int | None = None) -> list[dict[str, object]]:
    """What must not depend on timing of a channel's finals; None: of messages that name no channel."""
    names = ("segment_seq", "text", "start_ms", "end_ms", "reason", "language")
    return [
        {name: message[name] for name in names}
        for message in messages
        if message["type"] == "final" and message.get("channel") == channel
    ]


def transcribed(server: Server, data: bytes, sizes: list[int], **query: object) -> list[Message]:
    """All messages of a session that is sent `data` in messages of these sizes, again and again, and then finished."""
    with session(server.ws(**query)) as client:
        sent = 0
        for number in count():
            if sent >= len(data):
                break
            size = sizes[number % len(sizes)]
            client.socket.send(data[sent : sent + size])
            sent += size
        client.command("finish")
        messages, code = client.rest()
    assert code == 1000
    return messages


def as_sent(source: StreamFormat, *channels: bytes) -> bytes:
    """Recordings, PCM16LE at 16 kHz, as a client sends them in this format."""
    length = max(map(len, channels))
    signals = [np.frombuffer(each.ljust(length, b"\0"), "<i2") / 32768 for each in channels]
    resampled = [soxr.resample(signal, SAMPLE_RATE, source.sample_rate) for signal in signals]
    return encoded(np.column_stack(resampled).ravel(), source)


@pytest.mark.parametrize("source", FORMATS, ids=str)
@pytest.mark.parametrize("sizes", [[3_200], [1, 2, 641, 7, 4_099]], ids=str)
def test_each_channel_is_transcribed_as_if_alone(mock_server: Server, source: StreamFormat, sizes: list[int]) -> None:
    """Texts, times, numbers and reasons are those of the channel sent alone, wherever its samples are cut in two."""
    query = {"sample_rate": source.sample_rate, "codec": source.codec}
    alone = [said(transcribed(mock_server, as_sent(source, each), [3_200], **query)) for each in (CALLER, AGENT)]
    together = transcribed(mock_server, as_sent(source, CALLER, AGENT), sizes, channels=2, **query)

    caller, agent = said(together, 0), said(together, 1)
    assert [caller, agent] == alone
    assert [final["text"] for final in caller] == [text_of("hello"), text_of("train")]
    assert [final["text"] for final in agent] == [text_of("price")]


@pytest.mark.parametrize("container", ["packets", "ogg", "webm"])
def test_two_channels_of_opus(mock_server: Server, container: Literal["packets", "ogg", "webm"]) -> None:
    """Each channel has its own words, at its own times, however the stereo stream is packed."""
    both = np.frombuffer(interleaved(CALLER, AGENT), "<i2").reshape(-1, 2)
    pcm = np.rint(soxr.resample(both / 32768, SAMPLE_RATE, 48_000) * 32767).astype(np.int16)
    if container == "packets":
        messages = opus_packets(pcm, channels=2)
    else:
        file = opus_file(pcm, container)
        messages = [file[first : first + 1_000] for first in range(0, len(file), 1_000)]
    with session(mock_server.ws(channels=2, sample_rate=48_000, codec="opus")) as client:
        for message in messages:
            client.socket.send(message)
        client.command("finish")
        received, code = client.rest()

    expected = transcribed(mock_server, interleaved(CALLER, AGENT), [3_200], channels=2)
    assert code == 1000
    assert [message["type"] for message in received if message["type"] == "warning"] == []
    for channel, names in ((0, ["hello", "train"]), (1, ["price"])):
        finals, exact = said(received, channel), said(expected, channel)
        assert [final["text"] for final in finals] == list(map(text_of, names))
        for final, other in zip(finals, exact, strict=True):
            assert (final["segment_seq"], final["reason"]) == (other["segment_seq"], other["reason"])
            assert [final["start_ms"], final["end_ms"]] == pytest.approx([other["start_ms"], other["end_ms"]], abs=60)


def test_a_channel_in_opposite_phase_is_transcribed(mock_server: Server) -> None:
    """Channels are never mixed, so that none cancels the other."""
    inverted = (-np.frombuffer(reference("hello"), "<i2")).tobytes()
    messages = transcribed(mock_server, interleaved(reference("hello"), inverted), [3_200], channels=2)

    assert said(messages, 0)[0]["text"] == said(messages, 1)[0]["text"] == text_of("hello")


def test_every_message_about_a_channel_names_it(mock_server: Server) -> None:
    """Those about the session do not, and come once; with one channel nothing names any."""
    audio = interleaved(reference("hello") + silence(700), silence(100))
    with conversation(mock_server.ws(channels=2, events="speech,level")) as client:
        ready = client.receive()
        client.speak(audio[: len(audio) // 2], 1_280, channels=2)
        client.command("configure", vad_silence_ms=400)
        client.speak(audio[len(audio) // 2 :], 1_280, channels=2)
        client.command("clear")
        client.socket.send("what is this?")
        client.command("finish")
        messages, _ = client.rest()
    (alone,) = {message.get("channel") for message in transcribed(mock_server, reference("hello"), [3_200])}

    assert ready["channels"] == 2
    named = {(message["type"], message.get("channel")) for message in messages}
    both = {("level", 0), ("level", 1)}
    once = {("configured", None), ("cleared", None), ("warning", None), ("finished", None)}
    assert named == both | once | {(kind, 0) for kind in ("speech_started", "partial", "speech_stopped", "final")}
    for kind, _ in once:
        assert len([message for message in messages if message["type"] == kind]) == 1
    levels = [
        [each["end_ms"] for each in messages if (each["type"], each.get("channel")) == ("level", n)] for n in (0, 1)
    ]
    assert levels[0] == levels[1] == list(range(100, 100 * len(levels[0]) + 1, 100))
    assert not any(each["voiced"] for each in messages if (each["type"], each.get("channel")) == ("level", 1))
    assert alone is None


def test_a_commit_ends_both_channels(mock_server: Server) -> None:
    """One final a channel with its id answers it, empty where nobody spoke; numbers count for each channel alone."""
    with session(mock_server.ws(channels=2)) as client:
        client.command("configure", endpointing=False)
        client.send(interleaved(reference("hello"), silence(100)), 4_001)
        client.command("commit", id="first")
        finals = client.finals(2)
        client.send(interleaved(silence(100) + reference("train"), reference("price")), 4_001)
        client.command("commit", id=2)
        finals += client.finals(2)

    answers = {(final["channel"], final["segment_seq"]): (final["id"], final["text"]) for final in finals}
    assert all(final["reason"] == "commit" for final in finals)
    assert answers == {
        (0, 0): ("first", text_of("hello")),
        (1, 0): ("first", ""),
        (0, 1): (2, text_of("train")),
        (1, 1): (2, text_of("price")),
    }


def test_a_client_that_mutes_gets_the_finals_of_both(mock_server: Server) -> None:
    """Audio that stops stops for both channels: each open utterance ends, the other channel has none."""
    with session(mock_server.ws(channels=2)) as client:
        client.send(interleaved(reference("hello"), reference("price")[: len(reference("hello"))]))
        both = client.finals(2)
        client.send(interleaved(silence(100), reference("train")))
        one = client.finals(1)
        client.commit()
        committed = client.finals(2)

    assert {(final["channel"], final["reason"]) for final in both} == {(0, "stalled"), (1, "stalled")}
    assert [(final["channel"], final["reason"], final["text"]) for final in one] == [(1, "stalled", text_of("train"))]
    assert [final["segment_seq"] for final in sorted(committed, key=lambda final: final["channel"])] == [1, 2]


def test_two_channels_count_as_two_sessions(folder: Path) -> None:
    """In the limit, in the gauges and in /health; with one place left one channel is let in. One thread works."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_MAX_SESSIONS": "3"}) as server:
        with session(server.ws()) as client:
            client.commit()
            client.finals(1)
            threads = server.threads()
        eventually(lambda: server.metric("stt_sessions") == 0)
        with session(server.ws(channels=2)) as client:
            client.commit()
            client.finals(2)
            eventually(lambda: server.threads() <= threads)
            second = refused(server.ws(channels=2))
            counted = server.metric("stt_sessions"), HTTP.get(f"{server.http}/health").json()["sessions"]
            ready = HTTP.get(f"{server.http}/health/ready").status_code
            with session(server.ws()):
                saturation = server.metric("stt_saturation")
            third = refused(server.ws(channels=2))
        eventually(lambda: server.metric("stt_sessions") == 0)

    assert second.status_code == third.status_code == 503
    assert json.loads(second.body)["message"] == "full: 2 of 3 sessions are open, and this one counts as 2"
    assert (counted, ready, saturation) == ((2, 2), 200, 1)


def test_a_drain_gives_both_channels_their_last_words(folder: Path) -> None:
    """Each channel's open utterance gets its final with reason `drain`."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server, session(server.ws(channels=2)) as client:
        client.send(interleaved(reference("hello")[:48_000], reference("train")[:48_000]), 6_400)
        channels = {client.until("partial")[-1]["channel"]}
        while channels != {0, 1}:
            channels.add(client.until("partial")[-1]["channel"])
        server.signal(signal.SIGTERM)
        messages, code = client.rest()
        server.ended()

    finals = {final["channel"]: final for final in messages if final["type"] == "final"}
    assert code == 1012
    assert {final["reason"] for final in finals.values()} == {"drain"}
    assert text_of("hello").startswith(finals[0]["text"] or "nothing")
    assert text_of("train").startswith(finals[1]["text"] or "nothing")


def test_dropped_audio_is_missing_in_both_channels(folder: Path) -> None:
    """One `warning` has the span, and the next final of each channel has `dropped_ms`; metrics count both channels."""
    stuck = interleaved(reference("hello") + silence(700), silence(100))
    with Server.with_fault(folder, "stuck", {"STT_IN_QUEUE_SECONDS": "3"}) as server:
        with session(server.ws(channels=2)) as client:
            client.send(2 * stuck, 6_400)
            eventually(lambda: server.metric('stt_audio_seconds_total{source="websocket"}') >= 2 * 5.6)
            time.sleep(2)  # the client was ahead of real time: its socket has to be empty for 1 s
            client.speak(bytes(5 * 64_000), 6_400, channels=2)
            eventually(lambda: server.metric("stt_dropped_audio_seconds_total") > 2)
            client.command("commit", id="last")
            server.release()
            messages = client.until("final", id="last")
            messages += client.until("final", id="last")
        dropped = server.metric("stt_dropped_audio_seconds_total")

    finals = [message for message in messages if message["type"] == "final" and message.get("id") == "last"]
    warnings = [message for message in messages if message["type"] == "warning"]
    assert {final["channel"] for final in finals} == {0, 1}
    assert [warning["code"] for warning in warnings] == ["audio_dropped"]
    assert finals[0]["dropped_ms"] == finals[1]["dropped_ms"] > 1_000
    assert dropped == pytest.approx(2 * finals[0]["dropped_ms"] / 1000, abs=0.01)
