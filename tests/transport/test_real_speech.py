"""Real human speech, and references/, through a real server with the embedded engine."""

from __future__ import annotations

import json
import os
import signal
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from backends.base import StreamOptions
from backends.pocketsphinx.backend import PocketsphinxBackend
from backends.pocketsphinx.options import PocketsphinxOptions
from bench.common.word_error_rate import rate, score
from protocol.pcm import to_signal
from tests.audio import REFERENCES, reference, silence, text_of
from tests.client import Message, conversation, session
from tests.processes import runs
from tests.server import ROOT, Server, eventually

pytest.importorskip("pocketsphinx")

SHARED = ROOT.parent / "shared" / "speech"
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
    with Server(tmp_path_factory.mktemp("pocketsphinx-server"), {"STT_BACKEND": "pocketsphinx"}) as server:
        yield server


def _stream(server: Server, pcm: bytes) -> list[Message]:
    with session(server.ws(language="en")) as client:
        client.send(pcm + silence(1_000), 3200)
        client.commit()
        return client.until("final", reason="commit")


def _said(messages: list[Message]) -> str:
    return " ".join(message["text"] for message in messages if message["type"] == "final" and message["text"])


@pytest.mark.parametrize("name", SENTENCES)
def test_references_are_recognised(server: Server, name: str) -> None:
    """Every sentence in references/, streamed and uploaded, word for word."""
    uploaded = httpx.post(
        f"{server.http}/v1/stt/transcribe?language=en-US",
        files={"file": (REFERENCES / f"{name}.wav").read_bytes()},
        timeout=30,
    ).json()

    assert _said(_stream(server, reference(name))) == text_of(name)
    assert uploaded["text"] == text_of(name)


def test_words_have_times_in_the_connections_audio(server: Server) -> None:
    """Words are ordered, lie within their utterance (and its pre-roll), and have a confidence."""
    before = 700
    final = next(
        message for message in _stream(server, silence(before) + reference("weather")) if message["type"] == "final"
    )

    assert [word["word"] for word in final["words"]] == text_of("weather").split()
    edges = [word[edge] for word in final["words"] for edge in ("start_ms", "end_ms")]
    assert edges == sorted(edges)
    assert edges[0] >= before
    assert edges[-1] <= final["end_ms"] + 200
    assert all(0 <= word["confidence"] <= 1 for word in final["words"])
    assert final["language"] == "en"


def test_partials_appear_while_people_speak(server: Server) -> None:
    """At the speed of speech the first partial comes well before the speaker is done."""
    with session(server.ws()) as client:
        client.speak(reference("wind"))
        client.commit()
        *partials, final = client.until("final")

    assert len(partials) >= 4
    assert final["created_at"] - partials[0]["created_at"] > 2
    assert final["text"] == text_of("wind")


@pytest.mark.parametrize("language", ["de", "zh-CN"])
def test_other_languages_are_refused_by_name(server: Server, language: str) -> None:
    """A language that is not English gets 1008 and 422 with its name."""
    uploaded = httpx.post(f"{server.http}/v1/stt/transcribe?language={language}", files={"file": b"RIFF"}, timeout=30)
    with conversation(server.ws(language=language)) as client:
        (error,), code = client.rest()

    assert code == error["code"] == 1008
    assert uploaded.status_code == 422
    for message in (error["message"], uploaded.json()["message"]):
        assert message == f"language {language} is not supported: use auto or en"


def test_real_speech_is_as_good_as_the_bare_engine(server: Server) -> None:
    """Word error rate over single English clips, streamed and uploaded: at most the bare second pass's + 0.02."""
    clips = single_english_clips()
    with ThreadPoolExecutor(2) as pool:
        streamed = list(pool.map(lambda clip: _said(_stream(server, clip.pcm())), clips))
        uploaded = list(pool.map(lambda clip: _upload(server, clip.path), clips))
        bare = _bare(clips)

    rates = {name: _rate(clips, texts) for name, texts in (("bare", bare), ("ws", streamed), ("http", uploaded))}
    assert rates["bare"] < 0.3
    assert rates["ws"] <= rates["bare"] + 0.02, rates
    assert rates["http"] <= rates["bare"] + 0.02, rates


def _upload(server: Server, path: Path) -> str:
    answer = httpx.post(f"{server.http}/v1/stt/transcribe", files={"file": path.read_bytes()}, timeout=60)
    text: str = answer.json()["text"]
    return text


def _bare(clips: list[Clip]) -> list[str]:
    """The engine's second pass over each whole clip, without a server, voice activity or segments."""
    backend = PocketsphinxBackend(PocketsphinxOptions(workers=2, streams_per_worker=1))
    backend.start()
    try:
        futures = []
        for clip in clips:
            stream = backend.stream(StreamOptions(live=False))
            signal_ = to_signal(np.frombuffer(clip.pcm(), "<i2"))
            stream.push(signal_)
            futures.append(stream.finish(len(signal_)))
        return [future.result(60).text for future in futures]
    finally:
        backend.close()


def _rate(clips: list[Clip], texts: list[str]) -> float:
    return rate(score(clip.text, text) for clip, text in zip(clips, texts, strict=True)) or 0.0


def test_killing_every_worker_loses_nothing_but_time(server: Server) -> None:
    """SIGKILL to all worker processes in mid-speech: the final is the same."""
    pcm = reference("wind")
    half = len(pcm) // 4 * 2
    with session(server.ws()) as client:
        client.speak(pcm[:half])
        client.until("partial")
        workers = server.processes()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        client.speak(pcm[half:])
        client.commit()
        final = client.until("final")[-1]
    eventually(lambda: server.answers() == 200, 30)

    assert workers
    assert final["text"] == text_of("wind")


def test_no_process_outlives_the_server(tmp_path: Path) -> None:
    """Neither a stop nor SIGKILL leaves a worker behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        (tmp_path / number.name).mkdir()
        with Server(tmp_path / number.name, {"STT_BACKEND": "pocketsphinx"}) as server:
            eventually(lambda: len(server.processes()) > 1)  # the template and a worker
            below = server.processes()
            server.signal(number)
            server.process.wait(10)
            eventually(lambda: not any(map(runs, below)))  # noqa: B023
