"""A stand-in of the model hub: a real HTTP server on localhost, with ranges, metadata and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = frozenset({"model.bin"})
"""Files in the hub's large file storage, for which it publishes SHA-256; for the others git's blob id."""


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What it serves, and what it did; one repository, whatever its name."""

    files: Mapping[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    """Other contents than the metadata promises."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """For each file the bytes after which the next answers break off, one by one."""
    refuses: set[str] = field(default_factory=set)
    """Files answered with 503."""
    silent: bool = False
    """Take connections and never answer."""
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of every request for a file."""
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            served_by = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, name: str) -> list[str | None]:
        """Range headers of the requests for a file."""
        return [range_ for path, range_ in self.requests if path.endswith(f"/{name}")]

    def metadata(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
            if name in LARGE:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": "stand/in", "sha": "0" * 40, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    served_by: Hub

    def do_GET(self) -> None:
        hub = self.served_by
        path = unquote(urlsplit(self.path).path)
        if hub.silent:
            hub.ended.wait()
        elif path.startswith("/api/models/"):
            self._answer(200, json.dumps(hub.metadata()).encode())
        elif "/resolve/" in path:
            self._file(path)
        else:
            self._answer(404, b"")

    def _file(self, path: str) -> None:
        hub = self.served_by
        name = path.rsplit("/", 1)[-1]
        hub.requests.append((path, self.headers.get("Range")))
        content = hub.served.get(name, hub.files.get(name))
        if content is None or name in hub.refuses:
            self._answer(404 if content is None else 503, b"")
            return
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self._wants_range() else 0
        body = content[start:]
        breaks = hub.breaks.get(name)
        self._answer(206 if start else 200, body, breaks.pop(0) if breaks else len(body))

    def _wants_range(self) -> bool:
        return self.served_by.ranges and "Range" in self.headers

    def _answer(self, status: int, body: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_: object) -> None:
        pass
