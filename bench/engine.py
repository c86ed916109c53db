"""How many live speakers the qwen3 engine carries on this machine, without a download: the true shape, dummy weights.

    python -m bench.engine --shape 1.7b           # a CUDA machine
    OMP_NUM_THREADS=1 python -m bench.engine --shape tiny --levels 2,4 --seconds 10     # vLLM's CPU build

Ramps paced live streams on one server and prints JSON: the capacity, for each level the percentiles of refreshes and
finals, and where their time went. Speech is references/ joined to utterances of several lengths, with 1 s of silence
between them. Dummy weights understand nothing, so each decode is made as long as the text of its audio would be, and
the text is a script's (see bench/scripted.py). A level passes as in `bench.ramp`.

  refresh_ms, final_decode_ms   from the beginning of a decode to its answer
  endpoint_ms                   seen by the client: from the silence that ends an utterance to its final
  where.MS                      mean of each part of a decode: waiting for its turn to be rendered, rendering, engine
  where.cores                   of the window, by what the threads do; engine_processes are vLLM's own
  where.event_loop_late_ms      how much later than asked the server's event loop comes back from a sleep
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench import shape
from bench.audio import Clip, Disc, compose, load
from bench.ramp import Ramp, capacity_of, climb
from bench.report import Progress, conditions, finish, integers, parser, rounded
from bench.server import ROOT, Server, stt_settings
from bench.stats import summary
from bench.wheel import Wheel

MODULE = "bench.rehearsal:build"
READY_SECONDS = 900.0
"""A first start compiles and captures graphs; on a busy CPU it warms up for minutes."""
GPU_MEMORY = {"1.7b": 0.85, "tiny": 0.2}
"""Part of the GPU's memory; for the CPU build a part of the machine's, which has to be free."""
PURPOSES = ("refresh", "final")
_PARTS = ("waiting", "rendering", "decoding")


@dataclass(slots=True)
class Looks:
    """What the server says of its own time while streams speak."""

    server: Server
    begin: float
    """Part of the talk, 0 to 1, before which nothing is counted."""
    taken: list[dict[str, Any]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of the server and all processes below it, seconds, at each look."""

    async def look(self, _: Wheel, part: float) -> None:
        """See `bench.talk.Look`."""
        if part < self.begin:
            return
        answer = await asyncio.to_thread(httpx.get, f"{self.server.url}/bench/engine", timeout=30)
        self.taken.append(answer.json())
        self.cpu.append(self.server.cpu_seconds())

    def report(self, streams: int) -> dict[str, Any]:
        """Everything between the first look and the last."""
        # What the first one brings is from before it.
        first, *others = self.taken
        seconds = others[-1]["time"] - first["time"]
        decodes = [decode for look in others for decode in look["decodes"]]
        refreshes, finals = (_of(purpose, decodes) for purpose in PURPOSES)
        computed = sum(each["prompt_tokens"] - each["cached_tokens"] for each in decodes)
        return {
            "refresh_ms": summary([_total_ms(each) for each in refreshes]),
            "final_decode_ms": summary([_total_ms(each) for each in finals]),
            "refreshes_per_stream_second": round(len(refreshes) / seconds / streams, 2),
            "text_tokens_per_second": round(sum(each["text_tokens"] for each in decodes) / seconds),
            "prompt_tokens_computed_per_second": round(computed / seconds),
            "where": {
                **{f"{purpose}_ms": _parts(_of(purpose, decodes)) for purpose in PURPOSES},
                "cores": self._cores(seconds),
                "event_loop_late_ms": summary([late for look in others for late in look["event_loop_late_ms"]]),
            },
        }

    def _cores(self, seconds: float) -> dict[str, float]:
        before, after = self.taken[0]["cpu"], self.taken[-1]["cpu"]
        spent = {group: after[group] - before[group] for group in before}
        # The time of threads that ended meanwhile is counted in none, and so as vLLM's: sessions stay to the end.
        spent["engine_processes"] = max(0.0, self.cpu[-1] - self.cpu[0] - sum(spent.values()))
        return {group: round(cpu / seconds, 3) for group, cpu in spent.items()}


def _of(purpose: str, decodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in decodes if each["purpose"] == purpose]


def _total_ms(decode: dict[str, Any]) -> float:
    return 1000 * float(sum(decode[part] for part in _PARTS))


def _parts(decodes: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Mean ms of each part."""
    count = len(decodes)
    means = {part: sum(each[part] for each in decodes) * 1000 / count if count else None for part in _PARTS}
    return {("engine" if part == "decoding" else part): rounded(mean) for part, mean in means.items()}


def utterances(clips: Sequence[Clip], seconds: Sequence[int]) -> list[Clip]:
    """Recordings joined to one utterance of each length: the pauses where they meet are no endpoints."""
    made: list[Clip] = []
    for number, length in enumerate(seconds):
        first = number % len(clips)
        pcm = compose([*clips[first:], *clips[:first]], length, gap_ms=0)
        made.append(Clip(f"{length} s", pcm, None, "en", 1))
    return made


def main() -> None:
    """Run the command."""
    made = parser("engine", __doc__)
    made.add_argument("--shape", choices=shape.names(), default="1.7b", help="the model's shape (1.7b)")
    made.add_argument("--tiny", type=Path, default=shape.TINY, help="the tiny checkpoint's folder (in references/)")
    made.add_argument("--levels", type=integers, metavar="N,N", help="numbers of streams; else the knee is looked for")
    made.add_argument("--most", type=int, default=512, help="streams to try at most (512)")
    made.add_argument("--slo-ms", type=float, default=500.0, help="p95 of endpoint -> final at most (500)")
    made.add_argument("--seconds", type=float, default=30.0, help="length of a level's window (30)")
    made.add_argument("--warm", type=float, default=10.0, help="seconds of speech before it (10)")
    made.add_argument("--utterances", type=integers, default=[3, 6, 12, 20], metavar="N,N",
                      help="their lengths in seconds (3,6,12,20)")  # fmt: skip
    given = made.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    disc = Disc(utterances(load(ROOT / "references", "en", single=True), given.utterances))
    with shape.model_of(given.shape, given.tiny) as folder:
        settings = {"STT_VLLM_MODEL": str(folder), "STT_VLLM_GPU_MEMORY": str(GPU_MEMORY[given.shape])}
        settings |= stt_settings("qwen3", max([given.most, *(given.levels or [])]) + 8, given.set)
        ran = conditions("engine", settings, server=cores, load=cores)
        ramp = Ramp(settings, cores, disc, "auto", given.seconds, given.warm, given.slo_ms, given.seed)
        with Server(MODULE, settings | {"HF_HUB_OFFLINE": "1"}, cores, READY_SECONDS) as server:

            def measure(streams: int, bar: Progress) -> dict[str, Any]:
                looks = Looks(server, given.warm / ramp.total_seconds)
                level = ramp.measure(server, streams, bar, looks.look)
                del level["wer"]  # of a script
                return level | looks.report(streams)

            levels = climb(measure, given.levels, given.most)
    ran |= {"shape": given.shape, "utterance_seconds": given.utterances, "slo_ms": given.slo_ms}
    ran |= {"capacity": capacity_of(levels), "levels": levels}
    if given.json is None:
        print(json.dumps(ran, indent=1))
    finish(given.json, ran)


if __name__ == "__main__":
    main()
