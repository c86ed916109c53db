"""The engine that `stt transcribe` runs itself, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.audio import interleaved, reference, silence
from tests.protocol.audio_files import wav
from tests.server import ROOT
from tests.stt_client.terminal import environment

PROGRAM = """
import json, pathlib, sys
from stt_client.cli.local_engine import LocalEngine
positions = []
with LocalEngine(lambda line: None) as engine:
    transcript = engine.transcribe(
        pathlib.Path(sys.argv[1]), language="auto", hotwords=(), words=False, channel_mode="split",
        progress=positions.append,
    )
print(json.dumps([positions, [[segment.channel, segment.text] for segment in transcript.segments]]))
"""


def test_channels_and_progress(tmp_path: Path) -> None:
    """With `split` segments have their channels, and progress comes every 10 s of the file."""
    both = interleaved(reference("hello") + silence(8_000), reference("weather") + silence(8_000))
    file = tmp_path / "two.wav"
    file.write_bytes(wav(np.frombuffer(both, "<i2").reshape(-1, 2).T))
    settings = environment({"STT_BACKEND": "mock"})
    command = [sys.executable, "-c", PROGRAM, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True)
    positions, segments = json.loads(done.stdout)

    assert [round(each) for each in positions] == [10]
    assert {channel for channel, _ in segments} == {0, 1}
