"""The processes of a fleet: three servers, and HAProxy with deploy/haproxy/haproxy.cfg in front of them."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from tools.local_server import LOOPBACK, ROOT, LocalServer, ServerFailed, how_it_ended

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
SERVERS = 3
"""Number of servers, as in the configuration of HAProxy."""
UP_SECONDS = 600.0
"""Longest wait until the proxy has seen a server that is ready; a busy machine takes its time."""
_POLL_SECONDS = 0.25
_DIRECTORIES_OF_ROOT = "/usr/sbin:/usr/local/sbin"
"""Debian has HAProxy there, which is not on every user's path."""


class FleetFailed(ServerFailed):
    """The fleet cannot run; the text says why."""


def find_haproxy() -> str | None:
    """The path of HAProxy; None: it is not installed."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:{_DIRECTORIES_OF_ROOT}")


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """Ports on this machine."""

    proxy: int
    servers: Sequence[int]
    statistics: int

    @classmethod
    def beginning_at(cls, first: int) -> FleetPorts:
        """Return consecutive ports: of the proxy, of the servers, and of the statistics."""
        return cls(first, range(first + 1, first + 1 + SERVERS), first + 1 + SERVERS)

    @classmethod
    def free(cls) -> FleetPorts:
        """Return ports that nothing listens on now."""
        with ExitStack() as probes:
            sockets = [probes.enter_context(socket.socket()) for _ in range(SERVERS + 2)]
            for each in sockets:
                each.bind((LOOPBACK, 0))
            proxy, statistics, *servers = [int(each.getsockname()[1]) for each in sockets]
        return cls(proxy, servers, statistics)


class Fleet:
    """Servers and HAProxy while the context lasts; used on one thread at a time."""

    def __init__(
        self,
        folder: Path,
        ports: FleetPorts,
        settings: Sequence[Mapping[str, str]],
        process_group: int | None = None,
    ) -> None:
        """Take what `__enter__` starts.

        Args:
            folder: the folder of the logs.
            ports: the ports of the proxy and the servers.
            settings: the STT_ variables of each server.
            process_group: the group of the processes. None: this process's group. 0: each has its own group, so that
                Ctrl-C reaches this process alone, which drains the servers before the proxy ends.
        """
        self._folder = folder
        self._proxy_log = folder / "haproxy.log"
        self._ports = ports
        self._settings = settings
        self._process_group = process_group
        self._http = httpx.Client()
        self.url = f"http://localhost:{ports.proxy}"
        """URL of the proxy."""
        self.statistics_url = f"http://localhost:{ports.statistics}/"
        """URL of HAProxy's page with the state of the servers."""
        self.servers: list[LocalServer] = []
        self._proxy: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Fleet:
        """Start everything and wait until the proxy has seen all servers.

        Raises:
            ServerFailed: HAProxy is not here or refuses, or a server ends.
        """
        haproxy = find_haproxy()
        if haproxy is None:
            raise FleetFailed("HAProxy is needed: install it, on Debian with `apt-get install haproxy`")
        try:
            self._start(haproxy)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Drain all servers at once, then end the proxy."""
        try:
            for server in self.servers:
                server.process.terminate()
            for server in self.servers:
                server.wait_until_ended()
        finally:
            for process in [*(server.process for server in self.servers), *filter(None, [self._proxy])]:
                process.kill()
                process.wait()
            self._http.close()

    def _start(self, haproxy: str) -> None:
        for number, (port, settings) in enumerate(zip(self._ports.servers, self._settings, strict=True), 1):
            log = self._folder / f"server-{number}.log"
            self.servers.append(LocalServer(port, settings, log, process_group=self._process_group))
        for server in self.servers:
            server.wait_until_ready()
        command, environment = [haproxy, "-db", "-f", str(CONFIGURATION)], self._proxy_environment()
        with self._proxy_log.open("wb") as out:
            self._proxy = subprocess.Popen(  # noqa: S603 - found on the path
                command, env=environment, stdout=out, stderr=out, process_group=self._process_group
            )
        _wait(lambda: self.states() == ["UP"] * SERVERS)

    def _proxy_environment(self) -> dict[str, str]:
        servers = {f"SERVER_{number}": f"{LOOPBACK}:{port}" for number, port in enumerate(self._ports.servers, 1)}
        places = {
            f"SERVER_{number}_SESSIONS": settings["STT_MAX_SESSIONS"]
            for number, settings in enumerate(self._settings, 1)
            if "STT_MAX_SESSIONS" in settings
        }
        binds = {"PROXY_BIND": f":{self._ports.proxy}", "PROXY_STATISTICS": f"{LOOPBACK}:{self._ports.statistics}"}
        return {**os.environ, **servers, **places, **binds}

    @property
    def proxy_pid(self) -> int:
        """Process id of HAProxy.

        Raises:
            FleetFailed: it does not run.
        """
        if self._proxy is None:
            raise FleetFailed("HAProxy does not run")
        return self._proxy.pid

    def states(self) -> list[str]:
        """The state of each server as the proxy sees it, such as `UP`.

        Raises:
            FleetFailed: the proxy has ended.
        """
        self._check_proxy()
        try:
            text = self._http.get(f"{self.statistics_url};csv").text
        except httpx.TransportError:
            return []
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return [row["status"] for row in rows if row["pxname"] == "streams" and row["svname"] != "BACKEND"]

    def _check_proxy(self) -> None:
        if self._proxy is not None and self._proxy.poll() is not None:
            raise FleetFailed(how_it_ended("HAProxy", self._proxy, self._proxy_log))

    def restart(self, server: LocalServer, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server by the signal, start it again, and return when the proxy has seen it.

        Raises:
            ServerFailed: it does not start.
        """
        server.process.send_signal(number)
        server.wait_until_ended()
        self._start_again(server)

    def restart_all(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Restart one server after another, as a new version is rolled out.

        Raises:
            ServerFailed: one does not start.
        """
        for server in self.servers:
            self.restart(server, number)

    def start_dead_again(self) -> int:
        """Start the servers again that ended by themselves; returns how many.

        Raises:
            ServerFailed: one does not start, or the proxy has ended.
        """
        self._check_proxy()
        dead = [server for server in self.servers if not server.running]
        for server in dead:
            self._start_again(server)
        return len(dead)

    def _start_again(self, server: LocalServer) -> None:
        server.start()
        server.wait_until_ready()
        index = self.servers.index(server)
        _wait(lambda: self.states()[index : index + 1] == ["UP"])


def _wait(claim: Callable[[], bool]) -> None:
    """Return when the proxy's `claim()` is true.

    Raises:
        FleetFailed: it is false for `UP_SECONDS`.
    """
    deadline = time.monotonic() + UP_SECONDS
    while not claim():
        if time.monotonic() > deadline:
            raise FleetFailed(f"the proxy has not seen a server after {UP_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
