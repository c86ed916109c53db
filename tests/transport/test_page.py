"""The page's routes, against a real server: its files, their headers, and what else lies at these paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.client import refused
from tests.http_client import HTTP
from tests.server import ROOT, Server

FILES = sorted((ROOT / "page").iterdir())
MOST_BYTES = 60_000


def test_the_page_is_small() -> None:
    """All its files together are under 60 kB, uncompressed."""
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_served_as_it_is(mock_server: Server, path: Path) -> None:
    """With its type, a strict policy, and 304 for a browser that has it."""
    url = f"{mock_server.http}/page/{path.name}"
    answer = HTTP.get(url)
    again = HTTP.get(url, headers={"if-none-match": answer.headers["etag"]})

    assert answer.content == path.read_bytes()
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"] == f"{kinds[path.suffix]}; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (again.status_code, again.content) == (304, b"")


def test_the_root_is_the_page(mock_server: Server) -> None:
    """`GET /` and `HEAD /`."""
    answer = HTTP.get(f"{mock_server.http}/")

    assert answer.content == (ROOT / "page" / "index.html").read_bytes()
    assert "content-security-policy" in answer.headers
    assert HTTP.head(f"{mock_server.http}/").headers["content-length"] == str(len(answer.content))


def test_nothing_in_the_page_is_inline_or_foreign() -> None:
    """All scripts and styles are files of the page, and no file names another host that a browser would ask."""
    index = (ROOT / "page" / "index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]+)"', index)
    imported = re.findall(r'from "\./([^"]+)"', "".join(path.read_text() for path in FILES if path.suffix == ".js"))

    assert {source.removeprefix("page/") for source in sources} | set(imported) <= {path.name for path in FILES}
    assert not re.search(r"<script(?! type=\"module\" src=)|<style| style=| on[a-z]+=", index)
    assert not re.findall(r"(?:https?:)?//(?!localhost)[\w-]+\.\w+", index + (ROOT / "page" / "page.css").read_text())


def test_the_page_learns_what_the_server_can(mock_server: Server) -> None:
    """The engine's name and languages, fresh each time."""
    answer = HTTP.get(f"{mock_server.http}/page/server.json")

    assert answer.json().items() >= {"backend": "mock", "languages": None, "words": False}.items()
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["app.py", "..%2fapp.py", "nothing.js"])
def test_nothing_else_is_served(mock_server: Server, name: str) -> None:
    """A name that is no file of the page is 404, with the body of every 404."""
    answer = HTTP.get(f"{mock_server.http}/page/{name}")

    assert answer.status_code == 404
    assert answer.json()["message"].startswith("there is nothing at /page/")


def test_the_websocket_paths_answer_as_before(mock_server: Server) -> None:
    """A plain request for the WebSocket's path is 426; a WebSocket at the page's path is 404."""
    assert HTTP.get(f"{mock_server.http}/v1/stt/ws").status_code == 426
    assert refused(mock_server.ws().replace("/v1/stt/ws", "/")).status_code == 404


def test_the_page_can_be_switched_off(folder: Path) -> None:
    """With STT_PAGE=false its paths are 404, and the server says nothing of it."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_PAGE": "false"}, script=True) as server:
        for path in ("/", "/page/page.js", "/page/server.json"):
            answer = HTTP.get(f"{server.http}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, 404)
        assert "browser" not in server.output()


def test_the_page_works_under_a_prefix(folder: Path) -> None:
    """Under STT_PATH_PREFIX, whether the proxy strips it or not; without the last slash the browser is led to it."""
    with Server(folder, {"STT_BACKEND": "mock", "STT_PATH_PREFIX": "/speech"}, script=True) as server:
        for path in ("/speech/", "/", "/speech/page/page.js"):
            assert HTTP.get(f"{server.http}{path}").status_code == 200
        answer = HTTP.get(f"{server.http}/speech", follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/speech/")
        assert f":{server.port}/speech/ in a browser" in server.output()
