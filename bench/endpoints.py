"""Whether utterances end where they should in noise: every detector over talks with known pauses, as a table.

The recordings of references/ and of --folder are put together to talks of about 30 s with silences of 0.8 to 2.5 s
between them, mixed with noise at several ratios and levels, and heard as one connection each, offline. Speakers are
split in two halves: `--half tune` is for choosing constants, `--half report` for believing them.

A clean run is the same detector over the same talk at the same level without noise. Columns:
  utterances       that the clean run ended by silence
  in time %        of these, those for which one ended within 1 s of the same point
  kept %           frames that are voice in the clean run's utterances and lie inside an utterance
  pauses %         known pauses between recordings in which no utterance's voice goes on through the middle
  false/min        utterances a minute in which the clean run has no voice at all
  later p50        ms by which ends came later than the clean run's, of those in time
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from bench.audio import Clip, load
from bench.ears import Heard, covered, hear, matched, vads
from bench.report import Progress, Row, conditions, finish, parser, rounded, table
from bench.room import NOISES, STEADY, Talk, halves, noises, talks
from bench.server import ROOT
from bench.stats import median
from inference.vad import VadOptions
from inference.vad_factory import MakeVad
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, Samples, ms, samples_of

IN_TIME = samples_of(1_000)
CLEAN = "clean"
YARDSTICK = "fixed"
AS_YARDSTICK = "clean, by the fixed threshold's"
"""Clean runs compared with the fixed threshold's instead of with themselves."""
LEVELS = [-6, -12, -18, -24, -30]
"""dBFS of the recordings' peaks."""
RATIOS = [20, 10, 5, 0]
"""dB."""


@dataclass(slots=True)
class Tally:
    """What was counted; tallies of several talks add up."""

    minutes: float = 0.0
    utterances: int = 0
    in_time: int = 0
    voiced: int = 0
    kept: int = 0
    pauses: int = 0
    parted: int = 0
    false_starts: int = 0
    later_ms: list[int] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what `other` counted too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def row(self) -> Row:
        """As a line of the table."""
        return {
            "utterances": self.utterances,
            "in time %": _percent(self.in_time, self.utterances),
            "kept %": _percent(self.kept, self.voiced),
            "pauses %": _percent(self.parted, self.pauses),
            "false/min": rounded(self.false_starts / self.minutes, 2) if self.minutes else None,
            "later p50": rounded(median(self.later_ms), 0),
        }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


@dataclass(frozen=True, slots=True)
class Condition:
    """One cell of the grid."""

    vad: str
    noise: str
    snr_db: int | None
    """None: clean."""
    level_dbfs: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What was counted under one condition."""

    condition: Condition
    tally: Tally


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured."""

    vads: dict[str, MakeVad]
    noises: Sequence[str]
    ratios: Sequence[int]
    levels: Sequence[int]
    options: VadOptions
    babblers: Sequence[Clip]

    def cells(self, talk: Talk, number: int) -> Iterator[Cell]:
        """Every cell for one talk."""
        made = noises(len(talk.signal), number, self.babblers)
        for level in self.levels:
            samples = talk.heard(level, None, 0)
            cleans = {name: hear(samples, make(self.options)) for name, make in self.vads.items()}
            yield from self._row(talk, samples, cleans, Condition("", CLEAN, None, level))
            for name, clean in cleans.items():
                if YARDSTICK in cleans:
                    condition = Condition(name, AS_YARDSTICK, None, level)
                    yield Cell(condition, count(talk, cleans[YARDSTICK], clean))
            for noise in self.noises:
                for ratio in self.ratios:
                    samples = talk.heard(level, made[noise], ratio)
                    yield from self._row(talk, samples, cleans, Condition("", noise, ratio, level))

    def _row(self, talk: Talk, samples: Samples, cleans: dict[str, Heard], where: Condition) -> Iterator[Cell]:
        for name, make in self.vads.items():
            heard = cleans[name] if where.noise == CLEAN else hear(samples, make(self.options))
            condition = Condition(name, where.noise, where.snr_db, where.level_dbfs)
            yield Cell(condition, count(talk, cleans[name], heard))


def count(talk: Talk, clean: Heard, heard: Heard) -> Tally:
    """Compare one hearing with the clean one."""
    expected, found = _ends(clean), _ends(heard)
    differences = matched(expected, found, IN_TIME)
    voice = clean.voiced & clean.inside()
    inside = heard.inside()
    spoken = covered(len(inside), [(each.voiced_start, each.voiced_end) for each in heard.utterances])
    middles = [(start + end) // 2 // FRAME_SAMPLES for start, end in talk.pauses]
    return Tally(
        minutes=talk.seconds / 60,
        utterances=len(expected),
        in_time=len(differences),
        voiced=int(voice.sum()),
        kept=int((voice & inside).sum()),
        pauses=len(middles),
        parted=sum(not spoken[middle] for middle in middles),
        false_starts=sum(not _overlaps(voice, each.voiced_start, each.voiced_end) for each in heard.utterances),
        later_ms=[ms(difference) for difference in differences],
    )


def _ends(heard: Heard) -> list[int]:
    last = len(heard.voiced) * FRAME_SAMPLES
    return [each.known for each in heard.utterances if each.reason is Reason.ENDPOINT and each.known <= last]


def _overlaps(voice: np.typing.NDArray[np.bool_], start: int, end: int) -> bool:
    return bool(voice[start // FRAME_SAMPLES : -(-end // FRAME_SAMPLES)].any())


def summed(cells: Sequence[Cell], *names: str) -> list[Row]:
    """One row for each combination of the conditions `names`, in the order in which they came."""
    tallies: dict[tuple[object, ...], Tally] = {}
    for cell in cells:
        key = tuple(getattr(cell.condition, name) for name in names)
        tallies.setdefault(key, Tally()).add(cell.tally)
    heads = {"noise": "noise", "vad": "vad", "snr_db": "snr", "level_dbfs": "level"}
    return [
        dict(zip((heads[name] for name in names), key, strict=True)) | dict(tally.row())
        for key, tally in tallies.items()
    ]


def main() -> None:
    """Run the command."""
    given = arguments()
    clips = load(ROOT / "references") + (load(given.folder) if given.folder else [])
    tune, report = halves(clips)
    chosen, others = (tune, report) if given.half == "tune" else (report, tune)
    conversation = talks(chosen, given.quieter)
    ran = conditions("endpoints", {}) | {"recordings": [clip.name for clip in chosen]}
    grid = Grid(
        vads(given.vads),
        given.noises.split(","),
        given.ratios,
        given.levels,
        VadOptions(given.threshold),
        others,
    )
    cells: list[Cell] = []
    bar = Progress(len(conversation))
    for number, talk in enumerate(conversation):
        bar.step(f"talk {number + 1} of {len(conversation)}")
        cells += grid.cells(talk, number)
    bar.end()
    report_cells(cells, conversation, given.half)
    finish(given.json, ran | {"cells": [asdict(cell) for cell in cells]})


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    made = parser("endpoints", __doc__)
    made.add_argument("--folder", type=Path, help="recordings besides references/")
    made.add_argument("--half", choices=["tune", "report"], default="report", help="of the speakers (report)")
    made.add_argument("--vads", default="fixed,energy", help="detectors, silero too (fixed,energy)")
    made.add_argument("--threshold", type=float, default=VadOptions().threshold, help="STT_VAD_THRESHOLD (300)")
    made.add_argument("--noises", default=",".join(NOISES), help=f"({','.join(NOISES)})")
    made.add_argument("--ratios", type=integers_of, default=RATIOS, metavar="DB,DB", help="speech to noise (20,10,5,0)")
    made.add_argument(
        "--levels", type=integers_of, default=LEVELS, metavar="DB,DB", help="peaks, dBFS (=-6,-12,-18,-24,-30)"
    )
    made.add_argument("--quieter", type=float, default=0.0, metavar="DB", help="of every second recording (0)")
    return made.parse_args()


def integers_of(text: str) -> list[int]:
    """Numbers separated by commas."""
    return [int(each) for each in text.split(",")]


def report_cells(cells: Sequence[Cell], conversation: Sequence[Talk], half: str) -> None:
    """Print what was measured."""
    minutes = sum(talk.seconds for talk in conversation) / 60
    print(f"{half} half: {len(conversation)} talks, {minutes:.1f} minutes\n")
    clean = [cell for cell in cells if cell.condition.noise == CLEAN]
    same = [cell for cell in cells if cell.condition.noise == AS_YARDSTICK]
    noisy = [cell for cell in cells if cell.condition.snr_db is not None]
    steady = [cell for cell in noisy if cell.condition.noise in STEADY]
    for title, some, names in (
        ("Clean", clean, ("level_dbfs", "vad")),
        ("Clean, all levels, compared with the clean run of the fixed threshold", same, ("vad",)),
        ("Steady noise (white, pink, hum), all levels", steady, ("snr_db", "vad")),
        ("Every noise, all levels", noisy, ("noise", "snr_db", "vad")),
        ("Steady noise, by level", steady, ("level_dbfs", "snr_db", "vad")),
    ):
        if some:
            print(f"{title}\n{table(summed(some, *names))}\n")


if __name__ == "__main__":
    main()
