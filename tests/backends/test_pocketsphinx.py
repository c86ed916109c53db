"""The pocketsphinx engine with its real processes, on real speech."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import ASRBackend, ASRStream, EngineError, StreamOptions
from backends.pocketsphinx import hypothesis, process
from backends.pocketsphinx.backend import BATCH_NICENESS, FINAL_NICENESS, STREAMING_NICENESS, PocketsphinxBackend
from backends.pocketsphinx.hypothesis import words_only
from backends.pocketsphinx.options import PocketsphinxOptions
from backends.pocketsphinx.slots import LEAST_SAMPLES
from protocol.pcm import SAMPLE_RATE, Samples, Signal, ms, to_pcm, to_signal
from tests.backends.conformance import (
    DEADLINE,
    BackendConformance,
    children,
    decode,
    eventually,
    pieces,
    started,
)
from tests.processes import children_of, command_of, runs

pocketsphinx = pytest.importorskip("pocketsphinx")
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds its workers in Linux's /proc")

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = (ROOT / "references", ROOT.parent / "shared" / "speech")
"""Of this repository, and of the machine it is made on, if they are there."""

STREAMING, FINAL, BATCH = STREAMING_NICENESS, FINAL_NICENESS, BATCH_NICENESS
"""How to tell the workers: their niceness above this process's."""

WORKERS, STREAMS = 2, 2

EAGER = StreamOptions(partial_ms=100)
"""A speaker whose partials cover all but the last 100 ms."""


def read(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def duration(path: Path) -> float:
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())


@cache
def clips() -> list[Samples]:
    """The eight shortest recordings of 2 s and more, in whole jobs of the streaming pass."""
    paths = [path for folder in RECORDINGS for path in folder.glob("*.wav")]
    spoken = sorted((duration(path), path) for path in paths if duration(path) >= 2)
    if len(spoken) < 8:
        pytest.skip("too few recordings")
    chosen = [path for _, path in spoken[:8]]
    return [samples[: len(samples) // LEAST_SAMPLES * LEAST_SAMPLES] for samples in map(read, chosen)]


def clip(number: int) -> Signal:
    return to_signal(clips()[number])


@pytest.fixture(scope="module")
def make_backend() -> Callable[[], ASRBackend]:
    return lambda: PocketsphinxBackend(PocketsphinxOptions(WORKERS, STREAMS))


@pytest.fixture(scope="module")
def backend(make_backend: Callable[[], ASRBackend]) -> Iterator[ASRBackend]:
    for each in started(make_backend()):
        until(whole, "all workers")
        yield each


@pytest.fixture(scope="module")
def speech() -> Signal:
    return min(map(to_signal, clips()), key=len)


class TestPocketsphinx(BackendConformance):
    pass


# What a decoder says without this engine around it


@cache
def bare_decoder() -> Any:  # noqa: ANN401 - the package has no types
    return pocketsphinx.Decoder(samprate=SAMPLE_RATE, fwdflat=False, maxhmmpf=5000, pl_window=10, loglevel="FATAL")


@cache
def bare(pcm: bytes) -> str:
    """Text of a second pass."""
    decoder = bare_decoder()
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(pcm, False, True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return words_only(hypothesis.hypstr.split()) if hypothesis else ""


def bare_streaming(pcm: bytes) -> str:
    """Text of a streaming pass, before its end."""
    decoder = bare_decoder()
    decoder.reinit_feat()
    decoder.start_utt()
    for start in range(0, len(pcm), 2 * LEAST_SAMPLES):
        decoder.process_raw(pcm[start : start + 2 * LEAST_SAMPLES], False, False)
    hypothesis = decoder.hyp()
    text = words_only(hypothesis.hypstr.split()) if hypothesis else ""
    decoder.end_utt()
    return text


# Processes


def templates(parent: int) -> set[int]:
    """Processes that fork the workers of a process's engines."""
    return {pid for pid in children_of(parent) if b"worker.py" in command_of(pid)}


def processes(parent: int) -> dict[int, int]:
    """Workers of a process's engines, and their niceness above its own."""
    own = os.getpriority(os.PRIO_PROCESS, parent)
    found = {}
    for pid in set().union(*map(children_of, templates(parent))):
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            found[pid] = os.getpriority(os.PRIO_PROCESS, pid) - own
    return found


def workers(niceness: int) -> set[int]:
    return {pid for pid, above in processes(os.getpid()).items() if above == niceness}


def whole() -> bool:
    """Whether all workers of the shared engine are there."""
    return [len(workers(kind)) for kind in (STREAMING, FINAL, BATCH)] == [WORKERS * STREAMS, WORKERS, WORKERS]


def hired(others: set[int], options: PocketsphinxOptions) -> set[int]:
    """Workers of another engine beside `others`, once all of them are there."""
    expected = options.workers * (options.streams_per_worker + 2)

    def new() -> set[int] | None:
        found = set(processes(os.getpid())) - others
        return found if len(found) == expected else None

    return eventually(new, "all workers")


def cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def until(condition: Callable[[], object], what: str) -> None:
    eventually(lambda: True if condition() else None, what)


def newest_partial(stream: ASRStream, seen: list[str]) -> str:
    partial = stream.partial()
    if partial is not None:
        seen.append(partial.text)
    return seen[-1] if seen else ""


def until_partial(stream: ASRStream, seen: list[str], expected: str) -> None:
    until(lambda: newest_partial(stream, seen) == expected, f"the partial {expected!r}")


def test_the_final_is_what_a_bare_decoder_says(backend: ASRBackend) -> None:
    """Word for word, for every recording, after a streaming pass of the same audio."""
    for samples in clips():
        assert decode(backend, to_signal(samples)).text == bare(samples.tobytes())


def test_the_final_of_a_piece_of_a_file_is_the_same(backend: ASRBackend) -> None:
    samples = clips()[1]

    assert decode(backend, to_signal(samples), StreamOptions(live=False)).text == bare(samples.tobytes())


def test_partials_are_the_streaming_pass_of_all_audio_so_far(backend: ASRBackend) -> None:
    """They grow as audio arrives, whatever jobs it was decoded in."""
    samples = clips()[-1]
    step = len(samples) // 3 // LEAST_SAMPLES * LEAST_SAMPLES
    stream = backend.stream(EAGER)
    seen: list[str] = []
    grown = []
    for end in (step, 2 * step, 3 * step):
        stream.push(to_signal(samples[end - step : end]))
        expected = bare_streaming(samples[:end].tobytes())
        until_partial(stream, seen, expected)
        grown.append(len(expected.split()))
    stream.cancel()

    assert grown[0] < grown[2]


def test_words_have_confidences_and_times_in_order(backend: ASRBackend) -> None:
    for samples in clips()[:3]:
        result = decode(backend, to_signal(samples))
        assert result.words is not None
        assert " ".join(word.word for word in result.words) == result.text
        times = [time for word in result.words for time in (word.start_ms, word.end_ms)]
        assert times == sorted(times)
        assert times[-1] <= ms(len(samples))
        assert len({word.confidence for word in result.words}) > 1


def test_digital_silence_ahead_of_speech_is_no_word_in_partials(backend: ASRBackend) -> None:
    """A bare decoder hears words in it."""
    samples = clips()[0]
    stream = backend.stream(EAGER)
    stream.push(np.zeros(3 * SAMPLE_RATE, np.float32))
    stream.push(to_signal(samples))
    seen: list[str] = []
    expected = bare_streaming(samples.tobytes())

    until_partial(stream, seen, expected)
    stream.cancel()


def test_more_speakers_than_decoders_all_get_the_text_they_get_alone(backend: ASRBackend) -> None:
    """Eight threads on four decoders."""
    assert len(clips()) > WORKERS * STREAMS
    together = threading.Barrier(len(clips()))

    def speak(samples: Samples) -> str:
        stream = backend.stream(StreamOptions())
        together.wait(DEADLINE)
        for piece in pieces(to_signal(samples), LEAST_SAMPLES):
            stream.push(piece)
            stream.partial()
        stream.pause()
        return stream.finish(len(samples)).result(DEADLINE).text

    with ThreadPoolExecutor(len(clips())) as threads:
        texts = list(threads.map(speak, clips()))

    assert texts == [bare(samples.tobytes()) for samples in clips()]


def test_an_utterance_that_waited_for_a_decoder_catches_up(backend: ASRBackend) -> None:
    samples = clips()[0]
    first = [backend.stream(StreamOptions()) for _ in range(WORKERS * STREAMS)]
    for stream in first:
        stream.push(np.zeros(1, np.float32))
    last = backend.stream(EAGER)
    last.push(to_signal(samples))
    assert last.partial() is None
    first[0].cancel()
    seen: list[str] = []
    expected = bare_streaming(samples.tobytes())

    until_partial(last, seen, expected)
    for stream in [*first, last]:
        stream.cancel()


def test_a_streaming_worker_that_is_killed_loses_no_partial_and_no_final(backend: ASRBackend) -> None:
    samples = clips()[0]
    half = len(samples) // 2 // LEAST_SAMPLES * LEAST_SAMPLES
    stream = backend.stream(EAGER)
    stream.push(to_signal(samples[:half]))
    seen: list[str] = []
    until(lambda: newest_partial(stream, seen), "a partial")
    killed = workers(STREAMING)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    stream.push(to_signal(samples[half:]))
    expected = bare_streaming(samples.tobytes())

    until_partial(stream, seen, expected)
    assert stream.finish(len(samples)).result(DEADLINE).text == bare(samples.tobytes())
    assert len(killed) == WORKERS * STREAMS
    until(whole, "their successors")


def test_a_final_worker_that_is_killed_in_a_pass_loses_nothing(backend: ASRBackend) -> None:
    samples = np.concatenate(clips()[:3])
    before = {pid: cpu_ticks(pid) for pid in workers(FINAL)}
    stream = backend.stream(StreamOptions())
    stream.push(to_signal(samples))
    future = stream.finish(len(samples))

    def at_work() -> int | None:
        return next((pid for pid in before if cpu_ticks(pid) > before[pid] + 2), None)

    killed = eventually(at_work, "a pass")
    os.kill(killed, signal.SIGKILL)

    assert future.result(DEADLINE).text == bare(samples.tobytes())
    until(whole, "its successor")
    assert killed not in workers(FINAL)


def test_the_conformance_tests_see_the_processes(backend: ASRBackend) -> None:
    """Otherwise they could not say that none is left."""
    until(whole, "all workers")

    assert workers(FINAL) | workers(STREAMING) | templates(os.getpid()) <= children()


def test_workers_killed_while_idle_are_replaced_before_they_are_needed(backend: ASRBackend) -> None:
    killed = workers(FINAL) | workers(STREAMING)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    until(lambda: whole() and not killed & processes(os.getpid()).keys(), "their successors")
    assert decode(backend, clip(2)).text == bare(to_pcm(clip(2)))
    assert backend.healthy()


def test_a_template_that_is_killed_is_replaced_with_all_its_workers(backend: ASRBackend) -> None:
    """Nobody loses anything: neither a streaming pass nor a final pass in work."""
    samples, long = clips()[0], np.concatenate(clips()[:3])
    half = len(samples) // 2 // LEAST_SAMPLES * LEAST_SAMPLES
    speaking, finished = backend.stream(EAGER), backend.stream(StreamOptions())
    speaking.push(to_signal(samples[:half]))
    seen: list[str] = []
    until(lambda: newest_partial(speaking, seen), "a partial")
    before = {pid: cpu_ticks(pid) for pid in workers(FINAL)}
    finished.push(to_signal(long))
    future = finished.finish(len(long))
    until(lambda: any(cpu_ticks(pid) > before[pid] + 2 for pid in before), "a pass")
    killed = templates(os.getpid())
    below = set(processes(os.getpid()))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    speaking.push(to_signal(samples[half:]))

    assert future.result(DEADLINE).text == bare(long.tobytes())
    until_partial(speaking, seen, bare_streaming(samples.tobytes()))
    assert speaking.finish(len(samples)).result(DEADLINE).text == bare(samples.tobytes())
    assert len(killed) == 1
    until(whole, "their successors")
    assert not any(map(runs, killed | below))


def test_signals_to_the_whole_group_leave_the_workers_alone(backend: ASRBackend) -> None:
    """Ctrl-C in a terminal, or a service manager's SIGTERM: the server still has to drain."""
    until(whole, "all workers")
    pids = workers(FINAL)
    for pid in pids | templates(os.getpid()):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    samples = clips()[2]

    assert decode(backend, to_signal(samples)).text == bare(samples.tobytes())
    assert workers(FINAL) == pids


def test_cancelled_finals_do_not_hold_others_up(backend: ASRBackend) -> None:
    """Twenty utterances are dropped, some before their finish; the next is decoded as if they had not been."""
    futures: list[Future[Any]] = []
    for number in range(20):
        stream = backend.stream(StreamOptions())
        stream.push(clip(number % 8))
        stream.pause()
        if number % 2:
            futures.append(stream.finish(len(clip(number % 8))))
        stream.cancel()
        stream.cancel()
    samples = clips()[3]

    assert decode(backend, to_signal(samples)).text == bare(samples.tobytes())
    assert all(future.done() for future in futures)


# Start and end; each with an engine of its own


SMALL = PocketsphinxOptions(workers=1, streams_per_worker=1)


@pytest.fixture
def small() -> Iterator[ASRBackend]:
    """An engine with one worker of each kind, which is not the shared one's."""
    others = set(processes(os.getpid()))
    for each in started(PocketsphinxBackend(SMALL)):
        hired(others, SMALL)
        yield each


def test_a_void_pass_ends_at_once(small: ASRBackend) -> None:
    """The only worker is free for a final, and the utterance itself loses nothing by that."""
    long = np.resize(np.concatenate(clips()), 25 * SAMPLE_RATE)
    before = {pid: cpu_ticks(pid) for pid in workers(FINAL)}
    resumed = small.stream(StreamOptions())
    resumed.push(to_signal(long[: -2 * LEAST_SAMPLES]))
    resumed.pause()

    def busy() -> int | None:
        return next((pid for pid in workers(FINAL) if cpu_ticks(pid) > before.get(pid, 0) + 2), None)

    at_work = eventually(busy, "a pass")
    resumed.push(to_signal(long[-2 * LEAST_SAMPLES :]))

    until(lambda: not runs(at_work), "the end of the pass")
    assert decode(small, clip(0)).text == bare(to_pcm(clip(0)))
    assert resumed.finish(len(long)).result(DEADLINE).text == bare(long.tobytes())
    assert small.healthy()


def test_workers_that_hang_are_replaced_and_their_utterance_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HANG_SECONDS", 1.0)
    others = set(processes(os.getpid()))
    samples, half = clips()[0], SAMPLE_RATE // 2
    fresh = PocketsphinxBackend(SMALL)
    try:
        fresh.start()
        stopped = hired(others, SMALL) - workers(BATCH)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        stream = fresh.stream(EAGER)
        stream.push(to_signal(samples))
        seen: list[str] = []

        until_partial(stream, seen, bare_streaming(samples.tobytes()))
        assert stream.finish(half).result(DEADLINE).text == bare(samples[:half].tobytes())
        assert not any(map(runs, stopped))
    finally:
        fresh.close()


def test_an_answer_that_makes_no_sense_fails_its_final_and_nobody_elses(
    small: ASRBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(hypothesis, "final", lambda *_: 1 / 0)
        with pytest.raises(EngineError, match="3 worker processes died"):
            decode(small, clip(0))

    assert decode(small, clip(0)).text == bare(to_pcm(clip(0)))
    assert small.healthy()


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """Value of PYTHONPATH with which no worker can load its decoder."""
    (tmp_path / "pocketsphinx.py").write_text('raise ImportError("broken on purpose")\n')
    return str(tmp_path)


def test_an_engine_whose_workers_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    others, threads = children(), set(threading.enumerate())
    monkeypatch.setenv("PYTHONPATH", broken)
    fresh = PocketsphinxBackend(SMALL)

    with pytest.raises(EngineError, match=r"(?s)no worker process can be started.*broken on purpose"):
        fresh.start()

    assert not fresh.healthy()
    assert children() == others
    assert set(threading.enumerate()) == threads


def test_close_during_start_ends_it(make_backend: Callable[[], ASRBackend]) -> None:
    others, threads = children(), set(threading.enumerate())
    fresh = make_backend()
    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(fresh.start)
        until(lambda: children() > others, "a process")
        fresh.close()
        with pytest.raises(EngineError):
            starting.result(DEADLINE)

    assert children() == others
    assert set(threading.enumerate()) == threads


def test_start_after_close_is_refused() -> None:
    fresh = PocketsphinxBackend(SMALL)
    fresh.close()

    with pytest.raises(EngineError, match="closed"):
        fresh.start()


def test_close_leaves_no_process_and_no_thread_and_cancels_finals() -> None:
    others, threads = children(), set(threading.enumerate())
    fresh = PocketsphinxBackend(SMALL)
    fresh.start()
    stream = fresh.stream(StreamOptions())
    stream.push(clip(0))
    future = stream.finish(len(clip(0)))
    its_own = children() - others
    fresh.close()
    fresh.close()

    assert future.cancelled()
    assert children() == others
    assert not any(map(runs, its_own))
    assert set(threading.enumerate()) == threads
    late = fresh.stream(StreamOptions())
    late.push(clip(0))
    assert late.finish(1).cancelled()


@pytest.mark.parametrize("live", [True, False])
def test_an_engine_that_cannot_replace_its_workers_is_unhealthy_until_it_can(
    monkeypatch: pytest.MonkeyPatch, broken: str, live: bool
) -> None:
    others = templates(os.getpid())
    fresh = PocketsphinxBackend(SMALL)
    try:
        fresh.start()
        with monkeypatch.context() as context:
            context.setenv("PYTHONPATH", broken)
            for pid in templates(os.getpid()) - others:
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(EngineError, match="no worker process can be started"):
                decode(fresh, clip(0), StreamOptions(live=live))
            assert not fresh.healthy()

        until(fresh.healthy, "a worker")
        assert decode(fresh, clip(0)).text == bare(to_pcm(clip(0)))
    finally:
        fresh.close()


SERVER = """
import sys
from backends.pocketsphinx.backend import PocketsphinxBackend
from backends.pocketsphinx.options import PocketsphinxOptions
PocketsphinxBackend(PocketsphinxOptions(1, 1)).start()
print("started", flush=True)
sys.stdin.read()
"""


def test_a_server_that_is_killed_leaves_no_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert "started\n" in iter(server.stdout.readline, "")  # log lines may come before
        until(lambda: len(processes(server.pid)) == 3, "a worker of each kind")
        pids = [*processes(server.pid), *templates(server.pid)]
        server.kill()

    until(lambda: not any(map(runs, pids)), "the end of its workers")
