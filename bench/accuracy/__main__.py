"""Word error rate and delays over a folder of recordings, streamed live and uploaded over HTTP.

The folder has a manifest.jsonl (one JSON object per line with file, text, language, and optionally tags and note), or
pairs of .wav and .txt (one line per utterance). In a stream 1 s of silence follows each recording. The server is asked
for the language of --language if it is a single one, else for `auto`.

wer             word error rate; in Chinese, Japanese and Korean of characters; ci95: bootstrap over recordings
revised         words of partials that were changed later, for each word of the finals
first_token, latency    in ms: first_token_ms and latency_ms of the finals: the server's own measures
first_partial   in ms, from sending the first voiced sample to the first text, seen by the client
endpoint        in ms, from sending the last frame of an endpoint's silence to its final, seen by the client
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.common.live_load import play, times_of
from bench.common.recordings import Recording, in_order, load
from bench.common.report import Row, argument_parser, print_progress, print_report, run_conditions, words
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import summary
from bench.common.transcript import joined
from bench.common.word_error_rate import describe, score


@dataclass(frozen=True, slots=True)
class Result:
    """All recordings, transcribed in one way."""

    way: str
    texts: Sequence[tuple[Recording, str]]
    columns: Row  # of the table, of all languages together
    problems: Sequence[str]

    def rows(self) -> list[Row]:
        """One line of the table for all languages, and one for each if there are several."""
        scores = [(each.language, score(each.text, text, each.language)) for each, text in self.texts]
        languages = sorted({language for language, _ in scores})
        whole = {"way": self.way, "language": "all"} | describe(one for _, one in scores) | dict(self.columns)
        of_each = [
            {"way": self.way, "language": name} | describe(one for language, one in scores if language == name)
            for name in languages
        ]
        return [whole, *of_each] if len(languages) > 1 else [whole]

    def as_json(self) -> dict[str, Any]:
        """The text of each recording."""
        told = [
            {"file": each.name, "language": each.language, "reference": each.text, "text": text}
            | asdict(score(each.text, text, each.language))
            for each, text in self.texts
        ]
        return {"way": self.way, "recordings": told}


def percentiles(times: Mapping[str, Sequence[float]]) -> dict[str, object]:
    """Columns of times in ms; their names end with `_ms`."""
    told = {name.removesuffix("_ms"): summary(values) for name, values in times.items()}
    return {f"{name} {each}": values[each] for name, values in told.items() for each in ("p50", "p95")}


def streamed(server: ServerProcess, recordings: Sequence[Recording], args: argparse.Namespace) -> Result:
    """One speaker streams all recordings."""
    done = uvloop.run(play(server, [in_order(recordings)], language=args.ask, seed=args.seed, speed=args.speed))
    utterances = done.utterances()
    revised, shown = sum(each.revised_words for each in utterances), sum(each.words for each in utterances)
    columns = {"utterances": len(utterances), "revised": round(revised / max(1, shown), 2), "dropped": done.dropped}
    texts = [(part.recording, joined(said)) for part, said in done.parts()]
    return Result("streamed", texts, columns | percentiles(times_of(utterances)), done.problems())


def uploaded(server: ServerProcess, recordings: Sequence[Recording], language: str) -> Result:
    """Each recording as a WAV file over HTTP, one at a time."""
    texts, latencies, problems = list[tuple[Recording, str]](), list[float](), list[str]()
    for recording in recordings:
        answer = server.transcribe(recording.pcm, language)
        if answer.is_success:
            texts.append((recording, answer.json()["text"]))
            latencies.append(answer.json()["latency_ms"])
        else:
            texts.append((recording, ""))
            problems.append(f"{recording.name}: HTTP {answer.status_code} {answer.text[:200]}")
    return Result("http", texts, percentiles({"latency_ms": latencies}), problems)


def main() -> None:
    """Run the command."""
    parser = argument_parser("accuracy", __doc__)
    parser.add_argument("--backend", default="mock", help="engine (mock)")
    parser.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    parser.add_argument("--language", type=words, default=[], metavar="L,L", help="of the recordings (all)")
    parser.add_argument("--only", choices=["single"], help="leave out long, composed and paused recordings")
    parser.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast as live (1)")
    parser.add_argument("--cores", type=int, metavar="N", help="use so many cores for the server (all)")
    args = parser.parse_args()
    args.ask = args.language[0] if len(args.language) == 1 else "auto"
    recordings = [each for each in load(args.folder, args.language, single=args.only == "single") if each.text]
    settings = server_settings(args.backend, 8, args.set)
    cores = sorted(os.sched_getaffinity(0))[: args.cores]
    conditions = run_conditions("accuracy", settings, server=cores)
    with ServerProcess(APP, settings, cores) as server:
        print_progress("streamed")
        results = [streamed(server, recordings, args)]
        print_progress("uploaded")
        results.append(uploaded(server, recordings, args.ask))
    print(f"{len(recordings)} recordings, {sum(each.seconds for each in recordings):.0f} s\n")
    rows = [row for each in results for row in each.rows()]
    problems = [f"{each.way}: {problem}" for each in results for problem in each.problems]
    print_report(args, conditions, rows, problems, results=[each.as_json() for each in results])


if __name__ == "__main__":
    main()
