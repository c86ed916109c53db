"""Checks the checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.errors import WrongDigest
from models.table import Algorithm, File

_CHUNK = 1 << 20


def digest(path: Path, algorithm: Algorithm) -> str:
    """The checksum of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    state = hashlib.sha256()
    if algorithm == "git-sha1":
        state = hashlib.sha1(usedforsecurity=False)
        state.update(b"blob %d\0" % path.stat().st_size)  # git's header of a blob
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def matches(path: Path, file: File) -> bool:
    """Whether `path` is there and is that file."""
    return path.is_file() and path.stat().st_size == file.size and digest(path, file.algorithm) == file.digest


def verify(path: Path, file: File, model: str, source: str) -> None:
    """Check a fetched file.

    Raises:
        WrongDigest: the checksum differs. The file is deleted, so that no download resumes from it.
    """
    if matches(path, file):
        return
    found = digest(path, file.algorithm) if path.is_file() else "none"
    path.unlink(missing_ok=True)
    raise WrongDigest(
        f"{file.name} of the model {model} from {source} has the {file.algorithm} sum {found} instead of "
        f"{file.digest} and was refused: run `python -m models pull {model}` again, or use another network."
    )
