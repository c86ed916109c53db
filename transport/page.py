"""Serves the page for browsers: each file of page/ has its own route, so that nothing in the page is inline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from observability.version import VERSION
from transport.app_context import AppContext

FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Browsers ask each time and get 304, so that after an upgrade they never mix files of two versions.
    "cache-control": "no-cache",
}


class PageFacts(BaseModel):
    """Answer of `GET /page/server.json`, for the page of this version only: what the page may offer."""

    version: str
    """The server's version."""
    backend: str
    """Name of the engine."""
    languages: list[str] | None
    """Primary subtags that the engine knows; null: any, or the engine is not loaded yet."""
    words: bool
    """Whether the engine can time words."""


class PageFiles:
    """The files of page/, read once. Used on the event loop."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = [path for path in folder.iterdir() if path.suffix in _TYPES]
        self._files = {path.name: (path.read_bytes(), path.suffix) for path in found}

    def serve(self, name: str, request: Request) -> Response:
        """Answer with the file `name`, or with 304 if the browser has it.

        Raises:
            HTTPException: there is none: 404.
        """
        if name not in self._files:
            raise HTTPException(404)
        content, suffix = self._files[name]
        headers = {**HEADERS, "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=f"{_TYPES[suffix]}; charset=utf-8")


def routes() -> list[Route]:
    """`/` and the page's own files; 404 while `app.state.page_files` is None."""
    return [
        Route("/", _index, include_in_schema=False),
        Route("/page/server.json", _facts, include_in_schema=False),
        Route("/page/{name}", _file, include_in_schema=False),
    ]


async def _index(request: Request) -> Response:
    return _files(request).serve("index.html", request)


async def _file(request: Request) -> Response:
    return _files(request).serve(request.path_params["name"], request)


async def _facts(request: Request) -> Response:
    _files(request)
    context: AppContext = request.app.state.context
    info = context.server_info()
    answer = PageFacts(
        version=VERSION,
        backend=info.backend,
        languages=None if info.languages is None else sorted(info.languages),
        words=info.has_words,
    )
    return JSONResponse(answer.model_dump(), headers={**HEADERS, "cache-control": "no-store"})


def _files(request: Request) -> PageFiles:
    files: PageFiles | None = request.app.state.page_files
    if files is None:
        raise HTTPException(404)
    return files
