"""The template process, run by path as a script: it loads the decoder once and forks the workers, which share it.

It imports the standard library and pocketsphinx only. `multiprocessing.Process` would import the server's main module
again in every worker, and the binding holds the GIL while it decodes, so a thread would stop the whole server. Nothing
here has a second thread, without which a fork would be a gamble.

Argument: file descriptor of the control socket, whose end ends the template and every worker. The first byte from here
is `READY`, or another and then a traceback. Then `ORDER`s come (what, number):
    FORK niceness, with one end of a socket: -> `ANSWER`, a worker's process id, or less than 0, the system's refusal
    KILL pid: ends it; no answer
    END pid: ends and reaps it -> `ANSWER`, its exit status, less than 0: the signal
A worker's process id is nobody else's until its END, for only then it is reaped.

A worker answers requests on its socket until that closes. Every message from it is a pair: ("ok", answer), or
("failed", traceback), after which it ends. Requests and their answers:
    ("feed", fresh, pcm) -> (hypothesis or None, seconds): more audio for the streaming pass; `fresh` begins another
        utterance.
    ("decode", pcm) -> (segments, seconds): whole-utterance pass; each segment is (word, first frame, last frame,
        posterior), frames of 10 ms.
`pcm` is PCM16LE mono at 16 kHz, never empty in "feed"; seconds are wall clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

BYTES_PER_SECOND = 32_000
"""Of PCM16LE mono at 16 kHz."""

SETTINGS = {"samprate": 16_000, "fwdflat": False, "maxhmmpf": 5000, "pl_window": 10, "loglevel": "FATAL"}
"""Beside the defaults: word error rate 0.276 against 0.276-0.291 on 36 clips, for half of the CPU time."""

READY = b"+"
ORDER = struct.Struct("=Bi")
ANSWER = struct.Struct("=i")
FORK, KILL, END = range(3)
_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class Worker:
    """The decoder of this process."""

    def __init__(self) -> None:
        # Here, not at the top: a missing package is then reported like any other failure.
        from pocketsphinx import Decoder  # noqa: PLC0415

        self._decoder: Any = Decoder(**SETTINGS)
        self._open = False
        """Whether it is within an utterance."""
        self._heard = False
        """Whether that utterance had anything but digital silence yet."""

    def answer(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        """Do what `request` asks; anything raised ends the process."""
        began = time.perf_counter()
        action, *arguments = request
        result = self.feed(*arguments) if action == "feed" else self.decode(*arguments)
        return result, time.perf_counter() - began

    def feed(self, fresh: bool, pcm: bytes) -> str | None:
        """Take the next audio of the utterance; return its hypothesis so far."""
        if fresh:
            self._close()
        # The model hears words in digital silence ("in", with posterior 1), so it gets none ahead of other sound.
        self._heard = self._heard or not _silent(pcm)
        if not self._heard:
            return None
        if not self._open:
            self._begin()
        self._decoder.process_raw(pcm, False, False)
        hypothesis = self._decoder.hyp()
        return None if hypothesis is None else hypothesis.hypstr

    def decode(self, pcm: bytes) -> tuple[tuple[str, int, int, float], ...]:
        """Recognise a whole utterance at once, which is what makes it better than the streaming pass."""
        self._close()
        if _silent(pcm):
            return ()
        self._begin()
        self._decoder.process_raw(pcm, False, True)
        self._close()
        # hyp() first: without a hypothesis seg() has nothing, or only the markers of the sentence's ends.
        if self._decoder.hyp() is None:
            return ()
        return tuple((part.word, part.start_frame, part.end_frame, part.prob) for part in self._decoder.seg() or ())

    def warm(self) -> None:
        """Decode 1 s of digital silence: touches the model's pages."""
        self._begin()
        self._decoder.process_raw(bytes(BYTES_PER_SECOND), False, True)
        self._close()

    def _begin(self) -> None:
        # A streaming utterance leaves the decoder in live cepstral mean normalisation for ever, which costs later
        # utterances accuracy and makes them depend on earlier ones; reinit_feat() undoes it (0.1 ms).
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._open = True

    def _close(self) -> None:
        if self._open:
            self._decoder.end_utt()
        self._open = self._heard = False


def _silent(pcm: bytes) -> bool:
    return not pcm.strip(b"\0")


class Nursery:
    """Obeys the orders on a control socket."""

    def __init__(self, control: socket.socket, worker: Worker) -> None:
        self._control = control
        self._worker = worker
        self._children: set[int] = set()

    def obey(self) -> None:
        """Until the socket closes; then no worker is left."""
        try:
            while True:
                order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
                if len(order) < ORDER.size:
                    return
                self._do(*ORDER.unpack(order), *descriptors)
        except ConnectionError:
            return  # nobody waits for the answer
        finally:
            for pid in [*self._children]:
                self._end(pid)

    def _do(self, what: int, number: int, descriptor: int = -1) -> None:
        if what == FORK:
            self._answer(self._fork(descriptor, number))
        elif what == KILL and number in self._children:
            os.kill(number, signal.SIGKILL)
        elif what == END:
            self._answer(self._end(number))

    def _answer(self, number: int) -> None:
        self._control.sendall(ANSWER.pack(number))

    def _fork(self, descriptor: int, niceness: int) -> int:
        template = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            status = 1
            try:
                end_with(template)
                self._control.close()
                status = serve(descriptor, niceness, self._worker)
            finally:
                # Not by an exception: what ends the template would end this process's siblings.
                os._exit(status)
        os.close(descriptor)
        if pid > 0:
            self._children.add(pid)
        return pid

    def _end(self, pid: int) -> int:
        if pid not in self._children:
            return 0
        self._children.remove(pid)
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end_with(template: int) -> None:
    """Have the system end this process as soon as its template ends, however that happens; Linux only.

    Elsewhere it ends once its socket closes: see prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != template:
        os._exit(1)  # it was quicker


def serve(descriptor: int, niceness: int, worker: Worker) -> int:
    """Answer requests on a socket until the server closes it or dies; return the exit status."""
    connection = Connection(descriptor)
    try:
        os.nice(niceness)
        while True:
            try:
                request = connection.recv()
            except (EOFError, OSError):
                return 0
            connection.send(("ok", worker.answer(request)))
    except BrokenPipeError:
        return 0
    except Exception:  # noqa: BLE001 - the server logs it and replaces this process
        with contextlib.suppress(OSError):
            connection.send(("failed", traceback.format_exc()))
        return 1


def main(descriptor: int) -> int:
    """Run the template; return its exit status."""
    # Ctrl-C and service managers signal the whole group, and the server still needs its workers to drain. When it is
    # gone the socket says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as control:
        try:
            worker = Worker()
            worker.warm()
        except Exception:  # noqa: BLE001 - the server tells
            control.sendall(b"-" + traceback.format_exc().encode())
            return 1
        # The collector would write to every object, and a page that is written to is shared no more.
        gc.collect()
        gc.freeze()
        control.sendall(READY)
        Nursery(control, worker).obey()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
