"""Word error rate and delays over a folder of recordings, streamed live and uploaded over HTTP.

The folder has a manifest.jsonl (one JSON object per line with file, text, language, and optionally tags and note), or
pairs of .wav and .txt (one line per utterance). In a stream 1 s of silence follows each recording. The server is asked
for the language of --language if it is a single one, else for `auto`.

wer             word error rate; in Chinese, Japanese and Korean of characters; ci95: bootstrap over recordings
revised         number of words of partials that were changed later, for each word of the finals
first_token, latency    first_token_ms and latency_ms of the finals, which the server measures
first_partial   ms from sending the first voiced sample to the first text, measured by the client
endpoint        ms from sending the last frame of an endpoint's silence to its final, measured by the client
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.common.live_load import play, utterance_times
from bench.common.recordings import Recording, load, ordered_playlist
from bench.common.report import Row, argument_parser, print_progress, print_report, run_conditions, words
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import summary
from bench.common.transcript import joined_text
from bench.common.word_error_rate import describe, score


@dataclass(frozen=True, slots=True)
class Result:
    """The transcripts of all recordings, streamed or uploaded."""

    way: str
    texts: Sequence[tuple[Recording, str]]
    columns: Row  # further columns of the table, for all languages together
    problems: Sequence[str]

    def rows(self) -> list[Row]:
        """Return a row of the table for all languages, and a row for each language if there are several."""
        scores = [(each.language, score(each.text, text, each.language)) for each, text in self.texts]
        languages = sorted({language for language, _ in scores})
        total = {"way": self.way, "language": "all"} | describe(each for _, each in scores) | dict(self.columns)
        by_language = [
            {"way": self.way, "language": name} | describe(each for language, each in scores if language == name)
            for name in languages
        ]
        return [total, *by_language] if len(languages) > 1 else [total]

    def as_json(self) -> dict[str, Any]:
        """Return the transcript of each recording."""
        recordings = [
            {"file": each.name, "language": each.language, "reference": each.text, "text": text}
            | asdict(score(each.text, text, each.language))
            for each, text in self.texts
        ]
        return {"way": self.way, "recordings": recordings}


def percentiles(times: Mapping[str, Sequence[float]]) -> dict[str, object]:
    """Return columns for times, whose names end with `_ms`."""
    summaries = {name.removesuffix("_ms"): summary(values) for name, values in times.items()}
    return {f"{name} {each}": values[each] for name, values in summaries.items() for each in ("p50", "p95")}


def stream(server: ServerProcess, recordings: Sequence[Recording], args: argparse.Namespace) -> Result:
    """Stream all recordings on one connection."""
    run = uvloop.run(play(server, [ordered_playlist(recordings)], language=args.ask, seed=args.seed, speed=args.speed))
    utterances = run.utterances()
    revised, total = sum(each.revised_words for each in utterances), sum(each.words for each in utterances)
    columns = {"utterances": len(utterances), "revised": round(revised / max(1, total), 2), "dropped": run.dropped}
    texts = [(part.recording, joined_text(utterances)) for part, utterances in run.parts()]
    return Result("streamed", texts, columns | percentiles(utterance_times(utterances)), run.problems())


def upload(server: ServerProcess, recordings: Sequence[Recording], language: str) -> Result:
    """Upload each recording as a WAV file over HTTP, one at a time."""
    texts, latencies, problems = list[tuple[Recording, str]](), list[float](), list[str]()
    for recording in recordings:
        response = server.transcribe(recording.pcm, language)
        if response.is_success:
            texts.append((recording, response.json()["text"]))
            latencies.append(response.json()["latency_ms"])
        else:
            texts.append((recording, ""))
            problems.append(f"{recording.name}: HTTP {response.status_code} {response.text[:200]}")
    return Result("http", texts, percentiles({"latency_ms": latencies}), problems)


def main() -> None:
    """Run the command."""
    parser = argument_parser("accuracy", __doc__)
    parser.add_argument("--backend", default="mock", help="engine (mock)")
    parser.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    parser.add_argument("--language", type=words, default=[], metavar="L,L", help="languages of the recordings (all)")
    parser.add_argument("--only", choices=["single"], help="leave out long, composed and paused recordings")
    parser.add_argument("--speed", type=float, default=1.0, help="speed of the streams; 1 is live (1)")
    parser.add_argument("--cores", type=int, metavar="N", help="number of cores for the server (all)")
    args = parser.parse_args()
    args.ask = args.language[0] if len(args.language) == 1 else "auto"
    recordings = [each for each in load(args.folder, args.language, single=args.only == "single") if each.text]
    settings = server_settings(args.backend, 8, args.set)
    cores = sorted(os.sched_getaffinity(0))[: args.cores]
    conditions = run_conditions("accuracy", settings, server=cores)
    with ServerProcess(APP, settings, cores) as server:
        print_progress("streamed")
        results = [stream(server, recordings, args)]
        print_progress("uploaded")
        results.append(upload(server, recordings, args.ask))
    print(f"{len(recordings)} recordings, {sum(each.seconds for each in recordings):.0f} s\n")
    rows = [row for each in results for row in each.rows()]
    problems = [f"{each.way}: {problem}" for each in results for problem in each.problems]
    print_report(args, conditions, rows, problems, results=[each.as_json() for each in results])


if __name__ == "__main__":
    main()
