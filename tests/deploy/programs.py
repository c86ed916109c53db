"""Programs of others that check what deploy/ holds. A test whose program is missing is skipped, and says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import ROOT

DEPLOY = ROOT / "deploy"
FROM_NPM = Path(__file__).parent / "node_modules"
"""Where `make test-all` puts helm and kubectl, each in a folder of its name."""


def program(name: str, source: str) -> str:
    """The path of a program; `source` tells whoever has none where it comes from."""
    found = shutil.which(name, path=str(FROM_NPM / name)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: {source}")
    return found


def run(*command: str | Path, folder: Path = ROOT, text: str = "") -> str:
    """What a command prints, given `text` as its input; a status other than 0 fails the test."""
    done = subprocess.run(command, check=False, cwd=folder, input=text, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
