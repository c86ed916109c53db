"""Endpoints of each voice activity detector in noise, compared with the same detector without noise.

The recordings of references/ and of --folder are joined to scenes of about 30 s with silences of 0.8 to 2.5 s, mixed
with noise at several ratios and levels, and segmented offline, each as one connection. The speakers are split in two
halves: choose constants on `--half tune`, report `--half report`.

utterances   number of utterances that end by silence in the clean run
in time %    part of them that also end in noise, within 1 s of the same point
kept %       part of the clean run's voiced frames that lie in an utterance
pauses %     part of the known pauses whose middle lies in no utterance's voice
false/min    number of utterances per minute in which nobody speaks, however softly
later p50    median delay in ms of the ends in time, compared with the clean run
us           CPU in microseconds for 200 ms of audio: detector, segmenter and events, without an engine
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bench.common.noisy_scenes import NOISES, STEADY, Scene, make_noises, make_scenes, split_by_speaker
from bench.common.offline_segmentation import Segmentation, VadFactory, end_delays, frame_mask, segment, vad_factories
from bench.common.recordings import load
from bench.common.report import Row, argument_parser, integers, print_progress, run_conditions, table, words, write_json
from bench.common.server_process import ROOT
from bench.common.stats import median, rounded
from protocol.pcm import FRAME_SAMPLES, Signal, ms, samples_of

MATCH_SAMPLES = samples_of(1_000)
CLEAN = "clean"
LEVELS = [-6, -12, -18, -24, -30]
COUNTS = ("minutes", "utterances", "in_time", "voiced", "kept", "pauses", "separated", "false_utterances", "cpu_us")

Cell = dict[str, Any]  # one scene under one condition


def measure(
    scene: Scene, detectors: dict[str, VadFactory], noises: dict[str, Signal], ratios: list[int], levels: list[int]
) -> Iterator[Cell]:
    """Yield a cell for each detector under each condition. The `ratios` are in dB, the `levels` in dBFS.

    A cell names its `detector`, `noise`, `snr_db` (None: clean) and `level_dbfs`, besides the counts of `count`.
    """
    for level in levels:
        clean: dict[str, Segmentation] = {}
        for noise, ratio in [(CLEAN, None), *product(noises, ratios)]:
            samples = scene.mix(level, noises.get(noise), ratio or 0)
            for name, detector in detectors.items():
                start = time.process_time()
                result = segment(samples, detector())
                cpu_us = (time.process_time() - start) * 1e6
                condition = {"detector": name, "noise": noise, "snr_db": ratio, "level_dbfs": level}
                yield condition | count(scene, clean.setdefault(name, result), result) | {"cpu_us": cpu_us}


def count(scene: Scene, clean: Segmentation, noisy: Segmentation) -> Cell:
    """Compare a segmentation with the clean run's: all of `COUNTS` but `cpu_us`, and the delays as `later_ms`."""
    expected = _ends(clean)
    delays = end_delays(expected, _ends(noisy), MATCH_SAMPLES)
    voiced = clean.voiced & clean.utterance_frames()
    in_speech = frame_mask(len(voiced), [(each.voiced_start, each.voiced_end) for each in noisy.utterances])
    middles = [(start + end) // 2 // FRAME_SAMPLES for start, end in scene.pauses]
    spans = [(each.voiced_start // FRAME_SAMPLES, -(-each.voiced_end // FRAME_SAMPLES)) for each in noisy.utterances]
    return {
        "minutes": scene.seconds / 60,
        "utterances": len(expected),
        "in_time": len(delays),
        "voiced": int(voiced.sum()),
        "kept": int((voiced & noisy.utterance_frames()).sum()),
        "pauses": len(middles),
        "separated": sum(not in_speech[middle] for middle in middles),
        "false_utterances": sum(not scene.speech_frames[first:last].any() for first, last in spans),
        "later_ms": [ms(delay) for delay in delays],
    }


def _ends(segmentation: Segmentation) -> list[int]:
    last = len(segmentation.voiced) * FRAME_SAMPLES
    return [each.decided_at for each in segmentation.utterances if each.ended_by_silence and each.decided_at <= last]


def sum_groups(cells: Sequence[Cell], *names: str) -> list[Row]:
    """Return a row for each combination of the values of `names`, in the order of the first cells."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in names), []).append(cell)
    return [dict(zip(names, key, strict=True)) | _columns(group) for key, group in groups.items()]


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
    parser.add_argument("--half", choices=["tune", "report"], default="report", help="half of the speakers (report)")
    parser.add_argument("--detectors", type=words, default=["fixed", "energy"], help="or silero (fixed,energy)")
    parser.add_argument("--noises", type=words, default=NOISES, metavar="N,N", help=f"noises ({','.join(NOISES)})")
    parser.add_argument("--ratios", type=integers, default=[20, 10, 5, 0], metavar="DB,DB", help="SNRs (20,10,5,0)")
    parser.add_argument("--levels", type=integers, default=LEVELS, metavar="DB,DB", help="dBFS of peaks (-6 to -30)")
    args = parser.parse_args(argv)
    recordings = load(ROOT / "references") + (load(args.folder) if args.folder else [])
    tuning_set, report_set = split_by_speaker(recordings)
    recordings, babble = (tuning_set, report_set) if args.half == "tune" else (report_set, tuning_set)
    scenes = make_scenes(recordings)
    detectors = vad_factories(args.detectors)
    conditions = run_conditions("endpoints noise", {}) | {"recordings": [each.name for each in recordings]}
    cells: list[Cell] = []
    for number, scene in enumerate(scenes):
        print_progress(f"scene {number + 1} of {len(scenes)}")
        noises = make_noises(len(scene.signal), number, babble)
        noises = {name: noise for name, noise in noises.items() if name in args.noises}
        cells += measure(scene, detectors, noises, args.ratios, args.levels)
    print(f"{args.half} half: {len(scenes)} scenes, {sum(each.seconds for each in scenes) / 60:.1f} minutes")
    clean, noisy = [[each for each in cells if (each["noise"] == CLEAN) == is_clean] for is_clean in (True, False)]
    steady = [each for each in noisy if each["noise"] in STEADY]
    for title, group, names in (
        ("Clean", clean, ("level_dbfs", "detector")),
        (f"Steady noise ({', '.join(STEADY)}), all levels", steady, ("snr_db", "detector")),
        ("Each noise, all levels", noisy, ("noise", "snr_db", "detector")),
        ("Steady noise, by level", steady, ("level_dbfs", "snr_db", "detector")),
    ):
        if group:
            print(f"\n{title}\n{table(sum_groups(group, *names))}")
    write_json(args, conditions | {"cells": cells})
