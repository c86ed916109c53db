"""`stt` in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import pyte

from tests.patience import PATIENCE_SECONDS
from tests.server import ROOT

COLUMNS, LINES = 200, 40


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the tests without settings, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STT_", "HF_", "PIP_"))}
    return {**kept, "PYTHONPATH": str(ROOT / "client"), "TERM": "xterm", **settings}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stt_client", *arguments]


def piped(settings: Mapping[str, str], *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run without a terminal."""
    environ = environment(settings)
    return subprocess.run(command(*arguments), cwd=ROOT, env=environ, input=given, capture_output=True, check=False)


class Terminal:
    """Runs `stt` with a real terminal on all its streams, and shows what a person would see."""

    def __init__(self, settings: Mapping[str, str], *arguments: str) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """Everything, with its control characters."""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            env=environment(settings),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call, no lock
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without empty lines."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def press(self, keys: bytes) -> None:
        """Type; `\\x03` is Ctrl-C."""
        os.write(self._ours, keys)

    def until(self, seen: Callable[[list[str]], object], seconds: float = PATIENCE_SECONDS) -> list[str]:
        """Read until the screen is as claimed; the screen."""
        deadline = time.monotonic() + seconds
        while not seen(self.lines):
            assert time.monotonic() < deadline, self.lines
            assert self._read(), f"it ended: {self.lines}"
        return self.lines

    def ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Read until the program ends; its exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, self.lines
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        """Read what comes within a while; False: nothing will come any more."""
        if select.select([self._ours], [], [], 0.2)[0]:
            data = b""
            with suppress(OSError):  # how Linux tells that the other side is closed
                data = os.read(self._ours, 65_536)
            self.written += data
            self._stream.feed(data)
            return bool(data)
        return True
