"""Real human speech, and references/, through a real server with whisper and the model tiny.en."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soxr

from bench.common.word_error_rate import Score, rate, score
from protocol.pcm import SAMPLE_RATE
from protocol.stream_audio import StreamFormat
from tests.audio import REFERENCES, interleaved, reference, silence, text_of
from tests.client import Message, conversation, session
from tests.http_client import HTTP
from tests.server import ROOT, Server
from tests.stream_formats import encoded
from tests.weights import settings_of

pytest.importorskip("faster_whisper")

SHARED = ROOT.parent / "shared" / "speech"
NATIVE = StreamFormat(SAMPLE_RATE, "pcm_s16le")
SENTENCES = sorted(path.stem for path in REFERENCES.glob("*.wav"))


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what it says."""

    path: Path
    text: str

    def pcm(self) -> bytes:
        with wave.open(str(self.path)) as recording:
            pcm: bytes = recording.readframes(recording.getnframes())
            return pcm


def single_english_clips() -> list[Clip]:
    """The shared recordings of one English speaker without composed pauses, that have a text."""
    if not SHARED.exists():
        pytest.skip("shared speech is not here")
    entries = [json.loads(line) for line in (SHARED / "manifest.jsonl").read_text().splitlines()]
    return [
        Clip(SHARED / entry["file"], entry["text"])
        for entry in entries
        if entry["language"] == "en" and entry["text"] and "long" not in entry["tags"]
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("whisper-server"), settings_of("tiny.en")) as server:
        yield server


def _stream(server: Server, pcm: bytes, source: StreamFormat = NATIVE) -> list[Message]:
    data = _encoded(pcm + silence(1_000), source)
    with session(server.ws(language="en", sample_rate=source.sample_rate, codec=source.codec)) as client:
        client.send(data, 3201)
        client.commit()
        return client.until("final", reason="commit")


def _encoded(pcm: bytes, source: StreamFormat) -> bytes:
    if source == NATIVE:
        return pcm
    return encoded(soxr.resample(np.frombuffer(pcm, "<i2") / 32768, SAMPLE_RATE, source.sample_rate), source)


def _said(messages: list[Message]) -> str:
    return " ".join(message["text"] for message in messages if message["type"] == "final" and message["text"])


@pytest.mark.parametrize("way", ["streamed", "uploaded"])
def test_references_are_recognised(server: Server, way: str) -> None:
    """Of the words in references/ at most one in twenty is wrong, and two in a recording."""
    said = {
        name: _said(_stream(server, reference(name))) if way == "streamed" else _upload(server, _path(name))
        for name in SENTENCES
    }
    scores = [score(text_of(name), text) for name, text in said.items()]

    assert all(each.errors <= 2 for each in scores), said
    assert (rate(scores) or 0.0) <= 0.05


@pytest.mark.parametrize(
    "source", [StreamFormat(48_000, "pcm_f32le"), StreamFormat(8_000, "mulaw"), StreamFormat(8_000, "alaw")], ids=str
)
def test_references_are_recognised_in_the_formats_of_browsers_and_telephones(
    server: Server, source: StreamFormat
) -> None:
    """Of the words at most one in ten is wrong: a telephone's band is half as wide."""
    scores = [score(text_of(name), _said(_stream(server, reference(name), source))) for name in SENTENCES]

    assert (rate(scores) or 0.0) <= 0.1


def test_two_people_on_one_connection_are_recognised_each_for_itself(server: Server) -> None:
    """Each channel has the words that it has alone, and none of the other's, also in opposite phase."""
    left, right = sorted(single_english_clips(), key=lambda clip: clip.path.stat().st_size)[:2]
    inverted = (-np.frombuffer(left.pcm(), "<i2")).tobytes()
    alone = [_said(_stream(server, clip.pcm())) for clip in (left, right)]
    for other, words in ((right.pcm(), alone[1]), (inverted, alone[0])):
        with session(server.ws(language="en", channels=2)) as client:
            client.send(interleaved(left.pcm(), other), 3_203)
            client.command("finish")
            messages = client.until("finished")
        together = [[each for each in messages if each.get("channel") == channel] for channel in (0, 1)]

        assert [_said(each) for each in together] == [alone[0], words]
        assert all(words for words in alone)


@pytest.mark.slow
def test_unpaced_audio_has_the_words_of_paced_audio(server: Server) -> None:
    """With real recognition too: every sentence and every pause, at the speed of speech and as fast as it goes."""
    pcm = b"".join(reference(name) + silence(900) for name in SENTENCES[:4])
    fields = ("text", "start_ms", "end_ms", "reason", "segment_seq")

    def finals(source: StreamFormat, message: int, *, paced: bool) -> list[tuple[object, ...]]:
        data = _encoded(pcm, source)
        with session(server.ws(language="en", sample_rate=source.sample_rate, codec=source.codec)) as client:
            began = time.monotonic()
            for first in range(0, len(data), message):
                if paced:
                    due = began + first / len(data) * len(pcm) / 32_000
                    time.sleep(max(0.0, due - time.monotonic()))
                client.socket.send(data[first : first + message])
            client.command("finish")
            received = client.until("finished")
        return [tuple(each[field] for field in fields) for each in received if each["type"] == "final"]

    sources = (NATIVE, StreamFormat(8_000, "mulaw"), StreamFormat(48_000, "pcm_f32le"))
    with ThreadPoolExecutor(len(sources)) as pool:
        expected = list(pool.map(lambda source: finals(source, 1_280, paced=True), sources))
    for source, paced in zip(sources, expected, strict=True):
        assert len(paced) >= 4
        assert [finals(source, message, paced=False) for message in (333, 20_000, 200_000)] == [paced] * 3


def test_partials_appear_while_people_speak(server: Server) -> None:
    """The first partial comes before the speaker is done."""
    pcm = reference("wind")
    with session(server.ws()) as client:
        client.command("configure", endpointing=False)
        client.speak(pcm[: len(pcm) // 2])
        partial = client.until("partial")[-1]
        client.speak(pcm[len(pcm) // 2 :])
        client.commit()
        final = client.until("final")[-1]

    assert score(text_of("wind"), final["text"]).errors <= 2
    assert partial["text"].split()[0].lower() == final["text"].split()[0].lower()


@pytest.mark.parametrize("language", ["de", "zh-CN"])
def test_other_languages_are_refused_by_name(server: Server, language: str) -> None:
    """A language that is not English gets 1008 and 422 with its name."""
    uploaded = HTTP.post(f"{server.http}/v1/stt/transcribe?language={language}", files={"file": b"RIFF"})
    with conversation(server.ws(language=language)) as client:
        (error,), code = client.rest()

    assert code == error["code"] == 1008
    assert uploaded.status_code == 422
    for message in (error["message"], uploaded.json()["message"]):
        assert message == f"language {language} is not supported: use auto or en"


def test_real_speech_is_recognised(server: Server) -> None:
    """Of the words in single English clips at most one in twenty is wrong, streamed, and uploaded no more."""
    clips = single_english_clips()
    with ThreadPoolExecutor(2) as pool:
        streamed = list(pool.map(lambda clip: _said(_stream(server, clip.pcm())), clips))
        uploaded = list(pool.map(lambda clip: _upload(server, clip.path), clips))

    rates = {name: rate(_scores(clips, texts)) or 0.0 for name, texts in (("ws", streamed), ("http", uploaded))}
    assert all(each <= 0.05 for each in rates.values()), rates


def _upload(server: Server, path: Path) -> str:
    answer = HTTP.post(f"{server.http}/v1/stt/transcribe?language=en-US", files={"file": path.read_bytes()})
    text: str = answer.json()["text"]
    return text


def _path(name: str) -> Path:
    return REFERENCES / f"{name}.wav"


def _scores(clips: list[Clip], texts: list[str]) -> list[Score]:
    return [score(clip.text, text) for clip, text in zip(clips, texts, strict=True)]
