"""A server in a process of its own on this machine, as the fleet and the bench start theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
READY_SECONDS = 900.0
"""Longest wait for an engine: a model may be compiled before its first start, and a busy CPU warms up for minutes."""
STOP_SECONDS = 30.0
"""Longest wait for a drain, before SIGKILL."""
_HTTP = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))  # noqa: S501 - no TLS
"""A TLS context for each request would cost 50 ms of CPU; no connection outlives its request."""


class ServerFailed(Exception):
    """A server cannot run; the text says why."""


class LocalServer:
    """A server that comes back on the same port; used on one thread at a time."""

    def __init__(
        self,
        port: int,
        settings: Mapping[str, str],
        log: Path,
        *,
        arguments: Sequence[str] = ("app.py",),
        root: Path = ROOT,
        process_group: int | None = None,
    ) -> None:
        """Start the process.

        Args:
            port: the port on the loopback address.
            settings: environment variables. STT_ variables of this process are not passed on.
            log: the file for the output since the last start.
            arguments: the arguments of Python, for a server that takes its port from STT_PORT or UVICORN_PORT.
            root: the checkout that is served.
            process_group: the group of the process. None: this process's group. 0: a group of its own.
        """
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"
        others = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
        places = {f"{of}_HOST": LOOPBACK for of in ("STT", "UVICORN")}
        places |= {f"{of}_PORT": str(port) for of in ("STT", "UVICORN")}
        self._environment = {**others, **settings, **places}
        self._log = log
        self._arguments = arguments
        self._root = root
        self._process_group = process_group
        self.start()

    def start(self) -> None:
        """Start the process."""
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own server
                [sys.executable, *self._arguments],
                cwd=self._root,
                env=self._environment,
                stdout=out,
                stderr=out,
                process_group=self._process_group,
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether /health answers 200.

        Raises:
            ServerFailed: the process has ended.
        """
        if not self.running:
            raise ServerFailed(how_it_ended(self.url, self.process, self._log))
        try:
            return _HTTP.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False

    def wait_until_ready(self) -> None:
        """Wait until /health answers 200.

        Raises:
            ServerFailed: the process has ended, or is not ready after `READY_SECONDS`.
        """
        start = time.monotonic()
        while not self.is_ready():
            if (elapsed := time.monotonic() - start) > READY_SECONDS:
                raise ServerFailed(f"{self.url} was not ready after {READY_SECONDS:g} s")
            # Requests take time from the core that loads the engine, so their number is limited.
            time.sleep(min(1.0, max(0.05, elapsed / 20)))

    def wait_until_ended(self) -> None:
        """Wait for the end of a process that was sent a signal; SIGKILL if it takes longer than `STOP_SECONDS`."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def how_it_ended(name: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The status of a process that ended, and its last lines."""
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    return f"{name} ended with status {process.returncode}:\n{last}"
