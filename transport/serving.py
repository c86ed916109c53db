"""Runs uvicorn on sockets that this module opens.

So errors are one sentence, the printed address is right, and the exit status is 0 after a clean stop.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import ipaddress
import multiprocessing
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from transport.websocket_protocol import SpeechWebSocketProtocol

_CLIENT_DEFAULT = "http://localhost:8000"
"""Address that `stt` uses by default."""
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


_SEGMENT_BYTES = 1460
"""Largest TCP segment, as on Ethernet, for every interface. The loopback interface has 64 KiB, with which the send
buffer of a proxy on this machine grows to 4 MB. A throttled client's ping waits behind all of it: a minute at twice
real time.
"""
_UNREAD_SECONDS = 300
"""After so long Linux drops a connection whose client takes nothing of what was sent (TCP_USER_TIMEOUT in tcp(7)).
Closed sockets and answers over HTTP would else wait for ever. A client that reads makes room for more only when a
sixteenth of its buffer is free: with 6 MB it has to read 1.3 kB/s."""


class CannotListen(Exception):
    """The server cannot listen on the address. The text is one sentence that names the setting."""


class SeveralProcesses(Exception):
    """This is one of several processes that share a socket. The text is one sentence."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """Options of uvicorn under `python app.py`."""

    host: str
    """Address or host name to listen on; `::` stands for IPv4 too."""
    port: int
    """0: any free one."""
    keep_alive_seconds: int
    """How long an idle HTTP connection stays open."""
    tls_cert: Path | None = None
    """PEM file of the certificate and its chain; None: no TLS."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    uvicorn_trusts_proxies: bool = True
    """Whether uvicorn believes X-Forwarded-For of proxies on this machine, before the application sees a request."""


def refuse_several_processes() -> None:
    """Check that uvicorn runs one process of this server.

    Raises:
        SeveralProcesses: it runs several. Each would load its own engine and have its own metrics.
    """
    # uvicorn passes its Config to the process that it starts. Nothing else distinguishes a worker from a child of the
    # reloader.
    config = getattr(multiprocessing.current_process(), "_kwargs", {}).get("config")
    if isinstance(config, uvicorn.Config) and config.workers > 1:
        raise SeveralProcesses(
            f"uvicorn --workers {config.workers} cannot be used: one process is one engine with its own metrics; start "
            "one server a port and put a proxy in front."
        )


def check_tls(options: ServingOptions) -> None:
    """Check that the certificate and its key can be used.

    Raises:
        CannotListen: they cannot.
    """
    if (options.tls_cert is None) is not (options.tls_key is None):
        raise CannotListen("STT_TLS_CERT and STT_TLS_KEY must both be set, or neither.")
    if options.tls_cert is None or options.tls_key is None:
        return
    for name, file in (("STT_TLS_CERT", options.tls_cert), ("STT_TLS_KEY", options.tls_key)):
        if not file.is_file() or not os.access(file, os.R_OK):
            raise CannotListen(f"{name} cannot be used: there is no such file, or this user may not read it.")
    try:
        # Without a password given, OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, password="")
    except (OSError, ValueError) as error:
        reason = "the key needs a password, or the two do not belong together, or they are not PEM files"
        raise CannotListen(f"STT_TLS_CERT and STT_TLS_KEY cannot be used: {reason}.") from error


def uvicorn_host(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The address on uvicorn's command line; None: another command, or uvicorn was given a socket."""
    if Path(arguments[0]).parent.name != "uvicorn" and Path(arguments[0]).name != "uvicorn":
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--host", default=environment.get("UVICORN_HOST", "127.0.0.1"))
    parser.add_argument("--uds")
    parser.add_argument("--fd")
    known, _ = parser.parse_known_args(list(arguments[1:]))
    return "localhost" if known.uds or known.fd else str(known.host)


def is_reachable(host: str) -> bool:
    """Whether other machines may reach a server on `host`."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def listen(options: ServingOptions) -> list[socket.socket]:
    """Open sockets that listen on the port at every address of the host. With port 0 all share the port that is chosen.

    Raises:
        CannotListen: the port is taken, or the host is none of this machine's addresses.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(options):
            port = sockets[0].getsockname()[1] if sockets else options.port
            dual = address == "::" and socket.has_dualstack_ipv6()
            sockets.append(socket.create_server((address, port), family=family, backlog=2048, dualstack_ipv6=dual))
            _set_tcp_option(sockets[-1], "TCP_MAXSEG", _SEGMENT_BYTES)
            _set_tcp_option(sockets[-1], "TCP_USER_TIMEOUT", _UNREAD_SECONDS * 1000)
    except OSError as error:
        for each in sockets:
            each.close()
        raise CannotListen(_sentence(options, error)) from error
    return sockets


def _set_tcp_option(listener: socket.socket, name: str, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # not every system has it
        listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _addresses(options: ServingOptions) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _sentence(options: ServingOptions, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"STT_PORT={options.port} cannot be used: the port is taken; set STT_PORT to a free one."
        case errno.EACCES | errno.EPERM:
            return f"STT_PORT={options.port} cannot be used: this user may not listen on that port."
        case _:
            return f"STT_HOST={options.host} cannot be used: it is none of this machine's addresses."


def base_url(host: str, port: int, prefix: str = "", *, tls: bool = False) -> str:
    """The URL of a server on `host`, as a client on the same machine may use it."""
    shown = "localhost" if host in _WILDCARDS else host
    return f"http{'s' if tls else ''}://{f'[{shown}]' if ':' in shown else shown}:{port}{prefix}"


def closing_lines(engine: str, url: str, root: Path, *, page: bool) -> str:
    """The text for the terminal when the server is ready: its URL, and what to try.

    `root` is the server's folder; `page`: whether the page is on. The text names the program `stt` if it is installed
    beside this Python.
    """
    lines = [f"realtime-stt-ws: the engine {engine} is ready on {url}"]
    program, recording = Path(sys.executable).parent / "stt", _shown(root / "references" / "hello.wav")
    if not program.exists():
        opened = f"Open {url}/ in a browser and speak.\n" if page else ""
        return f"{lines[0]}\n{opened}Try: curl -F file=@{recording} {url}/v1/stt/transcribe\n"
    stt, server = _shown(program), "" if url == _CLIENT_DEFAULT else f" --server {url}"
    lines += [
        f"Open {url}/ in a browser and speak, or try in another terminal:" if page else "Try in another terminal:",
        f"  {stt} stream mic{server}",
        f"  {stt} transcribe {recording} --server {url}",
        f"  {stt} doctor",
    ]
    return "\n".join(lines) + "\n"


def _shown(path: Path) -> str:
    """The path as one would type it in the working directory."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def serve(app: FastAPI, sockets: Sequence[socket.socket], options: ServingOptions) -> int:
    """Serve until a signal.

    Returns the exit status: 0 after a clean stop. Called on the main thread, which gets signals.

    uvicorn repeats the signal at its end, so that without this the status would be that of a killed process.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws=SpeechWebSocketProtocol,
            timeout_keep_alive=options.keep_alive_seconds,
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
            proxy_headers=options.uvicorn_trusts_proxies,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _after(server))
    server.run(list(sockets))
    return 1 if server.force_exit else 0


def _after(server: uvicorn.Server) -> Callable[[int, FrameType | None], None]:
    """A handler for signals before uvicorn has its own, and for those that it repeats at its end."""

    def handle(number: int, _: FrameType | None) -> None:
        if not server.started:
            sys.exit(128 + number)

    return handle
