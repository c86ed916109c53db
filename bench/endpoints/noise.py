"""Endpoints of each voice activity detector in noise, compared with the same detector without noise.

The recordings of references/ and of --folder are joined to scenes of about 30 s with silences of 0.8 to 2.5 s, mixed
with noise at several ratios and levels, and segmented offline, each as one connection. The speakers are split in two
halves: choose constants on `--half tune`, report `--half report`.

utterances   that end by silence in the clean run
in time %    of these: an utterance ended within 1 s of the same point
kept %       voiced frames of the clean run's utterances that lie in an utterance
pauses %     known pauses whose middle lies in no utterance's voice
false/min    utterances per minute in which nobody speaks, however softly
later p50    ms by which ends are later than in the clean run, of those in time
us           CPU in microseconds for 200 ms of audio: detector, segmenter and events, without an engine
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bench.common.noisy_scenes import NOISES, STEADY, Scene, halves, noises, scenes
from bench.common.offline_segmentation import Detector, Segmentation, covered, detectors_by_name, matched, segment
from bench.common.recordings import load
from bench.common.report import Row, argument_parser, integers, print_progress, run_conditions, table, words, write_json
from bench.common.server_process import ROOT
from bench.common.stats import median, rounded
from protocol.pcm import FRAME_SAMPLES, Signal, ms, samples_of

IN_TIME = samples_of(1_000)
CLEAN = "clean"
COUNTS = ("minutes", "utterances", "in_time", "voiced", "kept", "pauses", "separated", "false_utterances", "cpu_us")

Cell = dict[str, Any]  # one scene under one condition


def measure(
    scene: Scene, detectors: Mapping[str, Detector], kinds: Mapping[str, Signal], ratios: list[int], levels: list[int]
) -> Iterator[Cell]:
    """One cell for each detector under each condition. `kinds`: the noises; `ratios` in dB; `levels` in dBFS.

    A cell names its `detector`, `noise`, `snr_db` (None: clean) and `level_dbfs`, beside what `count` returns.
    """
    for level in levels:
        clean: dict[str, Segmentation] = {}
        for noise, ratio in [(CLEAN, None), *product(kinds, ratios)]:
            samples = scene.mixed(level, kinds.get(noise), ratio or 0)
            for name, detector in detectors.items():
                began = time.process_time()
                found = segment(samples, detector())
                cpu_us = (time.process_time() - began) * 1e6
                condition = {"detector": name, "noise": noise, "snr_db": ratio, "level_dbfs": level}
                yield condition | count(scene, clean.setdefault(name, found), found) | {"cpu_us": cpu_us}


def count(scene: Scene, clean: Segmentation, found: Segmentation) -> Cell:
    """Compare a segmentation with the one of the clean run: all of `COUNTS` but `cpu_us`, and `later_ms`."""
    expected = _ends(clean)
    differences = matched(expected, _ends(found), IN_TIME)
    voiced = clean.voiced & clean.inside()
    spoken = covered(len(voiced), [(each.voiced_start, each.voiced_end) for each in found.utterances])
    middles = [(start + end) // 2 // FRAME_SAMPLES for start, end in scene.pauses]
    starts = [(each.voiced_start // FRAME_SAMPLES, -(-each.voiced_end // FRAME_SAMPLES)) for each in found.utterances]
    return {
        "minutes": scene.seconds / 60,
        "utterances": len(expected),
        "in_time": len(differences),
        "voiced": int(voiced.sum()),
        "kept": int((voiced & found.inside()).sum()),
        "pauses": len(middles),
        "separated": sum(not spoken[middle] for middle in middles),
        "false_utterances": sum(not scene.spoken[first:last].any() for first, last in starts),
        "later_ms": [ms(difference) for difference in differences],
    }


def _ends(found: Segmentation) -> list[int]:
    last = len(found.voiced) * FRAME_SAMPLES
    return [each.decided_at for each in found.utterances if each.ended_by_silence and each.decided_at <= last]


def summed(cells: Sequence[Cell], *names: str) -> list[Row]:
    """One row for each combination of the values of `names`, in the order of their first cells."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in names), []).append(cell)
    return [dict(zip(names, key, strict=True)) | _columns(mine) for key, mine in groups.items()]


def _columns(cells: Sequence[Cell]) -> dict[str, object]:
    total = {name: sum(cell[name] for cell in cells) for name in COUNTS}
    later = [each for cell in cells for each in cell["later_ms"]]

    def percent(part: str, whole: str) -> float | None:
        return round(100 * total[part] / total[whole], 1) if total[whole] else None

    return {
        "utterances": total["utterances"],
        "in time %": percent("in_time", "utterances"),
        "kept %": percent("kept", "voiced"),
        "pauses %": percent("separated", "pauses"),
        "false/min": rounded(total["false_utterances"] / total["minutes"]),
        "later p50": rounded(median(later), 0),
        "us": rounded(total["cpu_us"] / (total["minutes"] * 300), 1),
    }


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("endpoints noise", __doc__)
    parser.add_argument("--folder", type=Path, help="recordings besides references/")
    parser.add_argument("--half", choices=["tune", "report"], default="report", help="of the speakers (report)")
    parser.add_argument("--detectors", type=words, default=["fixed", "energy"], help="silero too (fixed,energy)")
    parser.add_argument("--noises", type=words, default=NOISES, metavar="N,N", help=f"({','.join(NOISES)})")
    parser.add_argument("--ratios", type=integers, default=[20, 10, 5, 0], metavar="DB,DB", help="SNR (20,10,5,0)")
    parser.add_argument(
        "--levels", type=integers, default=[-6, -12, -18, -24, -30], metavar="DB,DB", help="peaks, dBFS"
    )
    args = parser.parse_args(argv)
    recordings = load(ROOT / "references") + (load(args.folder) if args.folder else [])
    tune, report = halves(recordings)
    chosen, others = (tune, report) if args.half == "tune" else (report, tune)
    all_scenes = scenes(chosen)
    detectors = detectors_by_name(args.detectors)
    conditions = run_conditions("endpoints noise", {}) | {"recordings": [each.name for each in chosen]}
    cells: list[Cell] = []
    for number, scene in enumerate(all_scenes):
        print_progress(f"scene {number + 1} of {len(all_scenes)}")
        every = noises(len(scene.signal), number, others)
        kinds = {name: every[name] for name in every if name in args.noises}
        cells += measure(scene, detectors, kinds, args.ratios, args.levels)
    print(f"{args.half} half: {len(all_scenes)} scenes, {sum(each.seconds for each in all_scenes) / 60:.1f} minutes")
    clean, noisy = [[each for each in cells if (each["noise"] == CLEAN) == wanted] for wanted in (True, False)]
    steady = [each for each in noisy if each["noise"] in STEADY]
    for title, some, names in (
        ("Clean", clean, ("level_dbfs", "detector")),
        (f"Steady noise ({', '.join(STEADY)}), all levels", steady, ("snr_db", "detector")),
        ("Each noise, all levels", noisy, ("noise", "snr_db", "detector")),
        ("Steady noise, by level", steady, ("level_dbfs", "snr_db", "detector")),
    ):
        if some:
            print(f"\n{title}\n{table(summed(some, *names))}")
    write_json(args, conditions | {"cells": cells})
