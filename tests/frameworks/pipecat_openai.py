"""Pipecat's speech-to-text services of OpenAI: pipecat_openai.py SERVER KEY WAV MODE; prints a JSON line for each text.

Modes: `rest`; `server_vad` and `own_vad` are Realtime with turns found by the server and by Pipecat. Runs in the
environment of `make frameworks`.
"""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import sys
import wave

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService
from pipecat.services.stt_service import STTService
from pipecat.workers.runner import WorkerRunner

FRAME_MS = 20
TAIL_SECONDS = 1.5


class Printer(FrameProcessor):
    """Prints texts; `done` is set with the first final."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            print(json.dumps({"event": type(frame).__name__, "text": frame.text}))
        if isinstance(frame, TranscriptionFrame):
            self.done.set()
        await self.push_frame(frame, direction)


def service_of(server: str, key: str, mode: str) -> STTService:
    if mode == "rest":
        return OpenAISTTService(api_key=key, base_url=f"{server}/v1")
    address = server.replace("http", "ws", 1) + "/v1/realtime"
    if mode == "own_vad":
        return OpenAIRealtimeSTTService(api_key=key, base_url=address)
    return OpenAIRealtimeSTTService(
        api_key=key,
        base_url=address,
        turn_detection={"type": "server_vad"},
        settings=OpenAIRealtimeSTTService.Settings(model="gpt-4o-transcribe"),
    )


async def speak(worker: PipelineWorker, path: str, rate: int, pcm: bytes, *, tells_turns: bool) -> None:
    size = 2 * rate * FRAME_MS // 1000
    spoken = len(pcm) - 2 * int(rate * (TAIL_SECONDS - 0.3))
    await asyncio.sleep(1)  # until the service is connected
    if tells_turns:
        await worker.queue_frame(VADUserStartedSpeakingFrame())
    for first in range(0, len(pcm), size):
        await worker.queue_frame(InputAudioRawFrame(pcm[first : first + size], rate, 1))
        if tells_turns and first < spoken <= first + size:
            await worker.queue_frame(VADUserStoppedSpeakingFrame())
        await asyncio.sleep(FRAME_MS / 1000)


async def main(server: str, key: str, path: str, mode: str) -> None:
    with wave.open(path) as recording:
        rate = recording.getframerate()
        pcm = recording.readframes(recording.getnframes()) + bytes(2 * int(rate * TAIL_SECONDS))
    printer = Printer()
    worker = PipelineWorker(
        Pipeline([service_of(server, key, mode), printer]),
        params=PipelineParams(audio_in_sample_rate=rate),
        enable_rtvi=False,
        idle_timeout_secs=None,
    )

    async def converse() -> None:
        await speak(worker, path, rate, pcm, tells_turns=mode != "server_vad")
        await printer.done.wait()  # the test that runs this program ends it
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), converse())


asyncio.run(main(*sys.argv[1:5]))
