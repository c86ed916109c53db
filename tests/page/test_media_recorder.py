"""Chromium's own MediaRecorder, whose WebM pages are sent to a real server as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.audio import text_of
from tests.page.conftest import OpenBrowser
from tests.page.test_page import words
from tests.server import Server

RECORD = """
(async () => {
  const source = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  globalThis.microphone = await navigator.mediaDevices.getUserMedia({audio: source});
  globalThis.messages = [], globalThis.sizes = [];
  globalThis.finals = () => messages.filter((each) => each.type === "final");
  const query = "call_id=recorder&codec=opus&sample_rate=48000";
  globalThis.socket = new WebSocket(`ws://${location.host}/v1/stt/ws?${query}`);
  socket.onmessage = ({data}) => messages.push(JSON.parse(data));
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onclose = reject; });
  globalThis.record = (slice) => {
    globalThis.recorder = new MediaRecorder(microphone, {mimeType: "audio/webm;codecs=opus"});
    recorder.ondataavailable = ({data}) => { sizes.push(data.size); socket.send(data); };
    recorder.start(slice);
  };
  globalThis.stop = () => new Promise((resolve) => { recorder.onstop = resolve; recorder.stop(); });
})()
"""
FINISH = "stop().then(() => socket.send(JSON.stringify({type: 'finish'})))"
SPOKEN = [" ".join(words(text_of(name))) for name in ("weather", "hello")]


def said(messages: list[dict[str, Any]]) -> list[str]:
    return [" ".join(words(each["text"])) for each in messages if each["type"] == "final" and each["text"]]


@pytest.mark.parametrize("slice_ms", [20, 250, 1_000])
def test_pages_of_every_length(whisper_server: Server, open_browser: OpenBrowser, speech: Path, slice_ms: int) -> None:
    """What is said comes as two finals at their times, without a warning, however seldom the browser gives a page."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    browser.evaluate(RECORD)
    browser.evaluate(f"record({slice_ms}), 0")
    browser.wait_for("finals().length === 2 || socket.readyState > 1")
    browser.evaluate(FINISH)
    browser.wait_for("messages.some((each) => each.type === 'finished')")

    messages = browser.evaluate("messages")
    first, second = (each for each in messages if each["type"] == "final" and each["text"])
    assert messages[-1]["type"] == "finished"
    assert said(messages) == SPOKEN
    assert [first["reason"], second["reason"]] == ["endpoint", "endpoint"]
    assert second["start_ms"] - first["end_ms"] == pytest.approx(2_240, abs=100)
    assert [each for each in messages if each["type"] == "warning"] == []
    assert len(browser.evaluate("sizes")) > 5


def test_one_recorder_after_another(whisper_server: Server, open_browser: OpenBrowser, speech: Path) -> None:
    """A page that stops its recorder and starts a new one, whose stream has a header of its own, on one socket."""
    browser = open_browser(f"{whisper_server.http}/", speech)
    browser.evaluate(RECORD)
    browser.evaluate("record(250), 0")
    browser.wait_for("finals().length === 1 || socket.readyState > 1")
    browser.evaluate("stop().then(() => record(250))")
    browser.wait_for("finals().length === 2 || socket.readyState > 1")
    browser.evaluate(FINISH)
    browser.wait_for("messages.some((each) => each.type === 'finished')")

    messages = browser.evaluate("messages")
    assert said(messages) == SPOKEN
    assert [each for each in messages if each["type"] == "warning"] == []
