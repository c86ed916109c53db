"""Capacity of the qwen3 engine on this machine, with a model of the real size and random weights.

    python -m bench.engine qwen3-capacity --shape 1.7b           # a CUDA machine
    OMP_NUM_THREADS=1 python -m bench.engine qwen3-capacity --shape tiny --levels 2,4 --seconds 10     # on a CPU

Levels pass and fail as in `bench.load ramp`. The streams play references/, joined to utterances of several lengths with
1 s of silence between them. Random weights recognise nothing: each decode takes as many tokens as speech of its length
would, and its text comes from a script (scripted_qwen3.py).

refresh, final    ms from the start of a decode for a partial, and for a final, to its result
mean_ms (JSON)    mean times of the parts of a decode: waiting, rendering and decoding
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.common.live_load import Level, LoadMeter
from bench.common.recordings import Recording, concatenate, load
from bench.common.report import Row, argument_parser, integers, run_conditions
from bench.common.server_process import ROOT, ServerProcess, server_settings
from bench.common.stats import rounded, summary
from bench.load.ramp import add_arguments, measure_levels, report

SERVER = ("-m", "uvicorn", "bench.engine.scripted_qwen3:build", "--factory", "--log-level", "warning")
GPU_MEMORY = {"1.7b": 0.85, "tiny": 0.2}  # part of the memory of the GPU, or of the machine on a CPU
LENGTHS = [3, 6, 12, 20]  # seconds of the utterances
PURPOSES = ("refresh", "final")
PARTS = ("waiting", "rendering", "decoding")  # the parts of a decode
SHAPES = Path(__file__).parent / "shapes"  # differences from the configuration of the tiny checkpoint
TINY_CHECKPOINT = ROOT / "references" / "tiny-qwen3-asr"


@contextmanager
def model_folder(shape: str) -> Iterator[Path]:
    """Create a temporary model folder of this shape without weights, for vLLM's `load_format="dummy"`.

    Tokenizer, feature extractor and token ids come from the tiny checkpoint of the same architecture.
    """
    with TemporaryDirectory(prefix="bench-shape-") as name:
        folder = Path(name)
        ignore = shutil.ignore_patterns("*.safetensors", "*.md")
        shutil.copytree(TINY_CHECKPOINT, folder, ignore=ignore, dirs_exist_ok=True)
        (folder / "config.json").write_text(json.dumps(configuration(shape), indent=1), encoding="utf-8")
        yield folder


def configuration(shape: str) -> dict[str, Any]:
    """Return the config.json of the shape."""
    config: dict[str, Any] = json.loads((TINY_CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    differences: dict[str, dict[str, Any]] = json.loads((SHAPES / f"{shape}.json").read_text(encoding="utf-8"))
    for part, sizes in differences.items():
        config["thinker_config"][part] |= sizes
    return config


def summarise(decodes: Sequence[dict[str, Any]], seconds: float, streams: int) -> dict[str, Any]:
    """Return statistics of the decodes in a window of `seconds`, by purpose."""
    summaries = dict[str, Any]()
    for purpose in PURPOSES:
        group = [each for each in decodes if each["purpose"] == purpose]
        summaries[purpose] = {
            "ms": summary([1000 * float(sum(each[part] for part in PARTS)) for each in group]),
            "mean_ms": {
                part: rounded(1000 * sum(one[part] for one in group) / len(group)) if group else None for part in PARTS
            },
            "per_stream_second": round(len(group) / seconds / streams, 2),
        }
    return summaries


def row(level: Level, decodes: dict[str, Any]) -> Row:
    """Return a row of the table."""
    times = {"endpoint": level.endpoint_ms} | {purpose: decodes[purpose]["ms"] for purpose in PURPOSES}
    return (
        {"streams": level.streams}
        | {f"{name} {each}": values[each] for name, values in times.items() for each in ("p50", "p95")}
        | {"cores": rounded(level.cores), "dropped": level.dropped, "errors": len(level.errors)}
    )


def make_utterances(recordings: Sequence[Recording], seconds: Sequence[int]) -> list[Recording]:
    """Return an utterance of each length: recordings, joined without silence between them."""
    utterances: list[Recording] = []
    for number, length in enumerate(seconds):
        first = number % len(recordings)
        pcm = concatenate([*recordings[first:], *recordings[:first]], length, gap_ms=0)
        utterances.append(Recording(f"{length} s", pcm, "", "en"))
    return utterances


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("engine qwen3-capacity", __doc__)
    add_arguments(parser, 10.0)
    parser.add_argument("--shape", choices=GPU_MEMORY, default="1.7b", help="size of the model (1.7b)")
    parser.add_argument("--utterances", type=integers, default=LENGTHS, metavar="N,N", help="seconds (3,6,12,20)")
    args = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    recordings = make_utterances(load(ROOT / "references", ["en"], single=True), args.utterances)
    decodes: dict[int, dict[str, Any]] = {}
    with model_folder(args.shape) as folder:
        settings = {"STT_VLLM_MODEL": str(folder), "STT_VLLM_GPU_MEMORY": str(GPU_MEMORY[args.shape])}
        settings |= server_settings("qwen3", max(args.most, *args.levels, 0) + 8, args.set)
        conditions = run_conditions("engine qwen3-capacity", settings, server=cores, load=cores)
        meter = LoadMeter(recordings, args.seconds, args.warm, args.seed)
        with ServerProcess(SERVER, settings | {"HF_HUB_OFFLINE": "1"}, cores) as server:

            def measure(streams: int) -> Level:
                level = meter.measure(server, streams)
                response = httpx.get(f"{server.url}/bench/decodes", timeout=30)
                start, end = level.window
                window_decodes = [each for each in response.json() if start < each["ended"] <= end]
                decodes[streams] = summarise(window_decodes, args.seconds, streams)
                return level

            levels = measure_levels(measure, args)
    rows = [row(level, decodes[streams]) for streams, level in levels.items()]
    report(args, conditions, levels, rows, shape=args.shape, decodes=[decodes[each] for each in levels])
