"""The server under test: a uvicorn process of its own, and what /proc and /metrics say of it. Linux only."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
_WS_PROTOCOL = "transport.websocket_protocol"
_WS_OPTIONS = ["--ws", f"{_WS_PROTOCOL}:SpeechWebSocketProtocol"]
"""Of the server; the bare socket runs with uvicorn's defaults."""
UVICORN_OPTIONS = {
    "--loop": "uvloop",
    # A server that is stopped while another is measured misses pongs.
    "--ws-ping-timeout": "600",
    "--log-level": "warning",
}
READY_SECONDS = 180.0
STOP_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

TARGETS = {"bare": "bench.bare:app", "server": "app:app"}
"""What is measured, and its yardstick."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the server's, at one moment."""

    pid: int
    niceness: int
    cpu: float
    """User and system seconds of its own."""


class Server:
    """Runs `uvicorn MODULE` on its cores until the context ends."""

    def __init__(
        self,
        module: str,
        settings: Mapping[str, str],
        cores: Iterable[int],
        ready_seconds: float = READY_SECONDS,
        root: Path = ROOT,
    ) -> None:
        """Start it; the context's begin waits for it.

        Args:
            module: where uvicorn finds the application, or a factory named `build`.
            settings: environment variables; STT_ ones of this process are not handed on.
            cores: where it may run.
            ready_seconds: longest wait until /health says 200.
            root: the checkout that is served.
        """
        self._ready_seconds = ready_seconds
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._log = Path(self._folder.name) / "server.log"
        command = [sys.executable, "-m", "uvicorn", module, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--factory"] if module.endswith(":build") else []
        served_by_us = module != TARGETS["bare"] and (root / f"{_WS_PROTOCOL.replace('.', '/')}.py").exists()
        command += _WS_OPTIONS if served_by_us else []
        command += ["--no-access-log", *chain.from_iterable(UVICORN_OPTIONS.items())]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=root, env=environment | dict(settings), stdout=log, stderr=log
            )
        # Before the child has a thread beside its first; all later ones inherit it.
        os.sched_setaffinity(self._process.pid, set(cores))

    def __enter__(self) -> Server:
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Of the process that listens."""
        return self._process.pid

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The process that listens stands still while the context lasts, but for what is `going`."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def going(self) -> Iterator[None]:
        """A stopped process goes on while the context lasts."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """User and system time of the process and all below it, ended ones included where they were waited for."""
        ticks = 0
        for pid in _family(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                ticks += sum(map(int, _stat(pid)[11:15]))  # utime, stime, cutime, cstime
        return ticks / _TICKS

    def family(self) -> list[Member]:
        """The process, and all below it that are alive."""
        members = []
        for pid in _family(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                fields = _stat(pid)
                members.append(Member(pid, int(fields[16]), sum(map(int, fields[11:13])) / _TICKS))
        return members

    def loop_cpu_seconds(self) -> float:
        """User and system time of the main thread, which runs the event loop."""
        return sum(map(int, _stat(self.pid, f"task/{self.pid}/stat")[11:13])) / _TICKS

    def loop_waited_seconds(self) -> float:
        """Time that the main thread was ready to run and did not (run-queue wait of /proc's schedstat)."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def switches(self) -> int:
        """Times that the threads alive now went to sleep and were woken (voluntary context switches)."""
        count = 0
        for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                count += int(status.read_text().rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return count

    def rss_bytes(self) -> int:
        """Resident memory of the process that listens."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def threads(self) -> int:
        """Threads of the process that listens."""
        return int(_stat(self.pid)[17])

    def metrics(self) -> dict[str, float]:
        """All metrics by name with labels, as they are written; empty for a server without."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def _wait_ready(self) -> None:
        began = time.monotonic()
        while not self._healthy():
            if self._process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            if time.monotonic() > began + self._ready_seconds:
                raise SystemExit(f"the server was not ready after {self._ready_seconds:.0f} s")
            # Each look takes some of the time in which a core loads an engine.
            time.sleep(min(1.0, max(0.05, (time.monotonic() - began) / 20)))

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def stt_settings(backend: str, sessions: int, extra: Iterable[str] = ()) -> dict[str, str]:
    """Environment for a server with room for so many sessions; `extra` are NAME=VALUE, without STT_.

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


def silence_ms(settings: Mapping[str, str]) -> int:
    """Silence that ends an utterance under these settings."""
    return int(settings.get("STT_VAD_SILENCE_MS", "500"))


def drops(metrics: Mapping[str, float]) -> int:
    """Audio messages that the server dropped, from its metrics."""
    return round(metrics.get("stt_dropped_messages_total", 0.0))


def heard_seconds(metrics: Mapping[str, float]) -> float:
    """Seconds of live audio that the server has heard, from its metrics."""
    return metrics.get('stt_audio_seconds_total{source="websocket"}', 0.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stat(pid: int, of: str = "stat") -> list[str]:
    """Fields of /proc/PID/stat, or of one of its tasks, from `state` on: the name before may hold blanks."""
    return Path(f"/proc/{pid}/{of}").read_text().rsplit(") ", 1)[1].split()


def _family(pid: int) -> list[int]:
    """The process and all its descendants."""
    family = [pid]
    for member in family:  # grows as it goes
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                family += map(int, task.read_text().split())
    return family
