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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.common.live_load import play, times_of
from bench.common.recordings import Recording, in_order, load
from bench.common.report import Progress, Row, conditions, parser, print_report, words
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import Summary, summary
from bench.common.transcript import joined
from bench.common.word_error_rate import describe, score

TIMES = ("first_token_ms", "first_partial_ms", "latency_ms", "endpoint_ms")


@dataclass(slots=True)
class Result:
    """All recordings, transcribed in one way."""

    way: str
    texts: list[tuple[Recording, str]] = field(default_factory=list)
    times: dict[str, Summary] = field(default_factory=dict)  # in ms
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def word_error_rates(self) -> dict[str, dict[str, object]]:
        """By language, and under `all`."""
        scores = [(each.language, score(each.text or "", text, each.language)) for each, text in self.texts]
        languages = sorted({language for language, _ in scores})
        of = {name: describe(one for language, one in scores if language == name) for name in languages}
        return {"all": describe(one for _, one in scores)} | (of if len(of) > 1 else {})

    def rows(self) -> list[Row]:
        """One line of the table for each language; the first, of all languages, has the times too."""
        pairs = [(name, percentile) for name in TIMES for percentile in ("p50", "p95")]
        times = {f"{name.removesuffix('_ms')} {each}": self.times.get(name, {}).get(each) for name, each in pairs}
        rates = [{"way": self.way, "language": language} | rate for language, rate in self.word_error_rates().items()]
        return [rates[0] | self.facts | times, *rates[1:]]

    def as_json(self) -> dict[str, Any]:
        """Everything, with the text of each recording."""
        told = [
            {"file": each.name, "language": each.language, "reference": each.text, "text": text}
            | asdict(score(each.text or "", text, each.language))
            for each, text in self.texts
        ]
        others = {"times": self.times, "facts": self.facts, "problems": self.problems}
        return {"way": self.way, "recordings": told, "wer": self.word_error_rates()} | others


def streamed(server: ServerProcess, recordings: Sequence[Recording], given: argparse.Namespace) -> Result:
    """One speaker streams all recordings."""
    done = uvloop.run(play(server, [in_order(recordings)], language=given.ask, seed=given.seed, speed=given.speed))
    utterances = done.utterances()
    revised, shown = sum(each.revised_words for each in utterances), sum(each.words for each in utterances)
    return Result(
        "streamed",
        texts=[(part.recording, joined(said)) for part, said in done.parts()],
        times={name: summary(values) for name, values in times_of(utterances).items()},
        facts={
            "utterances": len(utterances),
            "revised": round(revised / max(1, shown), 2),
            "dropped": done.dropped,
        },
        problems=done.problems(),
    )


def uploaded(server: ServerProcess, recordings: Sequence[Recording], language: str) -> Result:
    """Each recording as a WAV file over HTTP, one at a time."""
    result, latencies = Result("http"), list[float]()
    for recording in recordings:
        answer = server.transcribe(recording.pcm, language)
        told: dict[str, Any] = answer.json() if answer.is_success else {"text": ""}
        result.texts.append((recording, told["text"]))
        if answer.is_success:
            latencies.append(told["latency_ms"])
        else:
            result.problems.append(f"{recording.name}: HTTP {answer.status_code} {answer.text[:200]}")
    result.times["latency_ms"] = summary(latencies)
    return result


def main() -> None:
    """Run the command."""
    made = parser("accuracy", __doc__)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", type=words, default=[], metavar="L,L", help="of the recordings (all)")
    made.add_argument("--only", choices=["single"], help="leave out long, composed and paused recordings")
    made.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast as live (1)")
    made.add_argument("--cores", type=int, metavar="N", help="use so many cores for the server (all)")
    given = made.parse_args()
    given.ask = given.language[0] if len(given.language) == 1 else "auto"
    recordings = [each for each in load(given.folder, given.language, single=given.only == "single") if each.text]
    settings = server_settings(given.backend, 8, given.set)
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    ran = conditions("accuracy", settings, server=cores)
    progress = Progress(2)
    with ServerProcess(APP, settings, cores) as server:
        progress.step("streamed")
        results = [streamed(server, recordings, given)]
        progress.step("uploaded")
        results.append(uploaded(server, recordings, given.ask))
    print(f"{len(recordings)} recordings, {sum(each.seconds for each in recordings):.0f} s\n")
    rows = [row for each in results for row in each.rows()]
    problems = [f"{each.way}: {problem}" for each in results for problem in each.problems]
    print_report(given, ran, rows, problems, results=[each.as_json() for each in results])


if __name__ == "__main__":
    main()
