"""pocketsphinx in processes of its own, without a server: the yardstick of `bench.decoder`.

Each process has one decoder, made and driven by the engine's own worker (`backends.pocketsphinx.worker`), but called
directly: no socket, no queue, no desk. Loading is over when a process is handed out.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from backends.pocketsphinx import hypothesis
from backends.pocketsphinx.slots import Slots
from backends.pocketsphinx.template import environment
from backends.pocketsphinx.worker import Worker
from bench.cuts import Cut
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE, samples_of


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds, user and system, by what they went to."""

    streaming: float = 0.0
    final: float = 0.0

    @property
    def total(self) -> float:
        """Of both passes."""
        return self.streaming + self.final

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.streaming + other.streaming, self.final + other.final)


@dataclass(frozen=True, slots=True)
class Said:
    """An utterance where a speaker says it."""

    at: float
    """Its first sample, seconds of the speaker's audio."""
    cut: Cut


@dataclass(frozen=True, slots=True)
class _Both:
    """A job: a streaming pass and a final one over each utterance."""

    said: Sequence[Said]
    paced: bool
    """Whether each piece waits until it would have been spoken."""
    partial_ms: int
    """As in `StreamOptions`: what the streaming pass is handed at a time follows from it."""


class BareDecoder:
    """One such process, as seen from here; one job at a time."""

    def __init__(self, cores: Sequence[int], *, large_pages: bool) -> None:
        """Start it on these cores, with pages like the engine's workers or not; `answer` once says that it is warm."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, list(cores)), daemon=True)
        with _environment(environment() if large_pages else {}):
            self._process.start()
        theirs.close()

    def begin(self, job: _Both | bytes) -> None:
        """Hand it a job: both passes over utterances, or a final pass over PCM16LE."""
        self.connection.send(job)

    def answer(self) -> Any:  # noqa: ANN401 - `Spent`, or None of a final pass
        """Wait for the job's end.

        Raises:
            EOFError: the process died.
        """
        return self.connection.recv()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def bare_decoders(count: int, cores: Sequence[int], *, large_pages: bool) -> Iterator[list[BareDecoder]]:
    """So many warm processes, gone when the context ends."""
    with ExitStack() as stack:
        decoders: list[BareDecoder] = []
        for _ in range(count):
            decoders.append(BareDecoder(cores, large_pages=large_pages))
            stack.callback(decoders[-1].stop)
        for each in decoders:
            each.answer()
        yield decoders


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Add to this process's environment, for a child that can only inherit it."""
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def both_passes(
    decoders: Sequence[BareDecoder], speakers: Sequence[Sequence[Said]], *, paced: bool, partial_ms: int
) -> Spent:
    """CPU of both passes over what speakers say, a process each, all at once; `paced`: no sooner than they say it."""
    working = decoders[: len(speakers)]
    for decoder, said in zip(working, speakers, strict=True):
        decoder.begin(_Both(said, paced, partial_ms))
    return sum((decoder.answer() for decoder in working), Spent())


def final_passes(decoders: Sequence[BareDecoder], pieces: Sequence[bytes]) -> float:
    """Wall seconds of a final pass over each piece (PCM16LE), in order, as processes become free."""
    waiting = deque(pieces)
    idle, busy = list(decoders), dict[object, BareDecoder]()
    began = time.monotonic()
    while waiting or busy:
        while waiting and idle:
            decoder = idle.pop()
            decoder.begin(waiting.popleft())
            busy[decoder.connection] = decoder
        for connection in wait([decoder.connection for decoder in busy.values()]):
            idle.append(busy.pop(connection))
            idle[-1].answer()
    return time.monotonic() - began


def _serve(connection: Connection, cores: Sequence[int]) -> None:
    """Body of the process."""
    os.sched_setaffinity(0, cores)
    worker = Worker()
    worker.warm()
    connection.send(None)
    while True:
        try:
            job: _Both | bytes = connection.recv()
        except EOFError:
            return
        if isinstance(job, _Both):
            connection.send(_do_both(worker, job))
        else:
            worker.decode(job)
            connection.send(None)


def _do_both(worker: Worker, job: _Both) -> Spent:
    spent, began = Spent(), time.monotonic()
    for said in job.said:
        cpu, slots = time.process_time(), Slots(1)
        slots.open(0, samples_of(job.partial_ms))
        for pushed in said.cut.pushes:
            if job.paced:
                time.sleep(max(0.0, began + said.at + pushed / SAMPLE_RATE - time.monotonic()))
            slots.pushed(0, pushed)
            feed_due(worker, slots, said.cut.pcm)
        streamed = time.process_time()
        worker.decode(said.cut.pcm)
        spent += Spent(streamed - cpu, time.process_time() - streamed)
    return spent


def feed_due(worker: Worker, slots: Slots, pcm: bytes) -> None:
    """What a streaming pass that keeps up takes at once."""
    while (due := slots.take(0)) is not None:
        piece = pcm[due.start * BYTES_PER_SAMPLE : due.stop * BYTES_PER_SAMPLE]
        said = hypothesis.partial(worker.feed(due.start == 0, piece), 0.0)
        slots.done(due, words=bool(said.text))
