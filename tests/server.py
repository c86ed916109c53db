"""A real server in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.processes import descendants

ROOT = Path(__file__).parents[1]
WS_PROTOCOL = "transport.websocket_protocol:SpeechWebSocketProtocol"

UNLESS_GIVEN = {"STT_IDLE_SECONDS": "0"}
"""Settings of a server for which its test gives no others. By default an idle session ends after 300 s. That would hide
that nothing else ends it."""


_PORTS_OF_A_WORKER = 2_000
_FIRST_PORT = 10_000 + _PORTS_OF_A_WORKER * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 11)
"""Below the system's own ports, from 32768 on: of those, another process may be given the same one before the server
listens on it."""
_draws = itertools.count(os.getpid() * 97)
"""Another run of the tests on this machine begins elsewhere."""


def free_port() -> int:
    """A port that nothing listens on now, and that no other worker of the tests is given."""
    while True:
        port = _FIRST_PORT + next(_draws) % _PORTS_OF_A_WORKER
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(claim: Any, seconds: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401 - whatever the claim returns
    """Poll `claim()` until it is true; returns its value, or fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (value := claim()):
        assert time.monotonic() < deadline, f"never came true: {value!r}"
        time.sleep(0.01)
    return value


class Server:
    """Runs `uvicorn MODULE` until the context ends; its log is kept in `folder`.

    With `script` the module itself runs, as `python app.py`. `arguments` follow on the command line.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        module: str = "app:app",
        script: bool = False,
        wait: bool = True,
        arguments: Sequence[str] = (),
        ws: str = WS_PROTOCOL,
    ) -> None:
        self.port = free_port()
        self._wait = wait
        self._log = folder / "server.log"
        command = (
            [sys.executable, "app.py"]
            if module == "app:app"
            else [sys.executable, "-m", module.split(":", maxsplit=1)[0]]
        )
        if not script:
            command = [sys.executable, "-m", "uvicorn", module, "--host", "127.0.0.1", "--port", str(self.port)]
            command += ["--ws", ws]
            command += ["--factory"] if module != "app:app" else []
        command += arguments
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
        environment |= {"STT_HOST": "127.0.0.1", "STT_PORT": str(self.port), **UNLESS_GIVEN, **settings}
        self._out = self._log.open("wb")
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._out, stderr=self._out)

    def __enter__(self) -> Server:
        if self._wait:
            try:
                self.wait_ready()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()

    def ended(self) -> int:
        """Wait until the process has ended by itself; returns its status."""
        return self.process.wait(PATIENCE_SECONDS)

    @property
    def http(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def ws(self, **query: object) -> str:
        """URL of a connection; the required parameters have defaults."""
        parameters: dict[str, object] = {"call_id": "test", "sample_rate": 16000} | query
        return f"ws://127.0.0.1:{self.port}/v1/stt/ws?" + str(httpx.QueryParams(parameters))  # type: ignore[arg-type]

    def wait_ready(self) -> None:
        """Wait until /health says 200."""
        eventually(lambda: self.answers() == 200)

    def answers(self) -> int:
        """Status of /health; 0 while nothing listens."""
        assert self.process.poll() is None, self.output()
        try:
            return HTTP.get(f"{self.http}/health").status_code
        except httpx.TransportError:
            return 0

    @classmethod
    def with_fault(
        cls,
        folder: Path,
        fault: str,
        settings: Mapping[str, str] = MappingProxyType({}),
        *,
        script: bool = False,
        wait: bool = True,
        arguments: Sequence[str] = (),
        ws: str = WS_PROTOCOL,
    ) -> Server:
        """A server with one of the faults of tests/faulty.py; `release` ends it."""
        environment = {"STT_BACKEND": "mock", "FAULT": fault, "FAULT_FILE": str(folder / "released"), **settings}
        module = "tests.faulty:build"
        return cls(folder, environment, module=module, script=script, wait=wait, arguments=arguments, ws=ws)

    def release(self) -> None:
        """End the fault."""
        (self._log.parent / "released").touch()

    def signal(self, number: signal.Signals) -> None:
        """Send the server's process a signal."""
        self.process.send_signal(number)

    def output(self) -> str:
        """Everything it printed."""
        return self._log.read_text(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """Its JSON log lines."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def metric(self, name: str) -> float:
        """A metric's value now, with its labels if it has any; 0.0 if it was never set."""
        text = HTTP.get(f"{self.http}/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def threads(self) -> int:
        """Threads of its process."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def resident_bytes(self) -> int:
        """Resident memory of its process."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Open files of its process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def processes(self) -> set[int]:
        """Process ids of all below it."""
        return descendants(self.process.pid)
