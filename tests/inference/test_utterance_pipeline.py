"""Samples in, streams fed: what every engine gets to hear, however the audio came."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends.base import StreamOptions
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtteranceEnded, UtteranceEvent, UtterancePipeline, UtteranceStarted
from inference.vad import FixedVad, FrameDecisions
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, Samples, Signal, to_signal
from tests.inference.fakes import THRESHOLD, Engine, FakeStream, draw, pipeline_of

NOTHING = np.zeros(0, np.int16)


@dataclass(frozen=True)
class Utterance:
    """What is known of one utterance; positions are samples."""

    audio: bytes
    calls: tuple[str, ...]
    start: int
    voiced_start: int
    voiced_end: int
    reason: Reason
    decided_at: int

    def later(self, samples: int) -> Utterance:
        return replace(
            self,
            start=self.start + samples,
            voiced_start=self.voiced_start + samples,
            voiced_end=self.voiced_end + samples,
            decided_at=self.decided_at + samples,
        )


def feed_all(pipeline: UtterancePipeline, samples: Samples) -> list[UtteranceEvent]:
    happened = pipeline.feed(samples)
    while pipeline.has_backlog:
        happened += pipeline.feed(NOTHING)
    return happened


def listen(
    audio: Samples, sizes: list[int], commits: list[int] | None = None, options: SegmenterOptions | None = None
) -> list[Utterance]:
    """The utterances of `audio` cut into messages of `sizes` samples, over and over, with commits at samples."""
    engine = Engine()
    pipeline = pipeline_of(engine, options)
    happened: list[UtteranceEvent] = []
    size = cycle(sizes)
    first = 0
    for commit in [*sorted(commits or []), len(audio)]:
        while first < commit:
            end = min(commit, first + next(size))
            happened += feed_all(pipeline, audio[first:end])
            first = end
        happened += pipeline.end(Reason.COMMIT)
    assert pipeline.stream is None
    assert [type(each) for each in happened] == [UtteranceStarted, UtteranceEnded] * len(engine.streams)
    ended = [each for each in happened if isinstance(each, UtteranceEnded)]
    assert [each.stream for each in ended] == engine.streams
    return [
        Utterance(
            stream.audio.tobytes(),
            tuple(stream.calls),
            each.start,
            each.voiced_start,
            each.voiced_end,
            each.reason,
            each.decided_at,
        )
        for each, stream in zip(ended, engine.streams, strict=True)
    ]


def test_exactly_its_samples() -> None:
    """A stream gets every sample from its start to its end once and in order, and is told where it paused."""
    audio = draw("." * 20 + "VVVVV" + "." * 30)
    (utterance,) = listen(audio, [FRAME_SAMPLES])
    assert utterance.start == 5 * FRAME_SAMPLES
    assert utterance.audio == to_signal(audio[5 * FRAME_SAMPLES : 35 * FRAME_SAMPLES]).tobytes()
    assert utterance.calls == (f"pause@{30 * FRAME_SAMPLES}", f"finish@{30 * FRAME_SAMPLES}")


def test_held_silence() -> None:
    """Silence after a pause is pushed only once the speaker goes on."""
    engine = Engine()
    pipeline = pipeline_of(engine)
    seen = []
    for frames in ("VVV" + "." * 9, ".", "." * 10, "V"):
        feed_all(pipeline, draw(frames))
        seen.append(len(engine.streams[0].all_pushed) // FRAME_SAMPLES)
    assert seen == [12, 13, 13, 24]
    assert engine.streams[0].calls == [f"pause@{13 * FRAME_SAMPLES}"]


def test_held_silence_of_a_long_pause() -> None:
    """Silence held back longer than a cut is searched for is still there when the speaker goes on."""
    audio = draw("VVV" + "." * 45 + "VVVV" + "." * 101)
    utterances = listen(audio, [FRAME_SAMPLES], options=SegmenterOptions(2000, 1000))
    assert utterances[0].audio == to_signal(audio[: len(utterances[0].audio) // 4]).tobytes()
    assert utterances == listen(audio, [len(audio)], options=SegmenterOptions(2000, 1000))


def test_cut() -> None:
    """After a cut the first stream is told where it ended, and the next one gets what follows."""
    audio = draw("V" * 40 + "." * 4 + "V" * 6 + "." * 30)
    first, second = listen(audio, [FRAME_SAMPLES], options=SegmenterOptions(500, 1000))
    assert first.reason is Reason.MAX_LENGTH
    assert first.audio + second.audio == to_signal(audio[: second.start + len(second.audio) // 4]).tobytes()


def test_commit_between_frames() -> None:
    """A commit anywhere ends the utterance at the last sample, and frames are counted from there."""
    audio = draw("V" * 20)
    first, second = listen(audio, [1000], commits=[1001])
    assert (first.reason, first.decided_at, second.start) == (Reason.COMMIT, 1001, 1001)
    assert first.audio + second.audio == to_signal(audio).tobytes()


def test_commit_judges_the_tail_by_itself() -> None:
    """A few voiced samples before a commit are voice, though a frame of them and silence would not be."""
    (utterance,) = listen(draw("V")[:10], [10])
    assert (utterance.voiced_start, utterance.voiced_end) == (0, 10)


def test_nothing_to_end() -> None:
    """A commit in silence, or in nothing, opens no stream."""
    assert listen(draw("...")[:900], [900], commits=[0, 400]) == []


def test_one_end_at_a_time() -> None:
    """However much audio comes at once, one call ends at most one utterance and says that it is behind."""
    engine = Engine()
    pipeline = pipeline_of(engine, SegmenterOptions(silence_ms=100))
    happened = pipeline.feed(draw("VVV.....VVV.....VVV....."))
    assert [type(each) for each in happened] == [UtteranceStarted, UtteranceEnded]
    assert pipeline.has_backlog
    assert pipeline.position == 24 * FRAME_SAMPLES
    feed_all(pipeline, NOTHING)
    assert len(engine.streams) == 3
    assert not pipeline.has_backlog


def test_behind_cannot_end() -> None:
    """Ending while samples are not yet heard is refused."""
    pipeline = pipeline_of(Engine(), SegmenterOptions(silence_ms=100))
    pipeline.feed(draw("VVV.....VVV....."))
    with pytest.raises(ValueError, match="not under a frame"):
        pipeline.end(Reason.COMMIT)


def test_cancel() -> None:
    """Cancelling drops the open utterance, and only that; again, nothing."""
    engine = Engine()
    pipeline = pipeline_of(engine)
    feed_all(pipeline, draw("VVV" + "." * 25 + "VVV"))
    pipeline.cancel()
    pipeline.cancel()
    assert [stream.cancelled for stream in engine.streams] == [False, True]
    assert pipeline.stream is None


def test_cancel_what_was_not_handed_over() -> None:
    """An utterance that ended in the very call in which the engine failed is dropped too."""

    def fail_second(stream: FakeStream) -> None:
        if len(engine.streams) == 2:
            raise RuntimeError

    engine = Engine(fail_second)
    pipeline = pipeline_of(engine, SegmenterOptions(500, 1000))
    with pytest.raises(RuntimeError):
        feed_all(pipeline, draw("V" * 60))
    pipeline.cancel()
    assert engine.streams[0].cancelled


def test_cancel_what_cannot_finish() -> None:
    """A stream whose `finish` failed is dropped too."""

    class Broken(FakeStream):
        def pause(self) -> None:
            raise RuntimeError

    stream = Broken()
    engine = Engine()
    engine.open = lambda _: stream  # type: ignore[method-assign,assignment] # a test's own engine
    pipeline = pipeline_of(engine)
    with pytest.raises(RuntimeError):
        feed_all(pipeline, draw("VVV" + "." * 30))
    pipeline.cancel()
    assert stream.cancelled


# Properties

options = st.builds(
    SegmenterOptions,
    silence_ms=st.sampled_from([100, 110, 500, 2000]),
    max_segment_ms=st.sampled_from([1000, 1010, 2000, 30_000]),
)
recordings = st.lists(
    st.tuples(st.integers(1, 12_000), st.sampled_from([0, 0, 50, 290, 310, 2000, 9000])), min_size=1, max_size=12
).map(
    lambda runs: np.concatenate(
        [
            np.random.default_rng(number).integers(-peak, peak + 1, n).astype(np.int16)
            for number, (n, peak) in enumerate(runs)
        ]
    )
)
sizes = st.lists(st.sampled_from([1, 7, 160, 319, 320, 321, 1600, 4096, 131_072]), min_size=1, max_size=6)
commits = st.lists(st.integers(0, 60_000), max_size=4)


@given(options, recordings, sizes, commits)
@example(SegmenterOptions(100, 1000), draw("VVV......VVVV"), [1], [2001])
def test_any_chunking(options: SegmenterOptions, audio: Samples, sizes: list[int], commits: list[int]) -> None:
    """However audio is cut into messages, every stream hears the same and is told the same."""
    commits = [commit for commit in commits if commit <= len(audio)]
    sizes = [max(size, 100) for size in sizes] if len(audio) > 20_000 else sizes  # keeps the test fast
    assert listen(audio, [len(audio)], commits, options) == listen(audio, sizes, commits, options)


@given(options, recordings, sizes, commits)
def test_no_sample_twice(options: SegmenterOptions, audio: Samples, sizes: list[int], commits: list[int]) -> None:
    """Each utterance is a piece of the connection's audio, and no sample belongs to two."""
    commits = [commit for commit in commits if commit <= len(audio)]
    before = 0
    for utterance in listen(audio, [max(size, 100) for size in sizes], commits, options):
        end = utterance.start + len(utterance.audio) // 4
        assert utterance.start >= before
        assert utterance.audio == to_signal(audio[utterance.start : end]).tobytes()
        before = end


@given(options, recordings, st.integers(1, 100))
def test_prepended_silence(options: SegmenterOptions, audio: Samples, frames: int) -> None:
    """Whole frames of silence before everything else shift times only, once there is silence for the pre-roll."""
    audio = np.concatenate((draw("." * 15), audio))
    longer = np.concatenate((draw("." * frames), audio))
    shifted = [utterance.later(frames * FRAME_SAMPLES) for utterance in listen(audio, [5000], options=options)]
    assert shifted == listen(longer, [5000], options=options)


class Counting:
    """A detector that remembers how much it judged."""

    def __init__(self) -> None:
        self.frames_judged = 0
        self._vad = FixedVad(THRESHOLD)

    @property
    def threshold(self) -> float:
        return self._vad.threshold

    def frames(self, signal: Signal) -> FrameDecisions:
        judged = self._vad.frames(signal)
        self.frames_judged += len(judged[0])
        return judged

    def set_threshold(self, threshold: float) -> None:
        self._vad.set_threshold(threshold)


def test_the_threshold_can_change() -> None:
    """What comes after the change is judged by it, and nothing before."""
    pipeline = UtterancePipeline(Counting(), SegmenterOptions(), Engine().open, StreamOptions())
    before = feed_all(pipeline, draw(("V" * 10 + "." * 40) * 2))
    pipeline.set_vad_threshold(30_000.0)
    after = feed_all(pipeline, draw(("V" * 10 + "." * 40) * 2))

    assert [type(event) for event in before] == [UtteranceStarted, UtteranceEnded] * 2
    assert after == []


@given(
    pictures=st.lists(st.sampled_from(["VVVVVV", "." * 30, "V.V.V", "." * 3]), max_size=12), size=st.integers(1, 20_000)
)
def test_every_frame_is_judged_once(pictures: list[str], size: int) -> None:
    """A detector remembers what it heard, so no frame may come twice, not even those after an utterance's end."""
    audio, vad = draw("".join(pictures)), Counting()
    pipeline = UtterancePipeline(vad, SegmenterOptions(), Engine().open, StreamOptions())
    for first in range(0, len(audio), size):
        feed_all(pipeline, audio[first : first + size])

    assert vad.frames_judged == len(audio) // FRAME_SAMPLES
