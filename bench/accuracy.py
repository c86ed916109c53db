"""How well a server hears: word error rate and more over a folder of recordings, streamed and over HTTP.

The folder has a manifest.jsonl (a JSON object a line with file, text, language, and optionally tags and note), or
pairs of .wav and .txt (a line an utterance). Streamed at real time, each recording is followed by 1 s of silence. For
pocketsphinx the bare second pass hears the same recordings in the same run, after the server has stopped.

--acceptance runs what the project promises of its embedded engine: the single English recordings of --folder by one
speaker and by four, over HTTP, and through the bare second pass; then it prints the verdict.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.audio import Clip, load
from bench.hearings import Hearing, Listening
from bench.report import Progress, Row, conditions, finish, integers, parser, table
from bench.server import ROOT, TARGETS, Server, stt_settings

WER_MARGIN = 0.02
"""Word error rate that streaming may lose to the bare second pass."""
EMBEDDED = "pocketsphinx"
"""The engine that has a bare second pass."""

Percentiles = Mapping[str, float | int | None]


def main() -> None:
    """Run the command."""
    given = arguments()
    language = None if given.language == "auto" else given.language
    clips = [clip for clip in load(given.folder, language, single=given.only == "single") if clip.text is not None]
    settings = stt_settings(given.backend, max(given.speakers) + 8, given.set)
    ran = conditions("accuracy", settings, server=given.cores)
    bar = Progress(len(given.speakers) + 1 + 2 * (given.backend == EMBEDDED))
    listening = Listening(clips, given.language, settings, given.seed, bar)
    hearings, bare_times = listen(listening, given)
    bar.end()
    report(hearings, clips, listed=given.list)
    verdict = judge(hearings, bare_times) if bare_times else []
    if verdict:
        print("\nVerdict\n" + table(verdict))
    finish(
        given.json,
        ran
        | {"hearings": [asdict(each) | {"wer": each.wer} for each in hearings]}
        | {"bare_pass_same_utterances_ms": bare_times, "verdict": verdict},
    )


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
    made.add_argument("--acceptance", action="store_true", help="the project's promise for its embedded engine")
    given = made.parse_args()
    given.cores = sorted(os.sched_getaffinity(0))
    if given.acceptance:
        given.backend, given.language, given.only, given.speakers = EMBEDDED, "en", "single", [1, 4]
    return given


def listen(listening: Listening, given: argparse.Namespace) -> tuple[list[Hearing], Percentiles | None]:
    """Every way of hearing; and the bare second pass's times over the last run's utterances, where there is one."""
    hearings: list[Hearing] = []
    with Server(TARGETS["server"], listening.settings, given.cores) as server:
        for speakers in given.speakers:
            hearing, said = listening.streamed(server, speakers, given.speed)
            hearings.append(hearing)
        hearings.append(listening.uploaded(server))
    if given.backend != EMBEDDED:
        return hearings, None
    # Alone: the server and its workers are gone.
    hearings.append(listening.bare())
    return hearings, listening.bare_times(said)


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
    first, latency, endpoint, alone = (
        times.get(name, none) for name in ("first_partial_ms", "latency_ms", "endpoint_ms", "pass_ms")
    )
    return {
        "way": hearing.way,
        "first partial p50": first.get("p50"),
        "p95": first.get("p95"),
        "while speaking": hearing.facts.get("while_speaking"),
        "latency_ms p50": latency.get("p50"),
        "p95 ": latency.get("p95"),
        "endpoint p50": endpoint.get("p50"),
        "p95  ": endpoint.get("p95"),
        "pass p50": alone.get("p50"),
        "p95   ": alone.get("p95"),
    }


def judge(hearings: Sequence[Hearing], bare_times: Percentiles) -> list[dict[str, Any]]:
    """The promised claims with their numbers."""
    streamed = [each for each in hearings if each.way.startswith("streamed")]
    http, bare = (next(each for each in hearings if each.way == way) for way in ("http", "bare pass"))
    busiest = streamed[-1]
    rates = {each.way: _number(each.wer["wer"]) for each in (streamed[0], http, bare)}
    limit = rates[bare.way] + WER_MARGIN
    claims = [
        (f"wer {streamed[0].way} <= bare pass + {WER_MARGIN}", rates[streamed[0].way], limit),
        (f"wer http <= bare pass + {WER_MARGIN}", rates[http.way], limit),
        (f"wer http <= wer {streamed[0].way}", rates[http.way], rates[streamed[0].way]),
        ("runs in which the generator was the limit", float(sum(_late(each) for each in streamed)), 0.0),
        (f"dropped, {busiest.way}", float(busiest.facts["dropped"]), 0.0),
        (f"failed, {busiest.way}", float(len(busiest.errors)), 0.0),
        (
            f"p95 latency_ms, {busiest.way} <= p95 ms bare pass alone, same utterances",
            _number(busiest.times["latency_ms"]["p95"]),
            _number(bare_times["p95"]),
        ),
    ]
    return [
        {"claim": claim, "value": round(value, 4), "limit": round(most, 4), "met": "yes" if value <= most else "NO"}
        for claim, value, most in claims
    ]


def _late(hearing: Hearing) -> bool:
    return bool(hearing.facts["generator"]["was_the_limit"])


def _number(value: object) -> float:
    """A measured number.

    Raises:
        SystemExit: nothing was measured, because nothing was recognised.
    """
    if not isinstance(value, int | float):
        raise SystemExit("no verdict: the server recognised nothing")
    return float(value)


if __name__ == "__main__":
    main()
