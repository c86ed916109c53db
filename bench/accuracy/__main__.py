"""Word error rate and delays over a folder of recordings, streamed live and uploaded over HTTP.

The folder has a manifest.jsonl (one JSON object per line with file, text, language, and optionally tags and note), or
pairs of .wav and .txt (one line per utterance). In a stream 1 s of silence follows each recording. The server is asked
for the language of --language if it is a single one, else for `auto`.

wer             word error rate; in Chinese, Japanese and Korean of characters; ci95: bootstrap over recordings
revised         words of partials that were changed later, for each word of the finals
first_token, latency    first_token_ms and latency_ms of the finals: the server's own measures
first_partial   from sending the first voiced sample to the first text, seen by the client
endpoint        from sending the last frame of an endpoint's silence to its final, seen by the client
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.common.live_load import play, times_of
from bench.common.recordings import PlaylistBuilder, Recording, load
from bench.common.report import Progress, Row, conditions, integers, parser, table, words, write_json
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings, silence_ms
from bench.common.stats import Summary, summary
from bench.common.transcript import joined
from bench.common.word_error_rate import Score, describe, score

MAX_OFFSET_MS = 3000  # several speakers start at random times up to so many ms apart


@dataclass(slots=True)
class Result:
    """All recordings, transcribed in one way."""

    way: str
    recordings: list[dict[str, Any]] = field(default_factory=list)  # texts, and errors and words of each
    times: dict[str, Summary] = field(default_factory=dict)  # in ms
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, recording: Recording, text: str) -> None:
        """Compare the text of a recording with its reference."""
        errors = asdict(score(recording.text or "", text, recording.language))
        entry = {"file": recording.name, "language": recording.language, "reference": recording.text, "text": text}
        self.recordings.append(entry | errors)

    def word_error_rates(self) -> dict[str, dict[str, object]]:
        """By language, and under `all`."""
        scores = [(each["language"], Score(each["errors"], each["words"])) for each in self.recordings]
        languages = sorted({language for language, _ in scores})
        rates = {"all": describe(each for _, each in scores)}
        if len(languages) > 1:
            rates |= {name: describe(each for language, each in scores if language == name) for name in languages}
        return rates


def streamed(
    server: ServerProcess, recordings: Sequence[Recording], speakers: int, given: argparse.Namespace
) -> Result:
    """Each speaker streams all recordings: one speaker in their order, several in random orders."""
    builder, generator = PlaylistBuilder(recordings), random.Random(given.seed)  # noqa: S311 - reproducible
    playlists = [builder.sequence(recordings)]
    if speakers > 1:
        playlists = [
            builder.sequence(generator.sample(recordings, len(recordings)), generator.randrange(MAX_OFFSET_MS))
            for _ in range(speakers)
        ]
    silence = silence_ms(given.settings)
    done = uvloop.run(
        play(server, playlists, silence_ms=silence, language=given.ask, seed=given.seed, speed=given.speed)
    )
    utterances = done.utterances()
    shown = sum(each.words for each in utterances)
    result = Result(f"streamed x{speakers}", problems=sorted(set(done.errors)))
    result.times = {name: summary(values) for name, values in times_of(utterances).items()}
    result.facts = {
        "utterances": len(utterances),
        "revised": round(sum(each.revised_words for each in utterances) / max(1, shown), 2),
        "dropped": done.dropped,
    }
    if done.generator.was_the_limit:
        result.problems.append(f"THE GENERATOR WAS THE LIMIT: {done.generator}")
    for part, of_part in done.parts():
        result.add(part.recording, joined(of_part))
    return result


def uploaded(server: ServerProcess, recordings: Sequence[Recording], language: str) -> Result:
    """Each recording as a WAV file over HTTP, one at a time."""
    result, latencies = Result("http"), list[float]()
    for recording in recordings:
        answer = server.transcribe(recording.pcm, language)
        if answer.is_success:
            latencies.append(answer.json()["latency_ms"])
        else:
            result.problems.append(f"{recording.name}: HTTP {answer.status_code} {answer.text[:200]}")
        result.add(recording, answer.json()["text"] if answer.is_success else "")
    result.times["latency_ms"] = summary(latencies)
    return result


def accuracy_rows(result: Result) -> list[Row]:
    """One line of the first table for each language."""
    facts = dict.fromkeys(("utterances", "revised", "dropped")) | result.facts
    return [
        {"way": result.way, "language": language, **rate}
        | {"ci95": "-".join(map(str, interval)) if isinstance(interval := rate["ci95"], list) else None}
        | (facts if language == "all" else {})
        for language, rate in result.word_error_rates().items()
    ]


def time_row(result: Result) -> Row:
    """One line of the second table."""
    names = ("first_token_ms", "first_partial_ms", "latency_ms", "endpoint_ms")
    return {"way": result.way} | {
        f"{name.removesuffix('_ms')} {percentile}": result.times.get(name, {}).get(percentile)
        for name in names
        for percentile in ("p50", "p95")
    }


def main() -> None:
    """Run the command."""
    made = parser("accuracy", __doc__)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", type=words, default=[], metavar="L,L", help="of the recordings (all)")
    made.add_argument("--only", choices=["single"], help="leave out long, composed and paused recordings")
    made.add_argument("--speakers", type=integers, default=[1], metavar="N,N", help="speakers of each run (1)")
    made.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast as live (1)")
    made.add_argument("--cores", type=integers, metavar="N", help="use so many cores for the server (all)")
    made.add_argument("--list", action="store_true", help="print the text of each recording")
    given = made.parse_args()
    given.ask = given.language[0] if len(given.language) == 1 else "auto"
    recordings = [each for each in load(given.folder, given.language, single=given.only == "single") if each.text]
    given.settings = server_settings(given.backend, max(given.speakers) + 8, given.set)
    cores = sorted(os.sched_getaffinity(0))[: given.cores[0] if given.cores else None]
    ran = conditions("accuracy", given.settings, server=cores)
    progress, results = Progress(len(given.speakers) + 1), list[Result]()
    with ServerProcess(APP, given.settings, cores) as server:
        for speakers in given.speakers:
            progress.step(f"streamed by {speakers}")
            results.append(streamed(server, recordings, speakers, given))
        progress.step("uploaded")
        results.append(uploaded(server, recordings, given.ask))
    print(f"{len(recordings)} recordings, {sum(each.seconds for each in recordings):.0f} s\n")
    print(table([row for each in results for row in accuracy_rows(each)]))
    print(f"\nTimes in ms\n{table([time_row(each) for each in results])}")
    for result in results:
        print("\n".join(f"{result.way}: {problem}" for problem in result.problems))
        if given.list:
            print("\n".join(f"{each['file']}: {each['text']}" for each in result.recordings))
    write_json(given, ran | {"results": [asdict(each) | {"wer": each.word_error_rates()} for each in results]})


if __name__ == "__main__":
    main()
