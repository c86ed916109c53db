"""LiveKit agents' speech-to-text of OpenAI: livekit_openai.py SERVER KEY WAV MODE; prints a JSON line for each text.

Modes: `rest`; `server_vad` and `own_vad` are Realtime with turns found by the server and by LiveKit; `twice` is two
streams on one pooled socket. Runs in the environment of `make frameworks`.
"""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import sys
import wave
from collections.abc import Iterator

from livekit import rtc
from livekit.agents import stt, utils
from livekit.plugins import openai

FRAME_MS = 20
TAIL_SECONDS = 1.5


def frames(path: str) -> Iterator[rtc.AudioFrame]:
    """The recording, with silence behind it."""
    with wave.open(path) as recording:
        rate = recording.getframerate()
        pcm = recording.readframes(recording.getnframes()) + bytes(2 * int(rate * TAIL_SECONDS))
    samples = rate * FRAME_MS // 1000
    for first in range(0, len(pcm) - 2 * samples + 1, 2 * samples):
        yield rtc.AudioFrame(pcm[first : first + 2 * samples], rate, 1, samples)


def show(event: stt.SpeechEvent) -> None:
    for alternative in event.alternatives[:1]:
        print(json.dumps({"event": event.type.name, "text": alternative.text}))


async def speak(stream: stt.RecognizeStream, path: str) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for frame in frames(path):
        stream.push_frame(frame)
        due += FRAME_MS / 1000
        await asyncio.sleep(max(0, due - loop.time()))


async def listen(recogniser: openai.STT, path: str) -> None:
    """One stream up to its first final."""
    stream = recogniser.stream()
    speaker = asyncio.create_task(speak(stream, path))
    async for event in stream:  # the test that runs this program ends it
        show(event)
        if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
            break
    await speaker
    await stream.aclose()


async def main(server: str, key: str, path: str, mode: str) -> None:
    model = "gpt-realtime-whisper" if mode == "own_vad" else "gpt-4o-mini-transcribe"
    async with utils.http_context.open():
        recogniser = openai.STT(model=model, base_url=f"{server}/v1", api_key=key, use_realtime=mode != "rest")
        if mode == "rest":
            show(await recogniser.recognize(list(frames(path))))
        for _ in range({"rest": 0, "twice": 2}.get(mode, 1)):
            await listen(recogniser, path)
        await recogniser.aclose()


asyncio.run(main(*sys.argv[1:5]))
