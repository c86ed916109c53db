"""A server that does what no real one can be made to do at will: close with any code, refuse, or keep TCP open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol


@dataclass(frozen=True)
class Step:
    """What one connection gets."""

    status: int = 101
    headers: dict[str, str] = field(default_factory=dict)
    messages: Sequence[str] = ('{"type": "ready"}',)
    code: int = 1000
    keeps_tcp_open: bool = False
    """After its close frame, as proxies do."""


@dataclass
class Scripted:
    """One step for each connection; the last one repeats."""

    steps: Sequence[Step]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Text messages of all connections."""
    times: list[float] = field(default_factory=list)
    """When each connection came."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        step = self.steps[min(len(self.requests), len(self.steps) - 1)]
        self.times.append(asyncio.get_running_loop().time())
        self.writers.append(writer)
        protocol = ServerProtocol()
        try:
            while data := await reader.read(65_536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        self._answer(protocol, event, step)
                    elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        self._take(protocol, step, bytes(event.data).decode())
                writer.write(b"".join(protocol.data_to_send()))
                await writer.drain()
                if protocol.close_expected() and not step.keeps_tcp_open:
                    break
        finally:
            writer.close()

    def _answer(self, protocol: ServerProtocol, request: Request, step: Step) -> None:
        self.requests.append(request)
        if step.status == 101:
            protocol.send_response(protocol.accept(request))
            for message in step.messages:
                protocol.send_text(message.encode())
            if step.code != 1000:
                protocol.send_close(step.code)
            return
        response: Response = protocol.reject(step.status, '{"code": 0, "message": "a fact"}')
        response.headers.update(step.headers)
        protocol.send_response(response)

    def _take(self, protocol: ServerProtocol, step: Step, text: str) -> None:
        self.texts.append(text)
        if '"finish"' in text:
            protocol.send_text(b'{"type": "finished"}')
            protocol.send_close(step.code)


@asynccontextmanager
async def scripted(*steps: Step) -> AsyncIterator[Scripted]:
    """Serve the steps."""
    script = Scripted(steps)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        for writer in script.writers:
            writer.close()
