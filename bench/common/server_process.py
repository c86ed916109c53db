"""Runs the server under test in a process, and reads its resource use from /proc and /metrics. Linux only."""

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
APP = ("app.py",)  # arguments of Python that start the server as a user does; the port comes from the environment
HTTP_TIMEOUT_SECONDS = 1800.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Resource use of a server since its start, or between two moments."""

    seconds: float  # time of the reading in monotonic seconds, or the time between two readings
    cpu: float  # CPU seconds of the process and its descendants, including ended ones that were waited for
    event_loop_cpu: float  # CPU seconds of the main thread, which runs the event loop
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
            niceness: the niceness of the server, added to that of this process.
        """
        self._folder = TemporaryDirectory(prefix="bench-")
        self._started = time.monotonic()
        super().__init__(free_port(), settings, Path(self._folder.name) / "log", arguments=arguments, root=root)
        self.pid = self.process.pid
        # These are set at once, while the process has one thread: later threads inherit both.
        os.sched_setaffinity(self.pid, set(cores))
        os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        self.silence_ms = int(settings.get("STT_VAD_SILENCE_MS", "500"))  # length of the silence that ends an utterance
        self.start_seconds = 0.0  # time from the start of the process until it was ready

    def __enter__(self) -> ServerProcess:
        try:
            self.wait_until_ready()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, ServerFailed):
                raise SystemExit(str(error)) from error
            raise
        self.start_seconds = time.monotonic() - self._started
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.wait_until_ended()
        self._folder.cleanup()

    def usage(self) -> Usage:
        """Return the resource use up to now."""
        texts = (_read(each) for each in Path(f"/proc/{self.pid}/task").glob("*/status"))
        switches = [text.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0] for text in texts if text]
        event_loop = sum(map(int, _stat(f"{self.pid}/task/{self.pid}")[11:13])) / _TICKS
        return Usage(time.monotonic(), cpu_seconds(self.pid), event_loop, sum(map(int, switches)))

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and its descendants. Shared pages count once for each process."""
        statms = (_read(Path(f"/proc/{pid}/statm")).split() for pid in (self.pid, *descendants(self.pid)))
        return sum(int(pages[1]) for pages in statms if pages) * _PAGE

    def threads(self) -> int:
        """Return the number of threads of the process that listens."""
        return int(_stat(f"{self.pid}")[17])

    def metric(self, name: str) -> float:
        """Return the value of a metric; 0.0 without such a metric."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def transcribe(self, pcm: bytes, language: str) -> httpx.Response:
        """Upload PCM as a WAV file and wait for the answer."""
        return httpx.post(
            f"{self.url}/v1/stt/transcribe",
            params={"language": language},
            files={"file": ("recording.wav", wav(pcm))},
            timeout=HTTP_TIMEOUT_SECONDS,
        )


def cpu_seconds(ancestor: int) -> float:
    """Return the CPU time of a process and its descendants, including ended ones that were waited for."""
    return sum(sum(map(int, _stat(f"{pid}")[11:15])) for pid in (ancestor, *descendants(ancestor))) / _TICKS


def server_settings(backend: str, sessions: int, extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the settings of a server that admits `sessions` connections, with the `extra` ones of `--set`.

    Raises:
        SystemExit: an extra is not NAME=VALUE.
    """
    settings = {"STT_BACKEND": backend, "STT_MAX_SESSIONS": str(sessions), "STT_LOG_LEVEL": "WARNING"}
    for pair in extra:
        name, separator, value = pair.partition("=")
        if not separator or not re.fullmatch(r"[A-Z_]+", name):
            raise SystemExit(f"--set {pair}: NAME=VALUE is needed, as in VAD_SILENCE_MS=500")
        settings["STT_" + name.removeprefix("STT_")] = value
    return settings


def _read(file: Path) -> str:
    """Return the text of a file in /proc; it is empty if its process or thread has ended."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _stat(task: str) -> list[str]:
    """Return the fields of /proc/TASK/stat behind the name, which may contain blanks; none if the task has ended."""
    return _read(Path(f"/proc/{task}/stat")).rpartition(") ")[2].split()
