"""What a voice activity detector costs a stream: alone, and within all hearing (listener, segmenter, hand-over).

A talk of recordings from references/, quiet and in pink noise at 10 dB, is heard 200 ms at a time, as a worker hears
it; detectors take turns, and the least of all rounds counts, for a shared machine only ever adds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from bench.audio import load
from bench.ears import WAKE_UP, hear, vads
from bench.report import Progress, Row, conditions, finish, parser, table
from bench.room import Talk, pink, talks
from bench.server import ROOT
from inference.vad import VadOptions
from inference.vad_factory import MakeVad
from protocol.pcm import Samples, to_signal

LEVEL_DBFS = -6.0
RATIO_DB = 10.0
YARDSTICK = "fixed"


def main() -> None:
    """Run the command."""
    given = arguments()
    makes = vads(given.vads)
    ran = conditions("detectors", {})
    talk = talks(load(ROOT / "references"))[0]
    noise = pink(len(talk.signal), given.seed)
    rows: list[Row] = []
    bar = Progress(2)
    for name, samples in (
        ("quiet", talk.heard(LEVEL_DBFS, None, 0)),
        ("pink 10 dB", talk.heard(LEVEL_DBFS, noise, RATIO_DB)),
    ):
        bar.step(name)
        rows += measure(name, talk, samples, makes, given.rounds)
    bar.end()
    print(table(rows))
    print(
        "\nus: CPU per 200 ms of one stream, the least of all rounds. x: by the fixed threshold's. core: of one core."
    )
    finish(given.json, ran | {"rows": rows})


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    made = parser("detectors", __doc__)
    made.add_argument("--vads", default="fixed,energy", help="detectors, silero too (fixed,energy)")
    made.add_argument("--rounds", type=int, default=30, help="times that each hears the talk (30)")
    return made.parse_args()


def measure(name: str, talk: Talk, samples: Samples, makes: dict[str, MakeVad], rounds: int) -> list[Row]:
    """One row for each detector."""
    calls = len(samples) / WAKE_UP
    ways: dict[str, Callable[[MakeVad], object]] = {
        "alone": lambda make: _alone(samples, make),
        "hearing": lambda make: hear(samples, make(VadOptions())),
    }
    least: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for way, work in ways.items():
            for vad, make in makes.items():
                spent = _spent(work, make)
                least[vad, way] = min(spent, least.get((vad, way), spent))
    return [
        {
            "audio": name,
            "vad": vad,
            "alone us": round(least[vad, "alone"] / calls * 1e6, 2),
            "alone x": _ratio(least, vad, "alone"),
            "hearing us": round(least[vad, "hearing"] / calls * 1e6, 2),
            "hearing x": _ratio(least, vad, "hearing"),
            "alone core %": round(100 * least[vad, "alone"] / talk.seconds, 4),
        }
        for vad in makes
    ]


def _ratio(least: dict[tuple[str, str], float], vad: str, way: str) -> float | None:
    yardstick = least.get((YARDSTICK, way))
    return None if yardstick is None else round(least[vad, way] / yardstick, 2)


def _spent(work: Callable[[MakeVad], object], make: MakeVad) -> float:
    began = time.process_time()
    work(make)
    return time.process_time() - began


def _alone(samples: Samples, make: MakeVad) -> Sequence[bool]:
    vad, signal = make(VadOptions()), to_signal(samples)
    voiced: list[bool] = []
    for first in range(0, len(signal) - WAKE_UP + 1, WAKE_UP):
        voiced = vad.frames(signal[first : first + WAKE_UP])[1]
    return voiced


if __name__ == "__main__":
    main()
