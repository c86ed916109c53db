"""The model hub as a source: files at a pinned revision, resumed where a download broke off."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.digest import matches, verify
from models.errors import SourceUnavailable
from models.table import File, Model

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

NAME = "the model hub"

_TIMEOUT = 5.0
"""Seconds to connect, and between two reads, so that a hub that does not answer delays a start only briefly."""

_WANTED = ("config.json", "preprocessor_config.json", "vocabulary.*", "tokenizer.json", "model.bin")


def fetch(model: Model, part: Path, advance: Callable[[int], None]) -> tuple[File, ...]:
    """Fetch the model's files into the folder `part`. Correct files that are there are kept.

    `advance` is called with the number of bytes fetched; it is negative if a file starts again.

    Raises:
        SourceUnavailable: the hub does not answer, or does not have the model.
        WrongDigest: a file is not the one that was asked for.
        OSError: the disk refuses.
    """
    try:
        files = model.files or _listed(model)
        for file in sorted(files, key=lambda each: each.size):
            _fetch(model, file, part / file.name, advance)
    except _failures() as error:
        raise SourceUnavailable(_reason(error)) from error
    return files


def _listed(model: Model) -> tuple[File, ...]:
    """The files at the revision, with the hub's checksums."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(
        model.repository, revision=model.revision, files_metadata=True, timeout=_TIMEOUT, token=False
    )
    wanted = [
        sibling
        for sibling in info.siblings or ()
        if any(fnmatch.fnmatchcase(sibling.rfilename, pattern) for pattern in _WANTED)
    ]
    files = tuple(file for file in map(_file, wanted) if file is not None)
    if "model.bin" not in {file.name for file in files} or len(files) != len(wanted):
        raise SourceUnavailable(f"{NAME} does not list {model.repository} with its sums")
    return files


def _file(sibling: RepoSibling) -> File | None:
    if sibling.lfs is not None:
        return File(sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256)
    if sibling.blob_id is not None and sibling.size is not None:
        return File(sibling.rfilename, sibling.size, sibling.blob_id, "git-sha1")
    return None


def _fetch(model: Model, file: File, target: Path, advance: Callable[[int], None]) -> None:
    """Fetch one file. After a broken connection the download resumes, as long as bytes come."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(model.repository, file.name, revision=model.revision)
    if matches(target, file):
        advance(file.size)
        return
    advance(_size(target))
    while (have := _size(target)) < file.size:
        failure: Exception | None = None
        try:
            _append(url, target, file.size, advance)
        except _failures() as error:
            failure = error
        if _size(target) <= have:
            raise SourceUnavailable(_reason(failure)) from failure
    verify(target, file, model.name, NAME)


def _append(url: str, target: Path, limit: int, advance: Callable[[int], None]) -> None:
    """Fetch the missing bytes. A hub without range requests sends everything, and the file starts again."""
    from huggingface_hub import get_session

    have = _size(target)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        response.raise_for_status()
        if have and response.status_code != 206:
            advance(-have)
            have = 0
        with target.open("ab" if have else "wb") as out:
            for chunk in response.iter_bytes():
                have += out.write(chunk)
                advance(len(chunk))
                if have > limit:
                    return  # the checksum will be wrong


def _failures() -> tuple[type[Exception], ...]:
    """What a request may raise: the errors of the HTTP client that the library brings, and its own when offline."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    return HTTPError, ConnectionError


def _reason(error: Exception | None) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"{NAME} answers with status {status}"
    return f"{NAME} does not answer ({type(error).__name__})" if error else f"{NAME} sends only a part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
