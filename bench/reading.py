"""What noise and its segmentation cost in words: the bare second pass over the utterances that each detector finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.audio import Clip
from bench.ears import Heard, hear
from bench.report import Progress
from bench.room import Talk, noises
from bench.second_pass import decode_alone
from bench.wer import Score, describe, score
from inference.vad import VadOptions
from inference.vad_factory import MakeVad
from protocol.pcm import Samples


def readable(clips: Sequence[Clip]) -> list[Clip]:
    """Those that the engine can read and whose words are known."""
    return [clip for clip in clips if clip.text and clip.language == "en"]


def word_errors(
    conversation: Sequence[Talk],
    *,
    vads: Mapping[str, MakeVad],
    options: VadOptions,
    level: int,
    where: Sequence[tuple[str, int]],
    babblers: Sequence[Clip],
) -> list[dict[str, Any]]:
    """One row for clean audio and one for each of `where` (noise, dB), with every detector's word error rate.

    `oracle` is read from the same audio, cut where the first detector cuts the clean talk.
    """
    rows = []
    bar = Progress(1 + len(where))
    for name, ratio in [("clean", None), *where]:
        bar.step(f"reading {name} {ratio}")
        scores: dict[str, list[Score]] = {vad: [] for vad in ["oracle", *vads]}
        for number, talk in enumerate(conversation):
            clean = talk.heard(level, None, 0)
            noise = noises(len(talk.signal), number, babblers)[name] if ratio is not None else None
            samples = talk.heard(level, noise, ratio or 0)
            cuts = {"oracle": hear(clean, next(iter(vads.values()))(options))}
            cuts |= {vad: hear(samples, make(options)) for vad, make in vads.items()}
            for vad, heard in cuts.items():
                scores[vad].append(_score(talk, samples, heard))
        rows.append(
            {"noise": name, "snr": ratio, "level": level} | {vad: describe(each) for vad, each in scores.items()}
        )
    bar.end()
    return rows


def _score(talk: Talk, samples: Samples, heard: Heard) -> Score:
    pieces = [samples[each.start : each.end].astype("<i2").tobytes() for each in heard.utterances]
    text = " ".join(said for said, _ in decode_alone(pieces))
    return score(" ".join(placed.clip.text or "" for placed in talk.placed), text)
