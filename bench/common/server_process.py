"""The server under test: a process of its own, and its resource use from /proc and /metrics. Linux only."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from bench.common.recordings import wav
from tests.processes import descendants
from tests.server import free_port
from tools.local_server import LocalServer, ServerFailed

ROOT = Path(__file__).parents[2]
APP = ("app.py",)  # starts the server as a user does; the port comes from the environment
HTTP_TIMEOUT_SECONDS = 1800.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server had used at one moment, or between two."""

    seconds: float  # monotonic
    cpu: float  # seconds of the process and its descendants, including ended ones that were waited for
    event_loop_cpu: float  # of these, of the main thread, which runs the event loop
    switches: int  # voluntary context switches of all living threads: how often a thread slept and was woken

    def __sub__(self, before: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))


class ServerProcess(LocalServer):
    """Runs a server on its cores until the context ends; for one thread."""

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Mapping[str, str],
        cores: Iterable[int],
        *,
        root: Path = ROOT,
        niceness: int = 0,
    ) -> None:
        """Start the process; entering the context waits until it is ready.

        Args:
            arguments: Python's arguments: `APP`, or `-m uvicorn TARGET`; the port comes from the environment.
            settings: environment variables. STT_ variables of this process are not passed on.
            cores: numbers of the cores that the server may use.
            root: the checkout that is served.
            niceness: of the server, added to that of this process.
        """
        self._folder = TemporaryDirectory(prefix="bench-")
        self._started = time.monotonic()
        super().__init__(free_port(), settings, Path(self._folder.name) / "log", arguments=arguments, root=root)
        self.pid = self.process.pid
        # At once, while the process has one thread: later threads inherit both.
        os.sched_setaffinity(self.pid, set(cores))
        os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        self.silence_ms = int(settings.get("STT_VAD_SILENCE_MS", "500"))  # that ends an utterance
        self.start_seconds = 0.0  # from the start of the process until it was ready

    def __enter__(self) -> ServerProcess:
        try:
            self.wait_until_ready()
        except ServerFailed as failure:
            self.__exit__()
            raise SystemExit(str(failure)) from failure
        except BaseException:
            self.__exit__()
            raise
        self.start_seconds = time.monotonic() - self._started
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.wait_until_ended()
        self._folder.cleanup()

    def usage(self) -> Usage:
        """What it has used up to now."""
        texts = (_read(each) for each in Path(f"/proc/{self.pid}/task").glob("*/status"))
        switches = [text.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0] for text in texts if text]
        event_loop = sum(map(int, _stat(f"{self.pid}/task/{self.pid}")[11:13])) / _TICKS
        return Usage(time.monotonic(), cpu_seconds(self.pid), event_loop, sum(map(int, switches)))

    def rss_bytes(self) -> int:
        """Resident memory of the process and its descendants; shared pages count once for each process."""
        statms = (_read(Path(f"/proc/{pid}/statm")).split() for pid in (self.pid, *descendants(self.pid)))
        return sum(int(pages[1]) for pages in statms if pages) * _PAGE

    def threads(self) -> int:
        """Number of threads of the process that listens."""
        return int(_stat(f"{self.pid}")[17])

    def metric(self, name: str) -> float:
        """A metric's value now; 0.0 without one."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def transcribe(self, pcm: bytes, language: str) -> httpx.Response:
        """Upload PCM as a WAV file and wait for the answer."""
        return httpx.post(
            f"{self.url}/v1/stt/transcribe",
            params={"language": language},
            files={"file": ("recording.wav", wav(pcm))},
            timeout=HTTP_TIMEOUT_SECONDS,
        )


def cpu_seconds(ancestor: int) -> float:
    """User and system time of a process and its descendants, including ended ones that were waited for."""
    return sum(sum(map(int, _stat(f"{pid}")[11:15])) for pid in (ancestor, *descendants(ancestor))) / _TICKS


def server_settings(backend: str, sessions: int, extra: Iterable[str] = ()) -> dict[str, str]:
    """Environment of a server that admits `sessions` connections. `extra` are NAME=VALUE, with or without STT_.

    Raises:
        SystemExit: an extra is not NAME=VALUE.
    """
    settings = {"STT_BACKEND": backend, "STT_MAX_SESSIONS": str(sessions), "STT_LOG_LEVEL": "WARNING"}
    for pair in extra:
        name, found, value = pair.partition("=")
        if not found or not re.fullmatch(r"[A-Z_]+", name):
            raise SystemExit(f"--set {pair}: NAME=VALUE is needed, as in VAD_SILENCE_MS=500")
        settings["STT_" + name.removeprefix("STT_")] = value
    return settings


def _read(file: Path) -> str:
    """Text of a file in /proc; empty if its process or thread has ended."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _stat(task: str) -> list[str]:
    """Fields of /proc/TASK/stat from `state` on (the name in front may contain blanks); empty if it has ended."""
    return _read(Path(f"/proc/{task}/stat")).rpartition(") ")[2].split()
