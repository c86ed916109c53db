"""The program that `make fleet` runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stt_client import Client, Final, StreamClosed
from tests.audio import reference, text_of
from tests.fleet.programs import needs_haproxy
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.processes import descendants, ending, runs
from tests.server import ROOT, eventually
from tools.fleet.processes import SERVERS


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _five_free_ports() -> int:
    """The first of them."""
    return next(first for first in range(21_000, 32_000, 5) if all(map(_is_free, range(first, first + 5))))


def _pids(printed: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"process (\d+)", printed)]


@needs_haproxy
@pytest.mark.slow
def test_the_fleet_restarts_what_dies_rolls_out_and_drains(folder: Path) -> None:
    """A killed server comes back, SIGUSR1 replaces every process, and Ctrl-C ends all with the last words sent."""
    log, port = folder / "fleet.log", _five_free_ports()
    environment = {**os.environ, "STT_BACKEND": "mock", "STT_PORT": str(port)}
    command = [sys.executable, "-m", "tools.fleet"]
    with (
        log.open("wb") as out,
        ending(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)) as program,
    ):
        url = f"http://localhost:{port}"
        eventually(lambda: f"servers are behind {url}" in log.read_text())
        first = _pids(log.read_text())
        assert len(first) == SERVERS

        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: "runs again" in log.read_text())
        program.send_signal(signal.SIGUSR1)
        eventually(lambda: "all servers were restarted" in log.read_text())
        family = descendants(program.pid)
        assert not [pid for pid in first if runs(pid)]
        assert HTTP.get(f"{url}/health").status_code == 200

        finals: list[Final] = []
        with Client(url, reconnect_seconds=0).stream() as stream:
            stream.send(reference("hello"))
            eventually(lambda: next(stream).type == "partial")
            program.send_signal(signal.SIGINT)
            with pytest.raises(StreamClosed, match="1012"):
                finals.extend(event for event in stream if isinstance(event, Final))
        assert [final.reason for final in finals] == ["drain"]
        assert text_of("hello").startswith(finals[0].text)
        assert program.wait(PATIENCE_SECONDS) == 0
        assert not [pid for pid in family if runs(pid)]
