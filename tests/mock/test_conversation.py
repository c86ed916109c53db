"""Conversations on a real socket with a real server and the mock backend."""

from __future__ import annotations

import contextlib
import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.audio import reference, silence, text_of
from tests.client import Message, connect, conversation, refused, session
from tests.http_client import HTTP
from tests.server import Server, eventually


def _sentence_final(final: Message) -> dict[str, object]:
    """What must not depend on timing."""
    return {name: final[name] for name in ("segment_seq", "text", "start_ms", "end_ms", "reason", "language")}


def test_ready_says_what_was_agreed(mock_server: Server) -> None:
    """`ready` comes first, with every parameter as understood."""
    with conversation(mock_server.ws(call_id="a b/c", language="en-US", hotwords="Kyiv,  Łódź", unknown="x")) as client:
        ready = client.receive()

    assert ready.pop("created_at") > 1.7e9
    assert len(ready.pop("connection_id")) == 12
    assert ready == {
        "type": "ready",
        "call_id": "a b/c",
        "sample_rate": 16000,
        "codec": "pcm_s16le",
        "channels": 1,
        "frame_ms": 20,
        "partial_ms": 500,
        "language": "en-US",
        "backend": "mock",
        "hotwords_used": False,
        "vad_silence_ms": 500,
        "words": False,
        "vad_threshold": 300.0,
        "events": [],
    }


def test_a_client_may_choose_what_is_silence(mock_server: Server) -> None:
    """`ready` echoes the threshold and the silence, and the connection's utterances end by them."""
    pcm = reference("hello") + silence(400) + reference("train") + silence(1500)
    with conversation(mock_server.ws(vad_silence_ms=1000, vad_threshold=150.5)) as client:
        ready = client.receive()
        client.send(pcm)
        (late,) = client.finals(1)
    with session(mock_server.ws(vad_silence_ms=200)) as client:
        client.send(pcm)
        finals = client.finals(2)
    with session(mock_server.ws(vad_threshold=32768)) as client:
        client.send(pcm)
        client.commit()
        (below_threshold,) = client.finals(1)

    assert (ready["vad_silence_ms"], ready["vad_threshold"]) == (1000, 150.5)
    assert abs(late["end_ms"] - finals[1]["end_ms"]) < 100
    assert finals[1]["end_ms"] > finals[1]["start_ms"] > finals[0]["end_ms"]
    assert (below_threshold["text"], below_threshold["start_ms"]) == ("", below_threshold["end_ms"])


def test_levels_are_sent_to_clients_that_ask(mock_server: Server) -> None:
    """With `events=level` every 100 ms of audio has its loudness and the detector's decision; without, none has."""
    with session(mock_server.ws(events="level")) as client:
        client.speak(silence(1_000) + reference("hello") + silence(800))  # levels of a burst may be dropped
        client.command("finish")
        messages, _ = client.rest()
    levels = [message for message in messages if message["type"] == "level"]

    assert [level["end_ms"] for level in levels] == list(range(100, 1_000 + 2_320 + 800 + 1, 100))
    assert not any(level["voiced"] or level["rms"] for level in levels[:9])
    (final,) = (message for message in messages if message["type"] == "final")
    voiced = [level["end_ms"] for level in levels if level["voiced"]]
    assert voiced[0] - 100 <= final["start_ms"] < voiced[0]
    assert voiced[-1] - 100 < final["end_ms"] <= voiced[-1]
    assert all(level["rms"] > level["threshold"] / 5**0.5 for level in levels if level["voiced"])
    with session(mock_server.ws(events="speech")) as client:
        client.send(reference("hello"))
        client.command("finish")
        assert not [message for message in client.rest()[0] if message["type"] == "level"]


def test_speech_started_is_sent_to_clients_that_ask(mock_server: Server) -> None:
    """With `events=speech` each utterance is announced before its partials, with the final's start."""
    pcm = silence(300) + reference("hello") + silence(700) + reference("train") + silence(700)
    with conversation(mock_server.ws(events="speech")) as client:
        assert client.receive()["events"] == ["speech"]
        client.send(pcm)
        messages = client.until("final", segment_seq=0) + client.until("final", segment_seq=1)

    starts = [message["start_ms"] for message in messages if message["type"] == "speech_started"]
    assert starts == [message["start_ms"] for message in messages if message["type"] == "final"]
    assert messages[0]["type"] == "speech_started"
    assert set(messages[0]) == {"type", "call_id", "created_at", "start_ms"}


def test_partials_grow_into_the_final_while_the_speaker_speaks(mock_server: Server) -> None:
    """Every second of speech adds words, and the final has them all."""
    pcm, second = reference("weather"), 32_000
    with session(mock_server.ws(partial_ms=200)) as client:
        client.command("configure", endpointing=False)  # a busy machine may pause
        client.until("configured")
        partials = []
        began = time.time()
        for first in range(0, len(pcm) - second, second):
            client.speak(pcm[first : first + second])
            partials += client.until("partial")
        client.speak(pcm[first + second :])
        client.commit()
        *more, final = client.until("final")

    partials += more
    assert len(partials) >= 3
    assert all(text_of("weather").startswith(partial["text"]) for partial in partials)
    lengths = [len(partial["text"]) for partial in partials]
    assert lengths == sorted(set(lengths))
    assert final["text"] == text_of("weather")
    assert final["segment_duration_ms"] == final["end_ms"] - final["start_ms"]
    assert 0 <= final["first_token_ms"] <= 1000 * (partials[0]["created_at"] - began) + 1


def test_the_latency_of_a_final_counts_from_the_end_of_its_silence(mock_server: Server) -> None:
    """It is no more than what passed from the client's message to the final."""
    pcm, sent = reference("hello") + silence(700), []
    with session(mock_server.ws()) as client:
        for first in range(0, len(pcm), 640):
            sent.append(time.time())
            client.socket.send(pcm[first : first + 640])
            time.sleep(0.002)  # ten times real time
        final = client.until("final")[-1]

    silence_ended = sent[(final["end_ms"] + 500) // 20 - 1]
    assert final["reason"] == "endpoint"
    assert 0 <= final["latency_ms"] <= 1000 * (final["created_at"] - silence_ended) + 1


@pytest.mark.parametrize("chunk", [7, 640, 641, 3200, 65536, 262_144])
def test_the_cut_into_messages_changes_nothing(mock_server: Server, chunk: int) -> None:
    """The same bytes in messages of any length give the same finals."""
    pcm = reference("hello") + silence(700) + reference("train") + silence(700)
    finals = []
    for size in (chunk, 1600):
        with session(mock_server.ws()) as client:
            client.send(pcm, size)
            finals.append([_sentence_final(final) for final in client.finals(2)])

    assert finals[0] == finals[1]


def test_silence_before_speech_shifts_times_only(mock_server: Server) -> None:
    """Prepended whole frames of silence move start and end by their length."""
    finals = []
    for before in (0, 1_000):
        with session(mock_server.ws()) as client:
            client.send(silence(before) + reference("hello") + silence(700), 3200)
            finals += client.finals(1)

    assert finals[1]["start_ms"] - finals[0]["start_ms"] == 1_000
    assert finals[1]["end_ms"] - finals[0]["end_ms"] == 1_000
    assert finals[0]["text"] == finals[1]["text"] == text_of("hello")


def test_each_utterance_has_its_number(mock_server: Server) -> None:
    """segment_seq counts finals from 0, and a pause of 800 ms ends an utterance."""
    with session(mock_server.ws()) as client:
        client.send(reference("pauses_meeting") + silence(700), 3200)
        first, second = client.finals(2)

    assert [first["segment_seq"], second["segment_seq"]] == [0, 1]
    assert f"{first['text']} {second['text']}" in text_of("pauses_meeting")
    assert first["end_ms"] < second["start_ms"]


def test_every_commit_has_its_final_in_order(mock_server: Server) -> None:
    """A commit ends the utterance at once; one with nothing said gets an empty final."""
    with session(mock_server.ws()) as client:
        client.commit()
        client.send(reference("hello"), 3200)
        client.commit()
        client.commit()
        finals = client.finals(3)

    assert [final["reason"] for final in finals] == ["commit"] * 3
    assert [final["segment_seq"] for final in finals] == [0, 1, 2]
    assert [final["text"] for final in finals] == ["", text_of("hello"), ""]
    assert finals[0]["start_ms"] == finals[0]["end_ms"] == 0


def test_a_commit_after_the_endpoint_is_answered_too(mock_server: Server) -> None:
    """The endpoint's final comes first, then the commit's empty one."""
    with session(mock_server.ws()) as client:
        client.send(reference("hello") + silence(700), 3200)
        client.commit()
        finals = client.finals(2)

    assert [(final["reason"], final["text"]) for final in finals] == [("endpoint", text_of("hello")), ("commit", "")]


def test_speech_after_a_commit_is_a_new_utterance(mock_server: Server) -> None:
    """No sample belongs to two utterances."""
    hello = reference("hello")
    half = len(hello) // 4 * 2
    with session(mock_server.ws()) as client:
        client.send(hello[:half], 3200)
        client.commit()
        client.send(hello[half:] + silence(700), 3200)
        first, second = client.finals(2)

    assert first["reason"] == "commit"
    assert second["reason"] == "endpoint"
    assert first["end_ms"] <= second["start_ms"]


def test_silence_alone_says_nothing(mock_server: Server) -> None:
    """Audio that was never voiced is not decoded: only the commit is answered."""
    with session(mock_server.ws()) as client:
        client.send(silence(3_000), 3200)
        client.commit()
        messages = client.until("final")

    assert len(messages) == 1
    assert messages[0]["text"] == ""


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"sample_rate": "abc"}, "sample_rate"),
        ({"sample_rate": 7999}, "sample_rate"),
        ({"codec": "mulaw"}, "codec"),
        ({"call_id": ""}, "call_id"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"call_id": "a\nb"}, "call_id"),
        ({"codec": "mp3"}, "codec"),
        ({"channels": 3}, "channels"),
        ({"frame_ms": 9}, "frame_ms"),
        ({"partial_ms": "1e9"}, "partial_ms"),
        ({"language": "e"}, "language"),
        ({"hotwords": ",".join(["word"] * 101)}, "hotwords"),
        ({"hotwords": "x" * 65}, "hotwords"),
    ],
)
def test_a_bad_parameter_is_named(mock_server: Server, query: dict[str, object], word: str) -> None:
    """error 1008 names the parameter, then the close frame has the same code."""
    with conversation(mock_server.ws(**query)) as client:
        (error,), code = client.rest()

    assert code == error["code"] == 1008
    assert error["type"] == "error"
    assert word in error["message"]


def test_a_missing_parameter_is_named(mock_server: Server) -> None:
    """call_id and sample_rate are required."""
    with conversation(mock_server.ws().split("?", maxsplit=1)[0] + "?call_id=x") as client:
        (error,), code = client.rest()

    assert code == 1008
    assert error["message"] == "sample_rate: is required"
    assert error["call_id"] == "x"


def test_unknown_text_is_ignored(mock_server: Server) -> None:
    """Gateways send metadata, each in its own way: one `warning` and log line for the first, and the words come.

    All are counted in the log when the connection ends.
    """
    with session(mock_server.ws(call_id="gateway")) as client:
        for text in ("", "hello", "[]", "null", '{"event":"start"}', '{"type":', "{}" * 1000):
            client.socket.send(text)
        client.send(reference("hello"), 3200)
        client.commit()
        messages = client.until("final")

    warnings = [message for message in messages if message["type"] == "warning"]
    assert [warning["code"] for warning in warnings] == ["unknown_message"]
    assert messages[-1]["text"] == text_of("hello")
    lines = eventually(lambda: (found := _lines(mock_server, "gateway"))[-1]["event"] == "session_closed" and found)
    assert [line["code"] for line in lines if line["event"] == "client_warned"] == ["unknown_message"]
    assert lines[-1]["unknown_messages"] == 7


def _lines(server: Server, call_id: str) -> list[dict[str, Any]]:
    return [line for line in server.log() if line.get("call_id") == call_id]


def test_a_flood_of_unknown_text_ends_the_connection(mock_server: Server) -> None:
    """1008, after the final of the open utterance."""
    with session(mock_server.ws()) as client:
        client.send(reference("hello"), 3200)
        with contextlib.suppress(ConnectionClosed):  # it may be over before all is sent
            for _ in range(2000):
                client.socket.send("nonsense")
        messages, code = client.rest()

    *_, final, error = messages
    assert (final["reason"], final["text"]) == ("closing", text_of("hello"))
    assert (error["type"], error["code"], code) == ("error", 1008, 1008)
    assert "flood" in error["message"]


def test_a_message_over_256_kib_ends_the_connection(mock_server: Server) -> None:
    """256 KiB are taken, one byte more gets 1009."""
    with session(mock_server.ws()) as client:
        client.socket.send(bytes(262_144))
        client.commit()
        assert client.receive()["end_ms"] == 8192
        client.socket.send(bytes(262_145))
        (error,), code = client.rest()

    assert code == error["code"] == 1009


def test_a_message_that_is_too_long_takes_no_words_along(mock_server: Server) -> None:
    """What was said before it gets its final first."""
    with session(mock_server.ws()) as client:
        client.send(reference("hello"), 3200)
        client.socket.send(bytes(262_145))
        messages, code = client.rest()

    *_, final, error = messages
    assert (final["type"], final["reason"], final["text"]) == ("final", "closing", text_of("hello"))
    assert code == error["code"] == 1009


@pytest.mark.parametrize("origin", ["https://evil.example", "HTTPS://evil.example", "http://[::1", "null", ""])
def test_pages_of_other_origins_are_refused(mock_server: Server, origin: str) -> None:
    """Another page, or what is no origin at all, gets 403, on the socket before the upgrade."""
    handshake = refused(mock_server.ws(), origin=origin)
    uploaded = HTTP.post(f"{mock_server.http}/v1/stt/transcribe", headers={"origin": origin}, files={"file": b"RIFF"})

    assert handshake.status_code == uploaded.status_code == 403
    assert json.loads(handshake.body) == uploaded.json()
    assert "STT_ALLOWED_ORIGINS" in uploaded.json()["message"]


def test_an_unknown_path_is_not_found(mock_server: Server) -> None:
    """A handshake on it gets 404 with the documented body, and the log names the path, without an error."""
    handshake, _ = (refused(mock_server.ws().replace("/v1/stt/ws", "/v1/stt/w")) for _ in range(2))
    logged = [(line["status"], line["path"]) for line in mock_server.log() if line["event"] == "handshake_refused"]

    assert handshake.status_code == 404
    assert json.loads(handshake.body) == {"code": 404, "message": "there is no WebSocket at /v1/stt/w"}
    assert (404, "/v1/stt/w") in logged
    assert not [line for line in mock_server.log() if "without completing handshake" in line["event"]]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["a", "b"], "a"),
        (["openai-insecure-api-key.secret", "realtime"], "realtime"),
        (["OpenAI-Insecure-API-Key.secret", "realtime"], "realtime"),
        (["token", "secret"], "token"),
        (["stt-token.secret"], None),
    ],
)
def test_an_offered_subprotocol_is_answered(mock_server: Server, offered: list[str], chosen: str | None) -> None:
    """The first one that carries no key; a key is neither answered nor logged."""
    with connect(mock_server.ws(), subprotocols=offered) as socket:
        assert socket.subprotocol == chosen
    assert "secret" not in mock_server.output()


def test_finish(mock_server: Server) -> None:
    """The last words, `finished`, and 1000; what is sent behind it is ignored."""
    with session(mock_server.ws()) as client:
        client.send(reference("hello"), 3200)
        client.command("finish")
        client.socket.send("nonsense")
        messages, code = client.rest()

    *_, final, finished = messages
    assert (final["type"], final["reason"], final["text"]) == ("final", "finish", text_of("hello"))
    assert (finished["type"], code) == ("finished", 1000)


def test_clear_drops_the_open_utterance(mock_server: Server) -> None:
    """Nothing of it is sent any more, and times go on."""
    with session(mock_server.ws()) as client:
        client.send(reference("hello"), 3200)
        client.until("partial")
        client.command("clear")
        client.until("cleared")
        client.send(silence(320) + reference("weather"), 3200)
        client.commit()
        finals = client.finals(1)

    assert [final["text"] for final in finals] == [text_of("weather")]
    assert finals[0]["segment_seq"] == 0
    assert finals[0]["start_ms"] > len(reference("hello")) // 32


def test_configure_from_the_next_utterance(mock_server: Server) -> None:
    """`configured` tells the settings in effect; a value that cannot be used is a `warning` and no change."""
    with session(mock_server.ws()) as client:
        client.command("configure", language="de", vad_silence_ms=900, hotwords=["a"])
        configured = client.receive()
        client.command("configure", vad_silence_ms=9)
        warning = client.receive()
        client.command("configure", endpointing=False)
        unchanged = client.receive()
        client.send(reference("hello") + silence(3000), 3200)
        client.command("commit", id="mine")
        final = client.finals(1)[0]

    settings = {name: configured[name] for name in ("language", "hotwords", "vad_silence_ms", "endpointing")}
    assert settings == {"language": "de", "hotwords": ["a"], "vad_silence_ms": 900, "endpointing": True}
    assert (warning["type"], warning["code"]) == ("warning", "configure_refused")
    assert "vad_silence_ms" in warning["message"]
    assert (unchanged["vad_silence_ms"], unchanged["endpointing"]) == (900, False)
    assert (final["reason"], final["id"], final["language"]) == ("commit", "mine", "de")


def test_speech_events_come_in_order(mock_server: Server) -> None:
    """`speech_stopped` comes as the endpoint is known, before the final, with its times."""
    with session(mock_server.ws(events="speech")) as client:
        client.send(reference("hello") + silence(700), 3200)
        messages = client.until("final")

    kinds = [message["type"] for message in messages if message["type"] != "partial"]
    started, stopped, final = (message for message in messages if message["type"] != "partial")
    assert kinds == ["speech_started", "speech_stopped", "final"]
    assert (started["start_ms"], stopped["end_ms"]) == (final["start_ms"], final["end_ms"])


def test_partials_tell_what_is_stable(mock_server: Server) -> None:
    """Every partial begins with what was stable before."""
    with session(mock_server.ws(partial_ms=100)) as client:
        client.speak(reference("weather"))
        client.commit()
        partials = [message for message in client.until("final") if message["type"] == "partial"]

    for before, after in pairwise(partials):
        assert after["text"].startswith(before["text"][: before["stable_chars"]])
        assert after["stable_chars"] >= before["stable_chars"]
    assert partials[-1]["stable_chars"] > 0


@pytest.mark.parametrize("origin", ["file://", "capacitor://localhost", "tauri://localhost"])
def test_apps_are_let_in(mock_server: Server, origin: str) -> None:
    """Origins of apps and devices are no web pages."""
    with conversation(mock_server.ws(), origin=origin) as client:
        assert client.receive()["type"] == "ready"


def test_the_servers_own_pages_are_let_in(mock_server: Server) -> None:
    """Same origin."""
    with conversation(mock_server.ws(), origin=mock_server.http) as client:
        assert client.receive()["type"] == "ready"


@pytest.mark.parametrize("allowed", ["https://a.example, https://app.example", "*"])
def test_pages_named_in_the_settings_are_let_in(folder: Path, allowed: str) -> None:
    """STT_ALLOWED_ORIGINS names origins, or all."""
    with (
        Server(folder, {"STT_BACKEND": "mock", "STT_ALLOWED_ORIGINS": allowed}) as server,
        conversation(server.ws(), origin="https://app.example") as client,
    ):
        assert client.receive()["type"] == "ready"


def test_what_the_client_sends_in_the_end_is_cancelled_by_its_close(mock_server: Server) -> None:
    """A client's own close cancels the open utterance and counts as its code."""
    before = mock_server.metric('stt_closes_total{by="client",code="1000"}')
    with session(mock_server.ws()) as client:
        client.send(reference("hello"), 3200)

    eventually(lambda: mock_server.metric('stt_closes_total{by="client",code="1000"}') == before + 1)
    eventually(lambda: mock_server.metric("stt_sessions") == 0)


@pytest.mark.slow
def test_a_thousand_connections_leave_nothing_behind(mock_server: Server) -> None:
    """Connects, vanishings in mid-speech and reconnects leave no thread, task, session or open file."""
    hello = reference("hello")
    with session(mock_server.ws()):
        pass
    eventually(lambda: mock_server.metric("stt_sessions") == 0)
    threads, files = mock_server.threads(), mock_server.descriptors()
    lots = random.Random(7)

    for _ in range(1000):
        with session(mock_server.ws()) as client:
            client.send(hello[: lots.choice((0, 640, 6400, 32_000))], 6400)
            if lots.random() < 0.5:
                client.vanish()

    eventually(lambda: mock_server.metric("stt_sessions") == 0)
    eventually(lambda: mock_server.threads() <= threads)
    eventually(lambda: mock_server.descriptors() <= files + 1)


def test_nothing_is_read_after_the_close(mock_server: Server) -> None:
    """The socket is closed for good after an error."""
    with conversation(mock_server.ws(channels=3)) as client:
        client.rest()
        with pytest.raises(ConnectionClosed):
            client.commit()


def test_a_talker_below_the_threshold_is_warned_once(mock_server: Server) -> None:
    """Speech that is too quiet to be voiced is answered with one warning that says how loud it is."""
    quiet = (np.frombuffer(reference("weather"), "<i2") // 32).astype("<i2").tobytes()
    with session(mock_server.ws()) as client:
        client.send(quiet * 6, 3200)
        client.commit()
        *before, final = client.until("final")

    (warning,) = before
    assert (warning["type"], warning["code"]) == ("warning", "too_quiet")
    assert "only 300 counts as voice" in warning["message"]
    assert final["text"] == ""
