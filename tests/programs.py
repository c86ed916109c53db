"""Programs of others that tests run. A test whose program is missing is skipped, and says so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_DIRECTORIES_OF_ROOT = "/usr/sbin:/usr/local/sbin"
"""Debian has servers there, which are not on every user's path."""


def program(name: str, source: str, folder: Path | None = None) -> str:
    """The path of a program, sought in `folder` first; `source` tells whoever has none where it comes from."""
    folders = [str(folder)] if folder else []
    found = shutil.which(name, path=":".join([*folders, os.environ.get("PATH", ""), _DIRECTORIES_OF_ROOT]))
    if found is None:
        pytest.skip(f"{name} is not here: {source}")
    return found
