"""How many live speakers the qwen3 engine carries on this machine: a model of the true size with random weights.

    python -m bench.engine qwen3-capacity --shape 1.7b           # a CUDA machine
    OMP_NUM_THREADS=1 python -m bench.engine qwen3-capacity --shape tiny --levels 2,4 --seconds 10     # on a CPU

Levels pass and fail as in `bench.load ramp`. The streams play references/, joined to utterances of several lengths with
1 s of silence between them. Random weights recognise nothing: each decode takes as many tokens as speech of its length
would, and its text comes from a script (scripted_qwen3.py).

refresh, final    ms from the start of a decode for a partial, and for a final, to its result
mean_ms (JSON)    the parts of a decode: waiting, rendering and decoding
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

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import Recording, concatenate, load
from bench.common.report import Row, argument_parser, integers, run_conditions
from bench.common.server_process import ROOT, ServerProcess, server_settings
from bench.common.stats import rounded, summary
from bench.load.ramp import add_arguments, climb, report

SERVER = ("-m", "uvicorn", "bench.engine.scripted_qwen3:build", "--factory", "--log-level", "warning")
GPU_MEMORY = {"1.7b": 0.85, "tiny": 0.2}  # part of the GPU's memory, or of the machine's on a CPU
PURPOSES = ("refresh", "final")
PARTS = ("waiting", "rendering", "decoding")  # of a decode
FOLDER = Path(__file__).parent / "shapes"  # the differences from the configuration of the tiny checkpoint
TINY = ROOT / "references" / "tiny-qwen3-asr"


@contextmanager
def model_folder(shape: str) -> Iterator[Path]:
    """A model folder of this shape without weights, for vLLM's `load_format="dummy"`; it is removed at the end.

    Tokenizer, feature extractor and token ids come from the tiny checkpoint of the same architecture.
    """
    with TemporaryDirectory(prefix="bench-shape-") as name:
        folder = Path(name)
        shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"), dirs_exist_ok=True)
        (folder / "config.json").write_text(json.dumps(configuration(shape), indent=1), encoding="utf-8")
        yield folder


def configuration(shape: str) -> dict[str, Any]:
    """The config.json of the shape."""
    made: dict[str, Any] = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    differences: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{shape}.json").read_text(encoding="utf-8"))
    for part, sizes in differences.items():
        made["thinker_config"][part] |= sizes
    return made


def summarise(decodes: Sequence[dict[str, Any]], seconds: float, streams: int) -> dict[str, Any]:
    """Times of the decodes of a window of `seconds`, by purpose."""
    found = dict[str, Any]()
    for purpose in PURPOSES:
        mine = [each for each in decodes if each["purpose"] == purpose]
        found[purpose] = {
            "ms": summary([1000 * float(sum(each[part] for part in PARTS)) for each in mine]),
            "mean_ms": {
                part: rounded(1000 * sum(each[part] for each in mine) / len(mine)) if mine else None for part in PARTS
            },
            "per_stream_second": round(len(mine) / seconds / streams, 2),
        }
    return found


def row(level: Level, decodes: dict[str, Any]) -> Row:
    """One line of the table."""
    times = {"endpoint": level.endpoint_ms} | {purpose: decodes[purpose]["ms"] for purpose in PURPOSES}
    return (
        {"streams": level.streams}
        | {f"{name} {each}": values[each] for name, values in times.items() for each in ("p50", "p95")}
        | {"cores": rounded(level.cores), "dropped": level.dropped, "errors": len(level.errors)}
    )


def utterances(recordings: Sequence[Recording], seconds: Sequence[int]) -> list[Recording]:
    """One utterance of each length, made of joined recordings without silence between them."""
    made: list[Recording] = []
    for number, length in enumerate(seconds):
        first = number % len(recordings)
        pcm = concatenate([*recordings[first:], *recordings[:first]], length, gap_ms=0)
        made.append(Recording(f"{length} s", pcm, "", "en"))
    return made


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("engine qwen3-capacity", __doc__)
    add_arguments(parser, 10.0)
    parser.add_argument("--shape", choices=GPU_MEMORY, default="1.7b", help="size of the model (1.7b)")
    parser.add_argument("--utterances", type=integers, default=[3, 6, 12, 20], metavar="N,N", help="s (3,6,12,20)")
    args = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    recordings = utterances(load(ROOT / "references", ["en"], single=True), args.utterances)
    decodes: dict[int, dict[str, Any]] = {}
    with model_folder(args.shape) as folder:
        settings = {"STT_VLLM_MODEL": str(folder), "STT_VLLM_GPU_MEMORY": str(GPU_MEMORY[args.shape])}
        settings |= server_settings("qwen3", max(args.most, *args.levels, 0) + 8, args.set)
        conditions = run_conditions("engine qwen3-capacity", settings, server=cores, load=cores)
        meter = LevelMeter(recordings, args.seconds, args.warm, args.seed)
        with ServerProcess(SERVER, settings | {"HF_HUB_OFFLINE": "1"}, cores) as server:

            def measure(streams: int) -> Level:
                level = meter.measure(server, streams)
                answer = httpx.get(f"{server.url}/bench/decodes", timeout=30)
                first, last = level.window
                inside = [each for each in answer.json() if first < each["ended"] <= last]
                decodes[streams] = summarise(inside, args.seconds, streams)
                return level

            levels = climb(measure, args)
    rows = [row(level, decodes[streams]) for streams, level in levels.items()]
    report(args, conditions, levels, rows, shape=args.shape, decodes=[decodes[each] for each in levels])
