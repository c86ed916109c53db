"""A decoder process: run by path as a script, it answers requests on a socket until the socket closes.

It imports the standard library and pocketsphinx only. `multiprocessing.Process` would import the server's main module
again in every worker, and the binding holds the GIL while it decodes, so a thread would stop the whole server.

Arguments: file descriptor of the socket, number of decoders to warm, niceness once warm. Every message from here is a
pair: ("ok", answer), or ("failed", traceback), after which the process ends. The first answer, (), says it is warm.

Requests and their answers:
    ("feed", slot, fresh, pcm) -> (hypothesis or None, seconds): more audio for the streaming pass on decoder `slot`;
        `fresh` begins another utterance.
    ("decode", pcm) -> (segments, seconds): whole-utterance pass on decoder 0; each segment is (word, first frame,
        last frame, posterior), frames of 10 ms.
`pcm` is PCM16LE mono at 16 kHz, never empty in "feed"; seconds are wall clock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

BYTES_PER_SECOND = 32_000
"""Of PCM16LE mono at 16 kHz."""

SETTINGS = {"samprate": 16_000, "fwdflat": False, "maxhmmpf": 5000, "pl_window": 10, "loglevel": "FATAL"}
"""Beside the defaults: word error rate 0.276 against 0.276-0.291 on 36 clips, for half of the CPU time."""


class Worker:
    """The decoders of this process."""

    def __init__(self, decoders: int) -> None:
        # Here, not at the top: a missing package is then reported like any other failure.
        from pocketsphinx import Decoder  # noqa: PLC0415

        self._decoders: list[Any] = [Decoder(**SETTINGS) for _ in range(decoders)]
        self._open = [False] * decoders
        """Whether the decoder is within an utterance."""
        self._heard = [False] * decoders
        """Whether the decoder's utterance had anything but digital silence yet."""

    def answer(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        """Do what `request` asks; anything raised ends the process."""
        began = time.perf_counter()
        action, *arguments = request
        result = self.feed(*arguments) if action == "feed" else self.decode(*arguments)
        return result, time.perf_counter() - began

    def feed(self, slot: int, fresh: bool, pcm: bytes) -> str | None:
        """Take the next audio of the utterance on decoder `slot`; return its hypothesis so far."""
        if fresh:
            self._close(slot)
        # The model hears words in digital silence ("in", with posterior 1), so it gets none ahead of other sound.
        self._heard[slot] = self._heard[slot] or not _silent(pcm)
        if not self._heard[slot]:
            return None
        decoder = self._decoders[slot]
        if not self._open[slot]:
            self._begin(slot)
        decoder.process_raw(pcm, False, False)
        hypothesis = decoder.hyp()
        return None if hypothesis is None else hypothesis.hypstr

    def decode(self, pcm: bytes) -> tuple[tuple[str, int, int, float], ...]:
        """Recognise a whole utterance at once, which is what makes it better than the streaming pass."""
        self._close(0)
        if _silent(pcm):
            return ()
        decoder = self._decoders[0]
        self._begin(0)
        decoder.process_raw(pcm, False, True)
        self._close(0)
        # hyp() first: without a hypothesis seg() has nothing, or only the markers of the sentence's ends.
        if decoder.hyp() is None:
            return ()
        return tuple((part.word, part.start_frame, part.end_frame, part.prob) for part in decoder.seg() or ())

    def warm(self) -> None:
        """Decode 1 s of digital silence on every decoder: touches the model's pages."""
        for slot in range(len(self._decoders)):
            self._begin(slot)
            self._decoders[slot].process_raw(bytes(BYTES_PER_SECOND), False, True)
            self._close(slot)

    def _begin(self, slot: int) -> None:
        # A streaming utterance leaves the decoder in live cepstral mean normalisation for ever, which costs later
        # utterances accuracy and makes them depend on earlier ones; reinit_feat() undoes it (0.1 ms).
        self._decoders[slot].reinit_feat()
        self._decoders[slot].start_utt()
        self._open[slot] = True

    def _close(self, slot: int) -> None:
        if self._open[slot]:
            self._decoders[slot].end_utt()
        self._open[slot] = self._heard[slot] = False


def _silent(pcm: bytes) -> bool:
    return not pcm.strip(b"\0")


def serve(connection: Connection, worker: Worker) -> None:
    """Say that the worker is warm, then answer requests until the server closes the socket or dies.

    Raises:
        BrokenPipeError: the server died while a request was worked on.
    """
    connection.send(("ok", ()))
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(("ok", worker.answer(request)))


def main(descriptor: int, decoders: int, niceness: int) -> int:
    """Run the process; return its exit status."""
    # Ctrl-C and service managers signal the whole group, and the server still needs its workers to drain. When it is
    # gone the socket says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        worker = Worker(decoders)
        worker.warm()
        # Only now: a nice process that replaces a dead one on a busy machine would take for ever to load.
        os.nice(niceness)
        serve(connection, worker)
    except BrokenPipeError:
        return 0
    except Exception:  # noqa: BLE001 - the server logs it and replaces this process
        with contextlib.suppress(OSError):
            connection.send(("failed", traceback.format_exc()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
