"""Runs uvicorn on sockets of our own: refusals in one sentence, true addresses, exit status 0 after a clean stop."""

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
"""Where `stt` looks for a server that is not named."""
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


_SEGMENT_BYTES = 1460
"""The TCP segments of Ethernet, on every interface.

On the loopback interface, where a proxy is, they would have 64 KiB, and the peer's send buffer, which grows with them,
4 MB. A ping waits behind what it holds when the server holds a client back: for a minute at twice real time.
"""


class CannotListen(Exception):
    """The address cannot be listened on; the text is one plain sentence that names the setting."""


class SeveralProcesses(Exception):
    """This is one of several processes that share a socket; the text is one plain sentence."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """What `python app.py` tells uvicorn."""

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
    """Look whether uvicorn runs several processes of this server.

    Raises:
        SeveralProcesses: it does: each would load an engine of its own and have metrics of its own.
    """
    # uvicorn gives the process that it starts its Config; nothing else tells a worker from a reloader's child.
    config = getattr(multiprocessing.current_process(), "_kwargs", {}).get("config")
    if isinstance(config, uvicorn.Config) and config.workers > 1:
        raise SeveralProcesses(
            f"uvicorn --workers {config.workers} cannot be used: one process is one engine with its own metrics; start "
            "one server a port and put a proxy in front."
        )


def check_tls(options: ServingOptions) -> None:
    """Look whether certificate and key can be used.

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
        # With an empty password a key that needs one is an error, not a question on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, password="")
    except (OSError, ValueError) as error:
        reason = "the key needs a password, or the two do not belong together, or are no PEM files"
        raise CannotListen(f"STT_TLS_CERT and STT_TLS_KEY cannot be used: {reason}.") from error


def uvicorn_host(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The address that uvicorn's command line names; None: another command, or a socket that it was given."""
    if Path(arguments[0]).parent.name != "uvicorn" and Path(arguments[0]).name != "uvicorn":
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--host", default=environment.get("UVICORN_HOST", "127.0.0.1"))
    parser.add_argument("--uds")
    parser.add_argument("--fd")
    known, _ = parser.parse_known_args(list(arguments[1:]))
    return "localhost" if known.uds or known.fd else str(known.host)


def is_reachable(host: str) -> bool:
    """Whether others than this machine may reach a server on `host`."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def listen(options: ServingOptions) -> list[socket.socket]:
    """Sockets that listen on the port at every address of the host; they share one port if it is 0.

    Raises:
        CannotListen: the port is taken, or the host is none of this machine's addresses.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(options):
            port = sockets[0].getsockname()[1] if sockets else options.port
            dual = address == "::" and socket.has_dualstack_ipv6()
            sockets.append(socket.create_server((address, port), family=family, backlog=2048, dualstack_ipv6=dual))
            with contextlib.suppress(AttributeError, OSError):  # not on every system
                sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    except OSError as error:
        for each in sockets:
            each.close()
        raise CannotListen(_sentence(options, error)) from error
    return sockets


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
    """What the terminal shows when the server is ready: where it is, and what to try.

    `root` is the server's folder; `page`: whether the server has its page. The commands name the program `stt` where
    it is installed beside this Python.
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
    """The path as somebody would type it here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def serve(app: FastAPI, sockets: Sequence[socket.socket], options: ServingOptions) -> int:
    """Serve until a signal; the process's exit status. Called on the main thread, which owns the signals.

    0 after a clean stop. uvicorn sends itself the signal again at its end, so that the status would tell of a
    process that was killed.
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
