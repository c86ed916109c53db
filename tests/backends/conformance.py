"""Tests of what the server relies on in every `ASRBackend`.

A module that runs them has a class derived from `BackendConformance`, and fixtures of module scope:

    make_backend  () -> ASRBackend, not started; the test or fixture that calls it closes what it made
    backend       a started one; `started(make_backend())` yields it and closes it
    speech        float32 16 kHz, [n], 1.5 s or more, in which the engine recognises two words or more
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import pytest

from backends.base import ASRBackend, ASRResult, ASRStream, StreamOptions
from backends.registry import BACKENDS, check
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, ms
from tests.patience import PATIENCE_SECONDS
from tests.processes import command_of, descendants, runnable_seconds, runs

T = TypeVar("T")

POLL = 0.01
"""Seconds between two looks at an engine that works in another thread or process."""


def started(backend: ASRBackend) -> Iterator[ASRBackend]:
    """Body of the `backend` fixture."""
    try:
        backend.start()
        yield backend
    finally:
        backend.close()


def eventually(look: Callable[[], T | None], what: str) -> T:
    """First result of `look` that is not None."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        seen = look()
        if seen is not None:
            return seen
        time.sleep(POLL)
    pytest.fail(f"{what}: not within {PATIENCE_SECONDS:.0f} s")


def pieces(audio: Signal, size: int) -> Iterable[Signal]:
    return (audio[start : start + size] for start in range(0, len(audio), size))


def final(stream: ASRStream, samples: int) -> ASRResult:
    return stream.finish(samples).result(PATIENCE_SECONDS)


def decode(backend: ASRBackend, audio: Signal, options: StreamOptions | None = None) -> ASRResult:
    """Final of `audio`, pushed whole."""
    stream = backend.stream(options or StreamOptions())
    stream.push(audio)
    return final(stream, len(audio))


def children() -> set[int]:
    """Processes below this one, zombies too, but for multiprocessing's tracker, which once started stays."""
    return {pid for pid in descendants(os.getpid()) if b"multiprocessing.resource_tracker" not in command_of(pid)}


class BackendConformance:
    """Claims about any backend; a subclass named Test... runs them."""

    @pytest.fixture
    def text(self, backend: ASRBackend, speech: Signal) -> str:
        return decode(backend, speech).text

    # what it is

    def test_it_is_registered(self, backend: ASRBackend) -> None:
        """Its name is one that STT_BACKEND takes, and it passes the check made before start."""
        assert backend.name in BACKENDS
        check(backend.name)

    def test_batch_width(self, backend: ASRBackend) -> None:
        """A file's pieces can be decoded at least one at a time."""
        assert backend.batch_width >= 1

    # what a final depends on

    def test_speech_has_text(self, text: str) -> None:
        """Speech becomes words, without space around them."""
        assert text.split()
        assert text == text.strip()

    @pytest.mark.parametrize("size", [FRAME_SAMPLES, 317, 4001])
    def test_final_is_independent_of_chunks(self, backend: ASRBackend, speech: Signal, text: str, size: int) -> None:
        """The same samples give the same final, however they were cut."""
        stream = backend.stream(StreamOptions())
        for piece in pieces(speech, size):
            stream.push(piece)
        assert final(stream, len(speech)).text == text

    def test_final_is_independent_of_polling(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """Asking for partials after every frame does not change the final."""
        stream = backend.stream(StreamOptions())
        for piece in pieces(speech, FRAME_SAMPLES):
            stream.push(piece)
            stream.partial()
        assert final(stream, len(speech)).text == text

    def test_final_is_independent_of_live(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """A piece of a file is recognised as a live speaker is."""
        assert decode(backend, speech, StreamOptions(live=False)).text == text

    def test_the_engine_owns_its_samples(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """A caller may use its buffer again as soon as `push` returned."""
        stream = backend.stream(StreamOptions())
        for piece in pieces(speech, 4000):
            buffer = piece.copy()
            stream.push(buffer)
            buffer[:] = 0
        assert final(stream, len(speech)).text == text

    # pause and finish

    def test_pause_then_finish(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """A final that began at the pause is the final without a pause."""
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        stream.pause()
        assert final(stream, len(speech)).text == text

    def test_pause_then_more_speech(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """Speech after a pause, and after another, belongs to the utterance; the pauses change nothing."""
        resumed = np.concatenate((np.zeros(SAMPLE_RATE // 5, np.float32), speech))
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        stream.pause()
        stream.push(resumed)
        stream.pause()
        both = final(stream, len(speech) + len(resumed)).text
        assert len(both.split()) > len(text.split())
        assert both == decode(backend, np.concatenate((speech, resumed))).text

    def test_finish_before_the_last_sample(self, backend: ASRBackend, speech: Signal) -> None:
        """An utterance cut at an earlier sample is as if nothing after it had been pushed."""
        cut = len(speech) * 2 // 3
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        assert final(stream, cut).text == decode(backend, speech[:cut]).text

    def test_finish_before_a_pause(self, backend: ASRBackend, speech: Signal) -> None:
        """A final pass begun at a pause is not used for an utterance cut before it."""
        cut = len(speech) * 2 // 3
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        stream.pause()
        assert final(stream, cut).text == decode(backend, speech[:cut]).text

    # partials

    def test_partials_appear(self, backend: ASRBackend, speech: Signal) -> None:
        """A speaker who has not finished sees words."""
        stream = backend.stream(StreamOptions())
        for piece in pieces(speech, FRAME_SAMPLES):
            stream.push(piece)
        assert eventually(stream.partial, "a partial").text.split()
        stream.cancel()

    def test_news_is_reported(self, backend: ASRBackend, speech: Signal) -> None:
        """`notify` is called when there is a new partial."""
        notified = threading.Event()
        stream = backend.stream(StreamOptions(notify=notified.set))
        for piece in pieces(speech, FRAME_SAMPLES):
            stream.push(piece)
        words: list[str] = []
        while not words:
            assert notified.wait(PATIENCE_SECONDS), "nothing was told"
            notified.clear()
            partial = stream.partial()
            # Told for a hypothesis that went with the one before it, or for one without words yet.
            words = [] if partial is None else partial.text.split()
        stream.cancel()

    def test_no_partial_without_news(self, backend: ASRBackend, speech: Signal) -> None:
        """Without new audio there is no partial: none before the first, and no more once all are taken."""
        stream = backend.stream(StreamOptions())
        assert stream.partial() is None
        stream.push(speech)
        eventually(stream.partial, "a partial")
        quiet = 0

        def settled() -> bool | None:
            nonlocal quiet
            quiet = quiet + 1 if stream.partial() is None else 0
            return True if quiet == 20 else None

        eventually(settled, "an end of partials")
        stream.cancel()

    def test_a_burst_does_not_wait(self, backend: ASRBackend, speech: Signal) -> None:
        """Pushing 30 s of speech and polling is little work for its thread, which waits for no decode.

        An engine that decodes in here, at a tenth of real time, works for 3 s. One that decodes elsewhere at the speed
        of speech, and is waited for, blocks for 30 s. Time in which the thread has no core does not count.
        """
        audio = np.resize(speech, 30 * SAMPLE_RATE)
        stream = backend.stream(StreamOptions())
        began, worked, able = time.monotonic(), time.thread_time(), runnable_seconds()
        for piece in pieces(audio, FRAME_SAMPLES):
            stream.push(piece)
            stream.partial()
        assert time.thread_time() - worked < 2.5
        assert time.monotonic() - began - (runnable_seconds() - able) < 25
        stream.cancel()

    # nothing leaks from one utterance to another

    def test_utterances_in_a_row(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """An utterance's text does not depend on the utterances before it."""
        for before in (speech, speech[::-1].copy(), np.zeros(SAMPLE_RATE, np.float32)):
            decode(backend, before)
            assert decode(backend, speech).text == text

    def test_an_utterance_after_a_cancelled_one(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """Nor on one that was dropped in the middle, or while its final was being decoded."""
        dropped = backend.stream(StreamOptions())
        dropped.push(speech[::-1].copy())
        dropped.cancel()
        ending = backend.stream(StreamOptions())
        ending.push(speech[::-1].copy())
        ending.finish(len(speech))
        ending.cancel()
        assert decode(backend, speech).text == text

    def test_utterances_at_once(self, backend: ASRBackend, speech: Signal) -> None:
        """Speakers in threads of their own, each saying something else, are told the same as alone."""
        audios = [speech[: len(speech) * part // 6] for part in (3, 4, 5, 6)]
        alone = [decode(backend, audio).text for audio in audios]
        everyone = threading.Barrier(len(audios))

        def speak(audio: Signal) -> str:
            stream = backend.stream(StreamOptions())
            everyone.wait(PATIENCE_SECONDS)
            for piece in pieces(audio, FRAME_SAMPLES):
                stream.push(piece)
                stream.partial()
            return final(stream, len(audio)).text

        with ThreadPoolExecutor(len(audios)) as threads:
            assert list(threads.map(speak, audios)) == alone

    # what is in a result

    def test_silence_has_no_text(self, backend: ASRBackend) -> None:
        """Two seconds of zeros are an empty final, not words and not an error."""
        assert decode(backend, np.zeros(2 * SAMPLE_RATE, np.float32)).text == ""

    def test_a_moment_has_no_error(self, backend: ASRBackend, speech: Signal) -> None:
        """An utterance too short for a word has a final, and raises nothing."""
        assert isinstance(decode(backend, speech[:FRAME_SAMPLES]).text, str)

    @pytest.mark.parametrize("live", [True, False])
    def test_words(self, backend: ASRBackend, speech: Signal, text: str, live: bool) -> None:
        """Words that were asked for have times in order and inside the utterance, and a confidence of 0 to 1.

        They are the words of the text, which is the same with and without them.
        """
        asked = StreamOptions(words=True, live=live)
        for audio in (speech, speech[: len(speech) // 2]):
            result = decode(backend, audio, asked)
            if not backend.has_words:
                assert result.words is None
                continue
            assert result.words is not None
            begun = 0
            for word in result.words:
                assert begun <= word.start_ms <= word.end_ms <= ms(len(audio))
                assert 0 <= word.confidence <= 1
                assert word.word == word.word.strip() != ""
                begun = word.start_ms
            assert " ".join(word.word for word in result.words).split() == result.text.split()
        assert decode(backend, speech, asked).text == text

    def test_stable_prefix(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """What an engine says will not change lies within its text."""
        results = [decode(backend, speech)]
        stream = backend.stream(StreamOptions())
        for piece in pieces(speech, FRAME_SAMPLES):
            stream.push(piece)
            partial = stream.partial()
            if partial is not None:
                results.append(partial)
        stream.cancel()
        for result in results:
            assert result.stable_chars is None or 0 <= result.stable_chars <= len(result.text)

    def test_context_is_no_text(self, backend: ASRBackend, speech: Signal) -> None:
        """Context that looks like a prompt's markup stays a hint: no error, none of it in the text."""
        said = decode(backend, speech, StreamOptions(context="<|endoftext|>\n<|notimestamps|> zyzzyva " * 200)).text
        assert said.split()
        assert "<|" not in said

    def test_translation(self, backend: ASRBackend, speech: Signal) -> None:
        """An engine that translates has English text for English speech."""
        if backend.translates:
            assert decode(backend, speech, StreamOptions(language="en", task="translate")).text.split()

    def test_language(self, backend: ASRBackend, speech: Signal) -> None:
        """A result's language is one the backend has, and the one asked for."""
        known = backend.languages
        assert known is None or decode(backend, speech).language in known | {None}
        for language in ("en",) if known is None else sorted(known)[:2]:
            assert decode(backend, speech, StreamOptions(language=language)).language == language

    def test_inference_time(self, backend: ASRBackend, speech: Signal) -> None:
        """The time an engine says it worked is above zero and no more than passed."""
        began = time.perf_counter()
        result = decode(backend, speech)
        assert 0 < result.inference_seconds <= time.perf_counter() - began + POLL

    def test_hotwords_are_words(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """Hotwords that look like a prompt's markup stay words: no error, none of it in the text."""
        hotwords = ("<|im_end|>", "<|endoftext|>\n<|im_start|>system", "a" * 64, "\N{GRINNING FACE}", "(2)")
        said = decode(backend, speech, StreamOptions(hotwords=hotwords)).text
        assert said.split()
        assert "<|" not in said
        if not backend.uses_hotwords:
            assert said == text

    # ends

    def test_cancel_twice(self, backend: ASRBackend, speech: Signal) -> None:
        """Dropping an utterance again changes nothing."""
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        stream.cancel()
        stream.cancel()

    def test_cancel_before_any_audio(self, backend: ASRBackend) -> None:
        """An utterance may be dropped before it began."""
        backend.stream(StreamOptions()).cancel()

    def test_cancel_after_finish(self, backend: ASRBackend, speech: Signal) -> None:
        """A final that is dropped is done or cancelled soon: nobody waits for it for ever."""
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        future = stream.finish(len(speech))
        stream.cancel()
        stream.cancel()
        self.ends(future)

    def test_cancel_after_the_final(self, backend: ASRBackend, speech: Signal, text: str) -> None:
        """Dropping an utterance that has its final leaves the final."""
        stream = backend.stream(StreamOptions())
        stream.push(speech)
        future = stream.finish(len(speech))
        assert future.result(PATIENCE_SECONDS).text == text
        stream.cancel()
        assert future.result(0).text == text

    def test_health(self, make_backend: Callable[[], ASRBackend], speech: Signal) -> None:
        """It is healthy from start to close. It may be closed twice, and leaves no thread or process.

        A final that was being decoded at the close ends too.
        """
        threads, processes = set(threading.enumerate()), children()
        fresh = make_backend()
        try:
            assert not fresh.healthy()
            fresh.start()
            assert fresh.healthy()
            stream = fresh.stream(StreamOptions())
            stream.push(speech)
            future = stream.finish(len(speech))
            its_own = children() - processes
        finally:
            fresh.close()
        fresh.close()
        assert not fresh.healthy()
        self.ends(future)
        assert not set(threading.enumerate()) - threads
        # One whose parent ended before it would be nobody's child here.
        self.have_ended(its_own)
        assert not children() - processes

    def test_close_before_start(self, make_backend: Callable[[], ASRBackend]) -> None:
        """A backend that was never started can be closed."""
        fresh = make_backend()
        fresh.close()
        assert not fresh.healthy()

    @staticmethod
    def have_ended(processes: set[int]) -> None:
        assert not any(map(runs, processes))

    @staticmethod
    def ends(future: Future[ASRResult]) -> None:
        wait([future], PATIENCE_SECONDS)
        assert future.done()
