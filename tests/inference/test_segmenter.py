"""Frames in, utterance actions out. Times in these tables are ms; a frame is 20 ms."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.segmenter import Segmenter, SegmenterOptions
from inference.segmenter_actions import Action, Closed, Opened, Paused, Resumed
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, samples_of
from tests.inference.fakes import feed, judge, ms_of

SECOND = 50
"""Frames."""


def picture(actions: list[Action]) -> list[str]:
    """Actions as short lines, in ms."""
    lines = []
    for action in actions:
        match action:
            case Opened(start, voiced_start):
                lines.append(f"open {ms_of(start)} voice {ms_of(voiced_start)}")
            case Paused(at):
                lines.append(f"pause {ms_of(at)}")
            case Resumed():
                lines.append("resume")
            case Closed(at, voiced_end, reason, known):
                lines.append(f"close {ms_of(at)} voice {ms_of(voiced_end)} {reason} known {ms_of(known)}")
    return lines


def actions_of(frames: str, silence_ms: int = 500, max_segment_ms: int = 30_000) -> list[str]:
    return picture(feed(Segmenter(SegmenterOptions(silence_ms, max_segment_ms)), *judge(frames)))


@pytest.mark.parametrize("frames", ["V", "VV", "VV.", "V.V.", "V...V", "VV...VV...VV", "V...V...V...V", "." * 60])
def test_clicks_open_nothing(frames: str) -> None:
    """Fewer than 3 voiced frames of any 5 are clicks, however many clicks there are."""
    assert actions_of(frames + "." * 60) == []


@pytest.mark.parametrize(
    ("frames", "voice"),
    [("VVV", 0), ("V.V.V", 0), ("VV..V", 0), ("V..VV", 0), (".VVV", 20), ("V..V.VV", 60), ("V....VVV", 100)],
)
def test_onset(frames: str, voice: int) -> None:
    """3 voiced frames of 5 open an utterance, whose voice starts at the first of those 5 that is voiced."""
    assert actions_of(frames) == [f"open 0 voice {voice}"]


def test_pre_roll() -> None:
    """An utterance's audio starts 300 ms before its voice."""
    assert actions_of("." * 20 + "VVV") == ["open 100 voice 400"]


def test_pause_resume_endpoint() -> None:
    """200 ms of silence pause, voice resumes, and 500 ms of silence end the utterance where it last paused."""
    assert actions_of("VVV" + "." * 24 + "V" + "." * 25) == [
        "open 0 voice 0",
        "pause 260",
        "resume",
        "pause 760",
        "close 760 voice 560 endpoint known 1060",
    ]


def test_one_frame_short() -> None:
    """A frame less than the pause or the silence does not pause or end anything."""
    assert actions_of("VVV" + "." * 9) == ["open 0 voice 0"]
    assert actions_of("VVV" + "." * 24) == ["open 0 voice 0", "pause 260"]


@pytest.mark.parametrize(("silence_ms", "frames"), [(100, 5), (110, 6), (200, 10)])
def test_short_silence(silence_ms: int, frames: int) -> None:
    """Where the silence that ends an utterance is no longer than a pause, it pauses and ends at once."""
    end = 60 + 20 * frames
    assert actions_of("VVV" + "." * frames, silence_ms) == [
        "open 0 voice 0",
        f"pause {end}",
        f"close {end} voice 60 endpoint known {end}",
    ]


def test_pre_roll_stops_at_the_previous_utterance() -> None:
    """Pre-roll never reaches into an utterance, but takes the silence that ended it."""
    assert actions_of("VVV" + "." * 25 + "VVV", silence_ms=500)[-1] == "open 260 voice 560"
    assert actions_of("VVV" + "." * 5 + "VVV", silence_ms=100)[-1] == "open 160 voice 160"


def test_commit_in_speech() -> None:
    """A commit ends the utterance at the last sample, and what follows is a new one that starts there."""
    segmenter = Segmenter(SegmenterOptions())
    assert picture(feed(segmenter, *judge("VVVV")) + segmenter.end(Reason.COMMIT)) == [
        "open 0 voice 0",
        "close 80 voice 80 commit known 80",
    ]
    assert picture(feed(segmenter, *judge("VVV"))) == ["open 80 voice 80"]


def test_commit_in_a_pause() -> None:
    """A commit in a pause ends the utterance where it paused."""
    segmenter = Segmenter(SegmenterOptions())
    feed(segmenter, *judge("VVV" + "." * 20))
    assert picture(segmenter.end(Reason.COMMIT)) == ["close 260 voice 60 commit known 460"]


def test_commit_with_a_voiced_tail_in_a_pause() -> None:
    """Less than a frame of voice before a commit resumes the utterance, which then ends with it."""
    segmenter = Segmenter(SegmenterOptions())
    feed(segmenter, *judge("VVV" + "." * 20))
    assert segmenter.end(Reason.COMMIT, 100, 1000.0, voiced=True) == [
        Resumed(),
        Closed(7460, 7460, Reason.COMMIT, 7460),
    ]


@pytest.mark.parametrize(("frames", "voice"), [("V", 0), ("..V", 40), ("VV", 0), ("V....", 0)])
def test_commit_promotes_an_onset(frames: str, voice: int) -> None:
    """Whatever voice is still being debounced becomes an utterance when the client commits."""
    segmenter = Segmenter(SegmenterOptions())
    feed(segmenter, *judge(frames))
    opened, closed = picture(segmenter.end(Reason.COMMIT))
    assert opened == f"open 0 voice {voice}"
    assert closed.startswith(f"close {20 * len(frames)} ")


@pytest.mark.parametrize("frames", ["", "...", "V.....", "." * 200])
def test_commit_in_silence(frames: str) -> None:
    """A commit finds nothing to end where nothing was voiced in the last 100 ms."""
    segmenter = Segmenter(SegmenterOptions())
    feed(segmenter, *judge(frames))
    assert segmenter.end(Reason.COMMIT, 319) == []


def test_voiced_tail_alone() -> None:
    """A few voiced samples and a commit are an utterance."""
    segmenter = Segmenter(SegmenterOptions())
    assert segmenter.end(Reason.COMMIT, 3, 1000.0, voiced=True) == [Opened(0, 0), Closed(3, 3, Reason.COMMIT, 3)]


def test_frames_restart_after_a_tail() -> None:
    """After a commit frames are counted from it, and pre-roll goes no further back."""
    segmenter = Segmenter(SegmenterOptions())
    segmenter.end(Reason.COMMIT, 7)
    assert feed(segmenter, *judge(".VVV")) == [Opened(7, 327)]


@pytest.mark.parametrize("silence_ms", [110, 250, 510])
def test_tail_never_ends_by_silence(silence_ms: int) -> None:
    """A commit whose tail would complete the silence is still answered as a commit."""
    segmenter = Segmenter(SegmenterOptions(silence_ms))
    feed(segmenter, *judge("VVV" + "." * (silence_ms // 20)))
    (closed,) = segmenter.end(Reason.COMMIT, 319)
    assert isinstance(closed, Closed)
    assert closed.reason is Reason.COMMIT


@pytest.mark.parametrize("max_segment_ms", [1000, 1010, 1019])
def test_tail_never_ends_by_length(max_segment_ms: int) -> None:
    """A commit whose tail would make the utterance too long is still answered as a commit."""
    segmenter = Segmenter(SegmenterOptions(500, max_segment_ms))
    feed(segmenter, *judge("V" * 49))
    (closed,) = segmenter.end(Reason.COMMIT, 319, 1000.0, voiced=True)
    assert closed == Closed(49 * 320 + 319, 49 * 320 + 319, Reason.COMMIT, 49 * 320 + 319)


def test_drain() -> None:
    """A drain is a commit with another reason."""
    segmenter = Segmenter(SegmenterOptions())
    feed(segmenter, *judge("VVVV"))
    assert picture(segmenter.end(Reason.DRAIN)) == ["close 80 voice 80 drain known 80"]


def test_too_long_is_cut_where_it_is_quietest() -> None:
    """An utterance of 30 s is cut in the middle of the quietest 100 ms of its last 5 s, not of an earlier one."""
    frames = "VV" + "V" * 18 * SECOND + "....." + "V" * (8 * SECOND) + "...5." + "V" * (4 * SECOND)
    before = 20 * (2 + 18 * SECOND + 5 + 8 * SECOND)
    assert actions_of(frames)[1] == f"close {before + 40} voice {before} max_length known 30000"


def test_quietest_is_by_power() -> None:
    """What is quietest is so by power: five even frames, not four silent ones and one that stands out."""
    frames = "V" * (26 * SECOND) + "....9" + "V" * SECOND + "44444" + "V" * (4 * SECOND)
    assert (
        actions_of(frames)[1]
        == f"close {20 * (27 * SECOND + 5) + 40} voice {20 * (27 * SECOND + 5)} max_length known 30000"
    )


def test_rest_of_a_cut_is_transcribed_again() -> None:
    """What follows a cut opens the next utterance at once, whose pre-roll stops at the cut."""
    frames = "V" * (26 * SECOND) + "....." + "V" * (4 * SECOND)
    assert actions_of(frames) == [
        "open 0 voice 0",
        "close 26040 voice 26000 max_length known 30000",
        "open 26040 voice 26100",
    ]


def test_too_long_in_a_pause() -> None:
    """An utterance that pauses as it becomes too long is cut where it paused."""
    assert actions_of("V" * 35 + "." * 20 + "VVV", max_segment_ms=1000) == [
        "open 0 voice 0",
        "pause 900",
        "close 900 voice 700 max_length known 1000",
        "open 900 voice 1100",
    ]


def test_too_long_as_it_pauses() -> None:
    """An utterance that pauses in the very frame that makes it too long is not a frame too long."""
    assert actions_of("V" * 41 + "." * 10, max_segment_ms=1010)[-1] == "close 860 voice 820 max_length known 1000"


def test_voice_before_the_search() -> None:
    """An utterance's end of voice is true even if it lies further back than a cut is searched for."""
    frames = "V" * 5 + "." * 40 + "." * 4 + "V"
    closed = actions_of(frames, silence_ms=2000, max_segment_ms=1000)[-1]
    assert closed.split()[2:] == ["voice", "100", "max_length", "known", "1000"]


def test_endless_speech() -> None:
    """Speech without an end is cut again and again, and no sample is left out."""
    cuts = [line.split() for line in actions_of("V" * 300, max_segment_ms=1000)]
    opened = [int(words[1]) for words in cuts if words[0] == "open"]
    closed = [int(words[1]) for words in cuts if words[0] == "close"]
    assert len(closed) >= 6
    assert opened == [0, *closed]


def test_stops_where_an_utterance_ends() -> None:
    """One call ends at most one utterance: the frames after it are to be fed again."""
    segmenter = Segmenter(SegmenterOptions(100))
    loudness, voiced = judge("VVV.....VVV.....")
    assert picture(segmenter.feed(loudness, voiced))[-1].startswith("close")
    assert segmenter.position == 8 * FRAME_SAMPLES


def test_illegal_frames() -> None:
    """Frames without a decision are refused."""
    with pytest.raises(ValueError, match="decisions"):
        Segmenter(SegmenterOptions()).feed([1.0, 2.0], [True])


@pytest.mark.parametrize("tail", [-1, FRAME_SAMPLES, 10_000])
def test_illegal_tail(tail: int) -> None:
    """A tail of a frame or more is refused: it is to be passed to `feed`."""
    with pytest.raises(ValueError, match=f"a tail of {tail} samples"):
        Segmenter(SegmenterOptions()).end(Reason.COMMIT, tail)


def test_expectant() -> None:
    """Something may happen soon while an onset is debounced or an utterance is open."""
    segmenter = Segmenter(SegmenterOptions())
    seen = []
    for frames in ("..", "V", ".....", "VVV", "." * 24, "."):
        feed(segmenter, *judge(frames))
        seen.append(segmenter.speech_possible)
    assert seen == [False, True, False, True, True, False]


# Properties

options = st.builds(
    SegmenterOptions,
    silence_ms=st.sampled_from([100, 110, 200, 250, 500, 1500, 5000]),
    max_segment_ms=st.sampled_from([1000, 1010, 1500, 3000, 30_000]),
)
runs = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.0, 1.0, 50.0, 1000.0, 2000.0])), min_size=1, max_size=25
)


def spread(runs: list[tuple[int, float]]) -> tuple[list[float], list[bool]]:
    loudness = [level for length, level in runs for _ in range(length)]
    return loudness, [level >= 300 for level in loudness]


@dataclass
class Utterance:
    start: int
    voiced_start: int
    at: int = -1
    voiced_end: int = -1
    reason: Reason = Reason.ENDPOINT


def utterances_of(actions: list[Action]) -> list[Utterance]:
    """Utterances; fails on an illegal order of actions."""
    utterances: list[Utterance] = []
    paused: int | None = None
    is_open = False
    for action in actions:
        match action:
            case Opened(start, voiced_start):
                assert not is_open
                is_open, paused = True, None
                utterances.append(Utterance(start, voiced_start))
            case Paused(at):
                assert is_open
                assert paused is None
                paused = at
            case Resumed():
                assert paused is not None
                paused = None
            case Closed(at, voiced_end, reason, known):
                assert is_open
                assert at <= known
                is_open = False
                last = utterances[-1]
                last.at, last.voiced_end, last.reason = at, voiced_end, reason
                if paused is not None:
                    assert at == paused
    assert not is_open
    return utterances


@given(options, runs, st.lists(st.integers(1, 60), max_size=30))
def test_any_split(options: SegmenterOptions, runs: list[tuple[int, float]], sizes: list[int]) -> None:
    """However frames are spread over calls, the actions are the same."""
    loudness, voiced = spread(runs)
    whole, pieces = Segmenter(options), Segmenter(options)
    expected = feed(whole, loudness, voiced)
    actions, first = [], 0
    for size in [*sizes, len(voiced)]:
        actions += feed(pieces, loudness[first : first + size], voiced[first : first + size])
        first += size
    assert expected == actions


class Ear:
    """A segmenter, with what it was told and what it did."""

    def __init__(self, options: SegmenterOptions) -> None:
        self.segmenter = Segmenter(options)
        self.actions: list[Action] = []
        self.judged: list[tuple[int, int, bool]] = []
        """Start, end, and whether it is voiced, of every frame and tail."""
        self.long_runs: list[tuple[int, int]] = []
        """Start and end of 60 ms of voice and more, in whole frames."""

    def hear(self, loudness: list[float], voiced: list[bool]) -> None:
        run = start = self.segmenter.position
        for voice in voiced:
            end = start + FRAME_SAMPLES
            self.judged.append((start, end, voice))
            run = run if voice else end
            if end - run >= 3 * FRAME_SAMPLES:
                self.long_runs.append((run, end))
            start = end
        self.actions += feed(self.segmenter, loudness, voiced)

    def commit(self, tail: int, *, voiced: bool) -> None:
        if tail:
            self.judged.append((self.segmenter.position, self.segmenter.position + tail, voiced))
        self.actions += self.segmenter.end(Reason.COMMIT, tail, 1000.0 * voiced, voiced=voiced)

    @property
    def utterances(self) -> list[Utterance]:
        return utterances_of(self.actions)


commits = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 319), st.booleans()), max_size=4)


def ear_of(options: SegmenterOptions, runs: list[tuple[int, float]], commits: list[tuple[int, int, bool]]) -> Ear:
    loudness, voiced = spread(runs)
    ear = Ear(options)
    first = 0
    for count, tail, voice in [*commits, (len(voiced), 0, False)]:
        ear.hear(loudness[first : first + count], voiced[first : first + count])
        ear.commit(tail, voiced=voice)
        first += count
    return ear


@given(options, runs, commits)
@example(SegmenterOptions(2000, 1000), [(5, 1000.0), (44, 0.0), (1, 1000.0)], [])
def test_bounds(options: SegmenterOptions, runs: list[tuple[int, float]], commits: list[tuple[int, int, bool]]) -> None:
    """Utterances are in order and apart, never too long, and begin and end their voice where there is voice."""
    ear = ear_of(options, runs, commits)
    starts = {start for start, _, voice in ear.judged if voice}
    ends = {end for _, end, voice in ear.judged if voice}
    before = 0
    for each in ear.utterances:
        assert before <= each.start <= each.voiced_start < each.voiced_end <= each.at
        assert each.voiced_start - each.start <= samples_of(300)
        assert each.at - each.start <= samples_of(options.max_segment_ms)
        assert each.voiced_start in starts
        assert each.voiced_end in ends
        assert not [end for end in ends if each.voiced_end < end <= each.at]
        before = each.at


@given(options, runs, commits)
def test_no_voice_is_lost(
    options: SegmenterOptions, runs: list[tuple[int, float]], commits: list[tuple[int, int, bool]]
) -> None:
    """All voice of 60 ms or more lies inside an utterance, unless a cut for length runs through it."""
    ear = ear_of(options, runs, commits)
    utterances = ear.utterances
    cuts = [each.at for each in utterances if each.reason is Reason.MAX_LENGTH]
    for start, end in ear.long_runs:
        if not any(start < cut < end for cut in cuts):
            assert any(each.start <= start and end <= each.at for each in utterances), (start, end)


class Memory:
    """Asks for audio as a listener does: pre-roll when an utterance opens, held silence when it resumes."""

    def __init__(self, options: SegmenterOptions) -> None:
        self.segmenter = Segmenter(options)
        self.kept = 0
        self.pushed = 0

    def follow(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Opened(start):
                    self.pushed = start
                case Paused(at) | Closed(at):
                    self.push(at)
                case Resumed():
                    pass
        if self.segmenter.is_speaking:
            self.push(self.segmenter.position)
        assert self.kept <= self.segmenter.keep_from <= self.segmenter.position
        self.kept = self.segmenter.keep_from

    def push(self, until: int) -> None:
        if until > self.pushed:
            assert self.pushed >= self.kept
            self.pushed = until


@given(options, runs, st.lists(st.integers(1, 100), max_size=30))
@example(SegmenterOptions(2000, 1000), [(3, 1000.0), (46, 0.0), (3, 1000.0)], [1] * 60)
@example(SegmenterOptions(250, 1000), [(1, 0.0), (16, 1000.0), (10, 0.0), (22, 1000.0)], [28])
def test_keep_from(options: SegmenterOptions, runs: list[tuple[int, float]], sizes: list[int]) -> None:
    """Audio before `keep_from` is never asked for again."""
    loudness, voiced = spread(runs)
    memory = Memory(options)
    first = 0
    for size in [*sizes, len(voiced)]:
        end = first + size
        while first < min(end, len(voiced)):
            before = memory.segmenter.position
            memory.follow(memory.segmenter.feed(loudness[first:end], voiced[first:end]))
            first += (memory.segmenter.position - before) // FRAME_SAMPLES
    memory.follow(memory.segmenter.end(Reason.COMMIT))
