"""How well a server hears: word error rate and more over a folder of recordings, streamed and over HTTP.

The folder has a manifest.jsonl (a JSON object a line with file, text, language, and optionally tags and note), or
pairs of .wav and .txt (a line an utterance). Streamed at real time, each recording is followed by 1 s of silence.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.audio import Clip, load
from bench.hearings import Hearing, Listening
from bench.report import Progress, Row, conditions, finish, integers, parser, table
from bench.server import ROOT, TARGETS, Server, stt_settings


def main() -> None:
    """Run the command."""
    given = arguments()
    language = None if given.language == "auto" else given.language
    clips = [clip for clip in load(given.folder, language, single=given.only == "single") if clip.text is not None]
    settings = stt_settings(given.backend, max(given.speakers) + 8, given.set)
    ran = conditions("accuracy", settings, server=given.cores)
    bar = Progress(len(given.speakers) + 1)
    listening = Listening(clips, given.language, settings, given.seed, bar)
    hearings = listen(listening, given)
    bar.end()
    report(hearings, clips, listed=given.list)
    finish(given.json, ran | {"hearings": [asdict(each) | {"wer": each.wer} for each in hearings]})


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    made = parser("accuracy", __doc__)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", default="auto", help="recordings of this language only, and ask for it (auto: all)")
    made.add_argument("--only", choices=["single"], help="leave out long, composed and paused recordings")
    made.add_argument("--speakers", type=integers, default=[1], metavar="N,N", help="speakers at once, run by run (1)")
    made.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast as live (1)")
    made.add_argument("--list", action="store_true", help="print every recording's words")
    given = made.parse_args()
    given.cores = sorted(os.sched_getaffinity(0))
    return given


def listen(listening: Listening, given: argparse.Namespace) -> list[Hearing]:
    """Every way of hearing."""
    with Server(TARGETS["server"], listening.settings, given.cores) as server:
        hearings = [listening.streamed(server, speakers, given.speed)[0] for speakers in given.speakers]
        return [*hearings, listening.uploaded(server)]


def report(hearings: Sequence[Hearing], clips: Sequence[Clip], *, listed: bool) -> None:
    """Print what was measured."""
    print(f"{len(clips)} recordings, {sum(clip.seconds for clip in clips):.0f} s\n")
    print(table([accuracy_row(each) for each in hearings]))
    print("\nci95: bootstrap over recordings. revised: words shown and then changed, per word of the finals.\n")
    print(table([time_row(each) for each in hearings]))
    print("\nTimes in ms; endpoint: sending the last frame of its silence -> the final, seen by the client.")
    for each in hearings:
        for error in sorted(set(each.errors)):
            print(f"ERROR {each.way}: {error}")
        if each.facts and _late(each):
            print(f"THE GENERATOR WAS THE LIMIT in {each.way}: {each.facts['generator']}")
        if listed:
            print(f"\n{each.way}\n" + "\n".join(f"{one['file']}: {one['heard']}" for one in each.recordings))


def accuracy_row(hearing: Hearing) -> Row:
    """How well one way heard."""
    facts, wer = hearing.facts, hearing.wer
    endpoints = f"{facts['endpoints_found']}/{facts['endpoints_expected']}" if facts else None
    return {
        "way": hearing.way,
        "wer": wer["wer"],
        "errors": wer["errors"],
        "words": wer["words"],
        "ci95": "-".join(map(str, wer["ci95"])) if isinstance(wer["ci95"], list) else None,
        "utterances": facts.get("utterances"),
        "endpoints": endpoints,
        "extra": facts.get("endpoints_extra"),
        "revised": facts.get("revised_per_word"),
        "dropped": facts.get("dropped"),
        "failed": len(hearing.errors),
    }


def time_row(hearing: Hearing) -> Row:
    """How fast one way heard."""
    times, none = hearing.times, dict[str, None]()
    first, latency, endpoint = (times.get(name, none) for name in ("first_partial_ms", "latency_ms", "endpoint_ms"))
    return {
        "way": hearing.way,
        "first partial p50": first.get("p50"),
        "p95": first.get("p95"),
        "while speaking": hearing.facts.get("while_speaking"),
        "latency_ms p50": latency.get("p50"),
        "p95 ": latency.get("p95"),
        "endpoint p50": endpoint.get("p50"),
        "p95  ": endpoint.get("p95"),
    }


def _late(hearing: Hearing) -> bool:
    return bool(hearing.facts["generator"]["was_the_limit"])


if __name__ == "__main__":
    main()
