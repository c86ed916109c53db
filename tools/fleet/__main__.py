"""Three servers behind HAProxy on one machine, as deploy/haproxy/haproxy.cfg places them: `make fleet`.

The address is http://localhost:8000, or another port by STT_PORT; the servers listen on the three ports above it, and
HAProxy's state on the fourth. Other STT_ variables are passed on to each server.

SIGUSR1 restarts the servers one after another. A server that dies is started again. Ctrl-C drains all of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.fleet.processes import SERVERS, Fleet, FleetPorts
from tools.local_server import ServerFailed

POLL_SECONDS = 0.1
_FOR_PROXY = ("STT_HOST", "STT_PORT", "STT_TLS_CERT", "STT_TLS_KEY")
"""Settings of a single server that are the proxy's here."""


def shared_settings(environment: Mapping[str, str], cores: int) -> dict[str, str]:
    """The STT_ variables of each server: those of `environment`, and an equal part of the machine."""
    settings = {
        name: value for name, value in environment.items() if name.startswith("STT_") and name not in _FOR_PROXY
    }
    parts = {"STT_WHISPER_THREADS": str(max(1, cores // SERVERS)), "STT_VLLM_GPU_MEMORY": f"{0.9 / SERVERS:.2f}"}
    return parts | settings


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _serve(fleet: Fleet, rollouts: list[int]) -> None:
    """Keep the fleet running, until an exception. `rollouts`: signals that asked to restart all servers."""
    while True:
        if rollouts:
            _say("restarting the servers one after another")
            fleet.restart_all()
            rollouts.clear()
            _say("all servers were restarted")
        if fleet.start_dead_again():
            _say("a server had died and runs again")
        time.sleep(POLL_SECONDS)


def _introduction(fleet: Fleet, folder: str) -> str:
    servers = "\n".join(f"  {server.url}, process {server.process.pid}" for server in fleet.servers)
    return (
        f"{SERVERS} servers are behind {fleet.url}:\n{servers}\n"
        f"HAProxy shows their state on {fleet.statistics_url}, and the logs are in {folder}.\n"
        f"To restart them one after another: kill -USR1 {os.getpid()}"
    )


def run(folder: str, ports: FleetPorts, rollouts: list[int]) -> None:
    """Run the fleet until Ctrl-C, and drain it.

    Raises:
        ServerFailed: it cannot run.
        KeyboardInterrupt: a second Ctrl-C, or one before the fleet was ready; all has ended.
    """
    settings = shared_settings(os.environ, os.cpu_count() or 1)
    with Fleet(Path(folder), ports, [settings] * SERVERS, process_group=0) as fleet:
        _say(_introduction(fleet, folder))
        try:
            _serve(fleet, rollouts)
        except KeyboardInterrupt:
            _say("draining all servers")
    _say("all servers have ended")


def main() -> None:
    """Run the fleet until a signal."""
    rollouts: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: rollouts.append(number))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    ports = FleetPorts.beginning_at(int(os.environ.get("STT_PORT", "8000")))
    _say(f"starting {SERVERS} servers")
    try:
        with TemporaryDirectory(prefix="fleet-") as folder:
            run(folder, ports, rollouts)
    except ServerFailed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("ended before the drain was over")


if __name__ == "__main__":
    main()
