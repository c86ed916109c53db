"""What pocketsphinx costs inside the server, beside the bare decoder over the same utterances on the same cores.

Live: speakers stream recordings in real time to a warm server, one each at a time; CPU of the server and all its
processes, beyond the idle server's. Then the bare decoder hears the same, in a process without a server for each
speaker: the streaming pass in the pieces that the server hands over, each once it would have been spoken, and then the
final pass. With --flat-out it does not wait for them: its caches stay warm and its cores awake, which no live decoder's
do. Recordings in which nobody goes on after a pause void no final pass; with all recordings some are voided, and the
bare decoder does not do those.
HTTP: one file of recordings with pauses, uploaded; beside it final passes alone over its utterances, in as many
processes as cores. Wall time. Server and bare decoder take turns; medians of the rounds.

No loading is counted: before the clock starts, the server has been given so much at once that it used every worker
that it has, and each bare decoder has decoded a recording in both ways.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.base import StreamOptions
from bench.audio import compose, load
from bench.bare_decoder import bare_decoders
from bench.beside import GAP_MS, Comparison, Live, Upload, calm, crowd_of, cuts_of, workers_of
from bench.cuts import Ears
from bench.report import Progress, Row, conditions, finish, parser, rounded, table
from bench.server import ROOT, TARGETS, Server, stt_settings
from bench.stats import median

LIMITS = {"nothing voided": 1.10, "all recordings": 1.25}
"""The server's CPU by the bare decoder's, at most."""
LEAST_THROUGHPUT = 0.9
"""Of the bare decoder's, over HTTP."""
NOTES = """\
server    CPU s of the server and its processes beyond what it takes at rest (in cores)
streaming, final    of that, its worker processes but for those that ended with a void pass; beside the bare decoder's
voided    final passes that became void, and what they would cost in full, by the bare final pass's CPU per second
started   worker processes that the server started in the window, in place of ended ones; counted as its
valid     whether the generator and the streaming passes kept up, nothing was dropped or failed, and the server cut
          the same utterances"""


def main() -> None:
    """Run the command."""
    given = arguments()
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    clips = load(given.folder, "en", single=True)
    settings = stt_settings("pocketsphinx", 0, given.set)
    settings["STT_MAX_SESSIONS"] = str(max(given.speakers, crowd_of(settings, cores)) + 8)
    ran = conditions("decoder", settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    bar = Progress(1 + given.rounds * (len(LIMITS) * (given.only != "http") + 2 * (given.only != "live")))
    cuts = cuts_of(clips, Ears.of(settings))
    compared = Comparison(
        cuts,
        settings,
        cores,
        given.speakers,
        given.seed,
        paced=not given.flat_out,
        partial_ms=given.bare_partial_ms,
        large_pages=not given.bare_small_pages,
        bar=bar,
    )
    lives, uploads, warnings = measure(compared, given)
    bar.end()
    rows, verdict = [live_row(each) for each in lives], judge(lives, uploads)
    report(rows, uploads, verdict, warnings + [told for each in lives for told in warn(each)])
    finish(
        given.json,
        ran
        | {"speakers": given.speakers, "bare_paced": not given.flat_out, "bare_partial_ms": given.bare_partial_ms}
        | {"bare_small_pages": given.bare_small_pages}
        | {"warnings": warnings, "verdict": verdict}
        | {"live": [asdict(each) | {"ratio": each.ratio} for each in lives]}
        | {"http": [asdict(each) | {"ratio": each.ratio} for each in uploads]},
    )


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    made = parser("decoder", __doc__)
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--cores", type=int, default=2, help="how many the server has, and the bare decoder (2)")
    made.add_argument("--speakers", type=int, default=2, help="who stream at once, and bare processes for them (2)")
    made.add_argument("--rounds", type=int, default=3, help="server and bare decoder in turn, so often (3)")
    made.add_argument("--http-seconds", type=float, default=300.0, help="length of the uploaded file (300)")
    made.add_argument("--only", choices=["live", "http"], help="one of the two parts")
    made.add_argument("--flat-out", action="store_true", help="the bare decoder does not wait for what is spoken")
    made.add_argument(
        "--bare-partial-ms",
        type=int,
        default=StreamOptions().partial_ms,
        help="the bare decoder's streaming pass takes as much at a time as the engine's does for this; 100 at least",
    )
    made.add_argument(
        "--bare-small-pages", action="store_true", help="the bare decoder without the large pages that the engine uses"
    )
    return made.parse_args()


def measure(compared: Comparison, given: argparse.Namespace) -> tuple[list[Live], list[Upload], list[str]]:
    """All rounds, and what is doubtful about the warm-up."""
    clips = list(compared.cuts)
    sets = {way: some for way, some in zip(LIMITS, (calm(compared.cuts), clips), strict=True) if some}
    composed = compose(clips, given.http_seconds, GAP_MS)
    lives: list[Live] = []
    uploads: list[Upload] = []
    processes = max(compared.speakers, workers_of(compared.settings, compared.cores))
    with (
        Server(TARGETS["server"], compared.settings, compared.cores) as server,
        bare_decoders(processes, compared.cores, large_pages=compared.large_pages) as decoders,
    ):
        warnings = compared.warm_up(server, decoders)
        for turn in range(given.rounds):
            if given.only != "http":
                lives += [compared.live(server, decoders, way, clips, turn) for way, clips in sets.items()]
            if given.only != "live":
                uploads.append(compared.upload(server, decoders, composed, turn))
    return lives, uploads, warnings


def live_row(live: Live) -> Row:
    """One round as a line."""
    return {
        "recordings": f"{live.recordings}, {live.way}",
        "audio s": round(live.audio, 1),
        "utterances": live.utterances,
        "server": round(live.server_cpu, 2),
        "at rest": round(live.idle_cores, 3),
        "streaming": round(live.workers.streaming, 2),
        "final": round(live.workers.final, 2),
        "bare streaming": round(live.bare.streaming, 2),
        "bare final": round(live.bare.final, 2),
        "ratio": round(live.ratio, 3),
        "voided": live.voided,
        "voided s": round(live.voided_cpu, 2),
        "started": live.started,
        "latency_ms p50": rounded(live.latency_p50, 0),
        "valid": "NO" if live.problems else "yes",
    }


def upload_row(done: Upload) -> Row:
    """One round as a line."""
    return {
        "file s": round(done.audio, 1),
        "pieces": done.pieces,
        "server wall s": round(done.server_wall, 2),
        "bare wall s": round(done.bare_wall, 2),
        "server x live": round(done.audio / done.server_wall, 1),
        "bare x live": round(done.audio / done.bare_wall, 1),
        "ratio": round(done.ratio, 3),
        "started": done.started,
    }


def judge(lives: Sequence[Live], uploads: Sequence[Upload]) -> list[dict[str, Any]]:
    """The medians of the rounds' ratios, beside what they are to be; invalid rounds count only if all are."""
    verdict: list[dict[str, Any]] = []
    for way, limit in LIMITS.items():
        rounds = [each for each in lives if each.way == way]
        found = median([each.ratio for each in rounds if not each.problems] or [each.ratio for each in rounds])
        if found is not None:
            verdict.append(_claim(f"server CPU by the bare decoder's, {way}: at most", found, limit, found <= limit))
    found = median([each.ratio for each in uploads])
    if found is not None:
        claim = "HTTP throughput by the bare decoder's: at least"
        verdict.append(_claim(claim, found, LEAST_THROUGHPUT, found >= LEAST_THROUGHPUT))
    return verdict


def _claim(claim: str, value: float, limit: float, met: bool) -> dict[str, Any]:
    return {"claim": claim, "limit": limit, "value": round(value, 3), "met": "yes" if met else "NO"}


def warn(live: Live) -> list[str]:
    """What makes a round doubtful."""
    return [f"DOUBTFUL: {live.way}: {problem}" for problem in live.problems]


def report(rows: Sequence[Row], uploads: Sequence[Upload], verdict: Sequence[Row], warnings: Sequence[str]) -> None:
    """Print what was measured."""
    if rows:
        print(f"{table(rows)}\n\n{NOTES}\n")
    if uploads:
        print(table([upload_row(each) for each in uploads]) + "\n")
    print("Verdict, medians of the rounds\n" + table(verdict))
    for warning in warnings:
        print(warning)


if __name__ == "__main__":
    main()
